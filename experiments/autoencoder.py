"""Autoencoders of images beside principal components: dense, convolutional, denoising and sparse.

    python -m experiments.autoencoder --codes 2 8 32

Errors are means of squares over the pixels (which lie in 0..1) of the test images, given whole or with noise. The
baseline is the linear autoencoder of least error: as many principal components as the code has units (scikit-learn).
Sparsity of a code of n units is (√n − Σ|c| / √Σc²) / (√n − 1): 0 where all are as large, 1 where all but one are zero
(Hoyer 2004).
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.decomposition import PCA

import jann
from experiments.reporting import (
    at_least_one,
    command,
    more_than_zero,
    not_negative,
    over_seeds,
    save_figures,
    show_table,
    stoppable,
    write_results,
)
from jann.models import Autoencoder, ConvAutoencoder, absolute, sparsity

Kind = Literal["dense", "convolutional", "denoising", "sparse"]
EPOCHS = {"digits": 150, "mnist": 15, "fashion_mnist": 15}
HIDDEN = {"digits": (128, 64), "mnist": (512, 128), "fashion_mnist": (512, 128)}


@dataclasses.dataclass(frozen=True)
class Prepare:
    """image[..., height, width, 1] of 0 .. scale -> {"image", "target"} of 0 .. 1; with a key, noise on the image only.

    flat: as [..., height × width], for dense networks
    """

    scale: float
    flat: bool
    noise: float

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        image = jnp.asarray(batch["image"]).astype(jnp.float32) / self.scale
        image = image.reshape(*image.shape[:-3], -1) if self.flat else image
        if key is None or self.noise == 0:
            return {"image": image, "target": image}
        return {"image": image + self.noise * jax.random.normal(key, image.shape), "target": image}


def model_of(kind: Kind, dataset: Any, hidden: tuple[int, ...], widths: tuple[int, ...], code: int, penalty: str):
    side, _, channels = dataset.train["image"].shape[1:]
    if kind == "convolutional":
        return ConvAutoencoder(channels, side, widths, code)
    activation = jax.nn.identity
    if kind == "sparse":  # units between off and on, or those that can be exactly zero
        activation = jax.nn.sigmoid if penalty == "kl" else jax.nn.relu
    return Autoencoder(side * side * channels, hidden, code, code_activation=activation)


def main(
    data: Literal["digits", "mnist", "fashion_mnist"] = "digits",
    kinds: tuple[Kind, ...] = ("dense", "convolutional", "denoising", "sparse"),
    codes: tuple[int, ...] = (2, 16),
    hidden: tuple[int, ...] | None = None,
    widths: tuple[int, ...] = (16, 32),
    noise: float = 0.3,
    penalty: Literal["l1", "kl"] = "l1",
    penalty_weight: float = 1e-3,
    epochs: int | None = None,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seeds: int = 3,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains autoencoders and compares what they lose of test images with what principal components lose.

    Args:
        data: The images: digits (8 × 8, comes with scikit-learn), mnist or fashion_mnist (28 × 28).
        kinds: dense; convolutional; denoising (dense, trained on noisy images); sparse (dense, with a penalty).
        codes: Units of the code, each tried with every kind; with 2, their plane is drawn.
        hidden: Sizes of the dense encoder's layers, mirrored in the decoder; by default what suits the data.
        widths: Channels of the encoder's convolutions, mirrored in the decoder.
        noise: Standard deviation of the noise, in training of the denoising kind and in the noisy test of all.
        penalty: For the sparse kind: l1, the sum of units that can be exactly zero, or kl, of how often one is on from
            one in twenty (which a code that is small everywhere satisfies too).
        penalty_weight: What the penalty is multiplied by.
        epochs: Passes over the training images; by default what suits the data.
        batch_size: Images in a step.
        learning_rate: Start of the cosine schedule (Adam).
        seeds: Runs of each kind and code, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/autoencoder-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(kinds=kinds, codes=codes, epochs=epochs, batch_size=batch_size, seeds=seeds)
    at_least_one(hidden=min(hidden or (1,)), widths=min(widths or (1,)))
    more_than_zero(learning_rate=learning_rate)
    not_negative(noise=noise, penalty_weight=penalty_weight)
    hidden, epochs = HIDDEN[data] if hidden is None else hidden, EPOCHS[data] if epochs is None else epochs
    config = {name: value for name, value in locals().items() if name != "out"}
    dataset = jann.data.load(data)
    pixels = dataset.train["image"][0].size
    if not all(1 <= code <= pixels for code in codes):
        raise SystemExit(f"--codes {codes}: give from 1 to {pixels}, as many principal components as there are pixels")
    folder = jann.open_run(out or Path(f"runs/autoencoder-{data}"), config)
    print(dataset, end="\n\n")
    steps = epochs * (len(dataset.train["label"]) // batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.02))

    rows, finished, histories = [principal(dataset, code, noise) for code in codes], {}, {}
    for kind in kinds:
        for code in codes:
            model = model_of(kind, dataset, hidden, widths, code, penalty)
            prepare = Prepare(dataset.scale, kind != "convolutional", noise)
            loss = jann.objective(model, jann.regression)
            if kind == "sparse":
                loss = jann.penalised(loss, "code", sparsity if penalty == "kl" else absolute, penalty_weight)
            step = jann.make_step(loss, optimizer)  # one for all seeds, so that it compiles once
            tests, curves = [], []
            for i in range(seed, seed + seeds):
                print(f"{kind}, code {code}, seed {i}")
                place = folder / f"{kind}-{code}-seed-{i}"
                with stoppable(folder):
                    params, history = train(
                        place, dataset, model, prepare, step, optimizer, steps, batch_size, kind == "denoising", i
                    )
                tests.append(errors(model, params, dataset, prepare))
                curves.append(history)
            finished[kind, code] = model, params, prepare
            histories[kind, code] = {name: np.stack([history[name] for history in curves]) for name in curves[0]}
            found = {name: over_seeds([test[name] for test in tests]) for name in tests[0]}
            rows.append({"model": kind, "code": code, "parameters": jann.count(model), **found})

    write_results(folder, rows)
    figures(folder, dataset, finished, histories, noise)
    rows.sort(key=lambda row: row["code"])
    show_table(rows, f"{dataset.name}: mean squared error of test images, mean ± 95 % interval over {seeds} seeds")
    print(f"wrote {folder}; jann.load({str(place)!r}) gives the last model back")


def train(folder: Path, dataset, model, prepare, step, optimizer, steps, batch_size, noisy, seed) -> tuple[Any, dict]:
    """One seed, resumed where it was interrupted: -> (parameters, history)"""
    key = jax.random.key(seed)
    transform = prepare if noisy else dataclasses.replace(prepare, noise=0.0)
    batches = jann.data.batches(dataset.train, batch_size, jax.random.fold_in(key, 1), transform)
    unseen = prepare(dataset.validation)
    measure = jann.measure(model, jann.regression)

    def validate(train_state):
        return {"validation_error": jann.evaluate(measure, train_state.params, unseen)["loss"]}

    train_state, history = jann.fit(
        step, batches, jann.start(model, optimizer, key), steps, every=max(20, steps // 15), evaluate=validate,
        folder=folder, model=model, progress=False,
    )  # fmt: skip
    if int(train_state.step) < steps:
        raise KeyboardInterrupt
    return train_state.params, history


def errors(model, params, dataset, prepare) -> dict[str, float]:
    """Mean squared errors of the test images' reconstructions, from the images and from noisy ones."""
    measure = partial(jann.evaluate, jann.measure(model, jann.regression), params)
    noisy = prepare(dataset.test, jax.random.key(0))  # the same for all models
    whole = prepare(dataset.test)
    return {
        "test_error": float(measure(whole)["loss"]),
        "test_error_from_noisy": float(measure(noisy)["loss"]),
        "test_sparsity": hoyer(np.asarray(model.encode(params, whole["image"]))),
    }


