"""A variational autoencoder of binary images: its evidence lower bound, and the importance-weighted one.

    python -m experiments.vae --data mnist

Images are binarised at random, each pixel on with its grey value as probability: the training images anew at every
step, validation and test images once, always alike. All figures are in nats an image. Published, for MNIST binarised so
and 50 latents: −86.76 by 5,000 samples (Burda, Grosse and Salakhutdinov 2016, table 1, VAE with k = 1).
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import norm

import jann
from experiments.reporting import (
    at_least_one,
    command,
    each_seed,
    more_than_zero,
    not_negative,
    over_seeds,
    save_figures,
    show_table,
    write_results,
)
from jann.models import VAE, elbo, elbo_objective, importance_bound

PUBLISHED = {"mnist": "log p(x) −86.76 (Burda et al. 2016)"}
EPOCHS = {"digits": 300, "mnist": 40, "fashion_mnist": 40}  # about half a minute and five minutes on two cores
HIDDEN = {"digits": (128, 128), "mnist": (400, 400), "fashion_mnist": (400, 400)}


@dataclasses.dataclass(frozen=True)
class Prepare:
    """image[..., height, width, 1] of 0 .. scale -> [..., height × width]: of 0 and 1 at random, or from 0 to 1.

    Without a key nothing is drawn, for images that are prepared already.
    """

    scale: float
    binary: bool

    def __call__(self, batch: dict, key: jax.Array | None = None) -> dict:
        if key is None:
            return batch
        image = batch["image"].reshape(*batch["image"].shape[:-3], -1).astype(jnp.float32) / self.scale
        if self.binary:
            image = jax.random.bernoulli(key, image).astype(jnp.float32)
        return {**batch, "image": image}


def bounds_of(model: VAE, key: jax.Array, samples: int | None = None):
    """A `measure` for `jann.evaluate`: the ELBO and its terms, or the importance-weighted bound with `samples`."""

    def measure(params, batch):
        label = batch["label"] if model.classes else None
        if samples is None:
            return elbo(model, params, batch["image"], key, label)
        return {"importance_bound": importance_bound(model, params, batch["image"], key, samples, label)}

    return measure


def train(folder: Path, dataset, splits: dict, model: VAE, prepare: Prepare, epochs: int, batch_size: int,
          learning_rate: float, beta: float, seed: int) -> tuple[Any, dict]:  # fmt: skip
    """One seed, resumed where it was interrupted: -> (parameters, history)"""
    key = jax.random.key(seed)
    batches = jann.data.batches(dataset.train, batch_size, jax.random.fold_in(key, 1), prepare)
    steps = epochs * batches.steps_per_epoch
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.05))
    measure = bounds_of(model, jax.random.key(0))

    def validate(train_state):
        means = jann.evaluate(measure, train_state.params, splits["validation"])
        return {f"validation_{name}": value for name, value in means.items()}

    train_state, history = jann.fit(
        jann.make_step(elbo_objective(model, beta), optimizer),
        batches,
        jann.start(model, optimizer, key),
        steps,
        every=batches.steps_per_epoch * max(1, epochs // 30),
        evaluate=validate,
        folder=folder,
        model=model,
    )
    if int(train_state.step) < steps:
        raise KeyboardInterrupt
    return train_state.params, history


def main(
    data: Literal["digits", "mnist", "fashion_mnist"] = "digits",
    hidden: tuple[int, ...] | None = None,
    latent: int = 20,
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
    conditional: bool = False,
    beta: float = 1.0,
    epochs: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    importance_samples: int = 200,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a VAE and reports both bounds on the test images' log-likelihood.

    Args:
        data: The images: digits (8 × 8, comes with scikit-learn), mnist or fashion_mnist (28 × 28).
        hidden: Sizes of the encoder's layers, mirrored in the decoder; by default what suits the data.
        latent: Size of the latent variable; with 2, its plane is drawn.
        likelihood: Of binarised pixels (bernoulli), or of grey ones (gaussian, with one learned variance).
        conditional: Give the class to the encoder and the decoder.
        beta: Weight of the KL term in training; the bounds reported are without it.
        epochs: Passes over the training images; by default what suits the data.
        batch_size: Images in a step.
        learning_rate: Start of the cosine schedule (Adam).
        importance_samples: Draws for each image in the importance-weighted bound.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/vae-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(epochs=epochs, batch_size=batch_size, importance_samples=importance_samples, seeds=seeds)
    at_least_one(hidden=min(hidden or (1,)), latent=latent)
    more_than_zero(learning_rate=learning_rate)
    not_negative(beta=beta)
    hidden, epochs = HIDDEN[data] if hidden is None else hidden, EPOCHS[data] if epochs is None else epochs
    config = {name: value for name, value in locals().items() if name != "out"}
    dataset = jann.data.load(data)
    prepare = Prepare(dataset.scale, likelihood == "bernoulli")
    splits = {
        name: prepare(getattr(dataset, name), jann.fold(jax.random.key(0), name)) for name in ("validation", "test")
    }
    classes = len(dataset.classes) if conditional else 0
    model = VAE(splits["test"]["image"].shape[-1], hidden, latent, classes, likelihood)
    folder = jann.open_run(out or Path(f"runs/vae-{data}"), config)
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")

    measures = [bounds_of(model, jax.random.key(0)), bounds_of(model, jax.random.key(1), importance_samples)]

    def one(at, number):
        params, history = train(at, dataset, splits, model, prepare, epochs, batch_size, learning_rate, beta, number)
        found = [jann.evaluate(measure, params, splits["test"]) for measure in measures]
        return {name: float(value) for means in found for name, value in means.items()}, history, params

    results = each_seed(folder, seeds, seed, one)
    tests, histories, params = zip(*results, strict=True)
    row = {
        "dataset": data, "parameters": jann.count(model), "importance_samples": importance_samples,
        **{f"test_{name}": over_seeds([test[name] for test in tests]) for name in tests[0]},
        "published": PUBLISHED.get(data, "") if likelihood == "bernoulli" and not conditional else "",
    }  # fmt: skip
    write_results(folder, [row])
    figures(folder, dataset, model, params[-1], splits["test"], histories)
    show_table([row], repr(model))
    print(f"wrote {folder}; jann.load({str(folder / f'seed-{seed}')!r}) gives the first model back")


def figures(folder: Path, dataset: Any, model: VAE, params: Any, test: dict, histories: list) -> None:
    """Both terms over training, samples, reconstructions, traversals of the latents in use, and two latents' plane."""
    side, columns, key = dataset.test["image"].shape[1], 10, jax.random.key(1)
    expected = jax.jit(partial(model.expected, params))

    def pictures(flat):
        return np.clip(np.asarray(flat), 0, 1).reshape(-1, side, side)

    history = {name: np.stack([history[name] for history in histories]) for name in histories[0]}
    at = histories[0]["step"]
    terms = {
        f"{name} ({split})": sign * history[prefix + metric]
        for name, metric, sign in (("−reconstruction", "reconstruction", -1), ("KL", "kl", 1), ("−ELBO", "elbo", -1))
        for split, prefix in (("train", ""), ("validation", "validation_"))
    }
    n = len(dataset.classes) * columns
    label = np.repeat(np.arange(len(dataset.classes)), columns) if model.classes else None
    z = jax.random.normal(key, (n, model.latent))
    if model.classes:
        z = jnp.tile(z[:columns], (len(dataset.classes), 1))  # a column shares its latent, a row its class
    title = "Samples: a class in each row, a latent in each column" if model.classes else "Samples: p(x|z) of random z"
    drawn = {
        "elbo": jann.plots.curves(terms, x=at, ylabel="nats an image"),
        "samples": jann.plots.images(pictures(expected(z, label)), columns=columns, title=title),
    }

    some = {name: value[: 2 * columns] for name, value in test.items()}
    given = some["label"] if model.classes else None
    again = jnp.asarray(expected(model.encode(params, some["image"], given)[0], given))
    pairs = np.stack([some["image"].reshape(2, columns, -1), again.reshape(2, columns, -1)], 1)
    drawn["reconstructions"] = jann.plots.images(
        pictures(pairs), columns=columns, title="Test images, and below each what is decoded from its latent mean"
    )

    given = test["label"] if model.classes else None
    mean, log_variance = jax.jit(partial(model.encode, params))(test["image"], given)
    each = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).mean(0)
    used = np.argsort(-np.asarray(each))[:8]
    steps = np.linspace(-3, 3, columns)
    moved = np.tile(np.asarray(mean[0]), (len(used), columns, 1))
    moved[np.arange(len(used)), :, used] = steps
    given = np.full(moved.shape[:-1], test["label"][0]) if model.classes else None
    captions = [f"z{i} = {step:.1f}" for i in used for step in steps]
    drawn["traversals"] = jann.plots.images(
        pictures(expected(moved, given)), captions, columns, title="One latent moved, those of largest KL first"
    )
    if model.latent == 2:
        drawn |= plane(model, expected, pictures, np.asarray(mean), test["label"], dataset)
    save_figures(folder, **drawn)


def plane(model: VAE, expected, pictures, mean, labels, dataset, columns: int = 16) -> dict:
    """Test images in two latents, and what is decoded at quantiles of N(0, I) (Kingma and Welling 2014, figure 4)."""
    across = norm.ppf((np.arange(columns) + 0.5) / columns)
    places = np.stack(np.meshgrid(across, across[::-1]), -1).reshape(-1, 2).astype(np.float32)
    given = np.zeros(len(places), np.int32) if model.classes else None
    decoded = pictures(expected(places, given))
    return {
        "plane": jann.plots.images(decoded, columns=columns, title="The plane of both latents"),
        "latents": jann.plots.scatter(mean[:3000], labels[:3000], dataset.classes, "z0", "z1", "Means of test images"),
    }


if __name__ == "__main__":
    command(main)