def hoyer(codes: np.ndarray) -> float:
    """codes[n, units] -> mean sparsity, from 0 (all as large, as one unit is) to 1 (all but one are zero, or all)."""
    if codes.shape[1] == 1:
        return 0.0
    root, lengths = np.sqrt(codes.shape[1]), np.sqrt(np.square(codes).sum(1))
    sizes = np.divide(np.abs(codes).sum(1), lengths, out=np.ones_like(lengths), where=lengths > 0)
    return float(np.mean((root - sizes) / (root - 1)))


def components(dataset, code: int) -> PCA:
    """Principal components of the training images, flat."""
    flat = dataset.train["image"].reshape(len(dataset.train["image"]), -1) / np.float32(dataset.scale)
    return PCA(code, random_state=0).fit(flat)


def projected(pca: PCA, images: Any) -> np.ndarray:
    """Flat images -> what is left of them in the components' space."""
    return pca.inverse_transform(pca.transform(np.asarray(images))).astype(np.float32)


def principal(dataset, code: int, noise: float) -> dict:
    """The row of the baseline."""
    prepare, pca = Prepare(dataset.scale, True, noise), components(dataset, code)
    whole, noisy = prepare(dataset.test), prepare(dataset.test, jax.random.key(0))
    found = {
        "test_error": np.square(projected(pca, whole["image"]) - whole["target"]).mean(),
        "test_error_from_noisy": np.square(projected(pca, noisy["image"]) - noisy["target"]).mean(),
        "test_sparsity": hoyer(pca.transform(np.asarray(whole["image"]))),
    }
    once = {name: over_seeds([float(value)]) for name, value in found.items()}
    return {"model": "principal components", "code": code, "parameters": pca.mean_.size * (code + 1), **once}


def figures(folder: Path, dataset: Any, finished: dict, histories: dict, noise: float) -> None:
    """Errors over training; images and what each kind makes of them, whole and noisy; the plane of two-unit codes."""
    side, columns = dataset.test["image"].shape[1], 10
    some = {"image": dataset.test["image"][:columns]}
    largest = max(code for _, code in finished)
    flat, pca = Prepare(dataset.scale, True, noise), components(dataset, largest)
    key = jax.random.key(1)

    def rows_of(key):
        """The images, what principal components and each kind of the largest code make of them: (names, rows)"""
        given = flat(some, key)["image"]
        rows = {"given": given, f"{largest} principal components": projected(pca, given)}
        for (kind, code), (model, params, prepare) in finished.items():
            if code == largest:
                rows[kind] = model(params, prepare(some, key)["image"])
        pictures = [np.asarray(row).reshape(columns, side, side) for row in rows.values()]
        return ", ".join(rows), np.clip(np.concatenate(pictures), 0, 1)

    names, pictures = rows_of(None)
    _, noisy = rows_of(key)
    drawn = {
        "error": jann.plots.curves(
            {f"{kind}, code {code}": history["validation_error"] for (kind, code), history in histories.items()},
            x=next(iter(histories.values()))["step"][0], ylabel="validation error", log_y=True,
        ),
        "reconstructions": jann.plots.images(pictures, columns=columns, title=f"Rows: {names}"),
        "from_noisy": jann.plots.images(noisy, columns=columns, title=f"Rows: {names}"),
    }  # fmt: skip
    for (kind, code), (model, params, prepare) in finished.items():
        if code != 2:
            continue
        test = {name: value[:3000] for name, value in dataset.test.items()}
        found = np.asarray(model.encode(params, prepare(test)["image"]))
        drawn[f"codes_{kind}"] = jann.plots.scatter(
            found, test["label"], dataset.classes, "first unit", "second unit", f"Codes of test images, {kind}"
        )
        low, high = np.quantile(found, [0.02, 0.98], axis=0)
        across, up = np.linspace(low, high, 14).T
        places = np.stack(np.meshgrid(across, up[::-1]), -1).reshape(-1, 2).astype(np.float32)
        decoded = np.clip(np.asarray(model.decode(params, places)), 0, 1).reshape(-1, side, side)
        drawn[f"plane_{kind}"] = jann.plots.images(decoded, columns=14, title=f"The plane of both units, {kind}")
    save_figures(folder, **drawn)


if __name__ == "__main__":
    command(main)
