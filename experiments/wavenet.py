"""WaveNet: raw sound, one sample after another, conditioned on what is to be heard.

    python -m experiments.wavenet                        # made-up tones, no download
    python -m experiments.wavenet --data spoken_digits

A small model of 8 kHz sound in 256 mu-law levels. The loss is in nats a sample over the beginnings of the test
recordings, beside that of always foretelling how often each level occurs in those of the training recordings. There is
no published figure for so small a model and these recordings.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from experiments.reporting import (
    at_least_one,
    command,
    each_seed,
    metric_curves,
    more_than_zero,
    not_negative,
    save_figures,
)
from experiments.sequence_training import adamw, report
from jann.generation import sample

LEVELS = 256


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: see `main`."""

    steps: int
    batch_size: int = 8
    length: int = 2048
    learning_rate: float = 3e-3
    weight_decay: float = 0.0


def windowed(batch: dict, key: jax.Array | None = None, *, length: int) -> dict:
    """audio[batch, time], length[batch] -> {"inputs", "targets": [batch, length] levels, "valid": the same, "label"}

    A window anywhere in the recording; without a key, its beginning. One sample of silence precedes each recording.
    """
    audio = jnp.pad(batch["audio"], ((0, 0), (1, length)))
    latest = jnp.maximum(batch["length"] - length, 0)
    starts = jnp.zeros_like(latest) if key is None else jax.random.randint(key, latest.shape, 0, latest + 1)
    cut = jax.vmap(lambda row, start: jax.lax.dynamic_slice(row, (start,), (length + 1,)))(audio, starts)
    levels = jann.data.mu_law_encode(cut, LEVELS)
    valid = starts[:, None] + jnp.arange(length)[None, :] < batch["length"][:, None]
    return {"inputs": levels[:, :-1], "targets": levels[:, 1:], "valid": valid, "label": batch["label"]}


def measure(params: Any, batch: dict, *, model: jann.Model) -> dict:
    """{"nll": (sums over a recording's valid samples, how many)}, each [batch]"""
    logits = model(params, batch["inputs"], batch["label"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
    return {"nll": ((losses * batch["valid"]).sum(-1), batch["valid"].sum(-1).astype(jnp.float32))}


def next_sample(params: Any, batch: dict, key: jax.Array, extra: Any, model: jann.Model) -> tuple:
    """The loss of `make_step`: the mean over all valid samples of the batch."""
    sums, samples = measure(params, batch, model=model)["nll"]
    return sums.sum() / samples.sum(), ({}, extra)


def train_one(folder: Path, dataset: Any, model: jann.Model, recipe: Recipe, seed: int) -> tuple[float, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (test loss, history, parameters)."""
    key = jax.random.key(seed)
    transform = partial(windowed, length=recipe.length)
    train, validation, test = (
        {name: split[name] for name in ("audio", "length", "label")}
        for split in (dataset.train, dataset.validation, dataset.test)
    )
    batches = jann.data.batches(train, recipe.batch_size, jax.random.fold_in(key, 1), transform)
    optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay, recipe.steps)
    evaluate = partial(jann.evaluate, partial(measure, model=model), size=20, transform=transform)

    def validate(train_state):
        return {"validation_nll": evaluate(jann.eval_params(train_state), validation)["nll"]}

    train_state, history = jann.fit(
        jann.make_step(partial(next_sample, model=model), optimizer, average=0.98),
        batches, jann.start(model, optimizer, key, average_weights=True), recipe.steps,
        every=-(-recipe.steps // 10), evaluate=validate, folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < recipe.steps:
        raise KeyboardInterrupt
    params = jann.eval_params(train_state)
    return float(evaluate(params, test)["nll"]), history, params


def of_frequencies(dataset: Any, length: int) -> float:
    """The test loss of foretelling each level as often as it occurs in the beginnings of the training recordings."""

    cut = jax.jit(partial(windowed, length=length))

    def counts(split):
        batch = cut({name: split[name] for name in ("audio", "length", "label")})
        return np.bincount(np.asarray(batch["targets"])[np.asarray(batch["valid"])], minlength=LEVELS)

    train, test = counts(dataset.train) + 1, counts(dataset.test)  # no level is impossible
    shares = train / train.sum()
    return float(-(test * np.log(shares)).sum() / test.sum())


def speak(model: jann.Model, params: Any, samples: int, key: jax.Array) -> np.ndarray:
    """One recording of each class -> float32[classes, samples], all at once, as one compiled scan."""
    labels = jnp.arange(model.classes)
    silence = jann.data.mu_law_encode(jnp.zeros((model.classes, 1)), LEVELS)

    @jax.jit
    def draw(params, key):
        def step(levels, state):
            return model.apply(params, levels, labels, state=state)

        return sample(step, silence, samples, key)

    params = {**params, "blocks": jann.unstacked(params["blocks"])}
    return np.asarray(jann.data.mu_law_decode(draw(params, key), LEVELS))


def listen(folder: Path, dataset: Any, model: jann.Model, params: Any, seconds: float, key: jax.Array) -> None:
    """Writes a .wav of each class, and a picture of a few beside test recordings."""
    samples = int(seconds * dataset.rate)
    spoken = speak(model, params, samples, key)
    real = np.pad(dataset.test["audio"], ((0, 0), (0, samples)))[:, :samples]
    spectrograms = jax.jit(partial(jann.data.log_mel, rate=dataset.rate))
    panels = {}
    for label, name in enumerate(dataset.classes):
        jann.data.write_wav(folder / f"sample_{name.replace(' ', '_')}.wav", spoken[label], dataset.rate)
        if label < 4:
            row = int(np.flatnonzero(dataset.test["label"] == label)[0])
            panels[f"{name}: test recording"] = np.asarray(spectrograms(real[row]))
            panels[f"{name}: drawn"] = np.asarray(spectrograms(spoken[label]))
    middles = jann.data.mel_edges(dataset.rate, 40)[1:-1]
    save_figures(folder, samples=jann.plots.spectrograms(panels, 80 / dataset.rate, middles))


def run(
    out: Path, dataset: Any, model: jann.Model, recipe: Recipe, seeds: int, seed: int, seconds: float = 0.5
) -> None:
    """Trains `seeds` models, each in a folder of its own in `out`; reports on all of them, and listens to one."""
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": dataset.name})
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")
    results = each_seed(folder, seeds, seed, lambda at, number: train_one(at, dataset, model, recipe, number))
    losses, histories, params = zip(*results, strict=True)
    metrics = {"train (anywhere)": "loss", "validation (beginnings, averaged weights)": "validation_nll"}
    save_figures(folder, loss=metric_curves(histories, metrics, ylabel="nats a sample", title=dataset.name))
    listen(folder, dataset, model, params[0], seconds, jax.random.key(seed))
    row = {
        "dataset": dataset.name,
        "model": repr(model),
        "parameters": jann.count(model),
        "nll_of_frequencies": of_frequencies(dataset, recipe.length),
    }
    report(folder, f"{dataset.name}: {model!r}", row, {"test_nll": losses}, "none")


def main(
    data: Literal["synthetic_tones", "spoken_digits"] = "synthetic_tones",
    residual: int = 32,
    skip: int = 64,
    depth: int = 10,
    steps: int = 2000,
    batch_size: int = 8,
    length: int = 2048,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.0,
    seconds: float = 0.5,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a small WaveNet and draws sound from it.

    Args:
        data: Made-up tones, which need no download, or spoken digits.
        residual: Channels between the blocks.
        skip: Channels of the sum over the blocks.
        depth: Blocks; each looks back twice as far as the one before.
        steps: Updates.
        batch_size: Recordings in a step.
        length: Samples of each.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        seconds: How long the drawn sound is.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/wavenet-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(depth=depth, steps=steps, batch_size=batch_size, length=length, seeds=seeds)
    at_least_one(residual=residual, skip=skip)
    more_than_zero(learning_rate=learning_rate, seconds=seconds)
    not_negative(weight_decay=weight_decay)
    dataset = jann.data.load(data)
    if seconds * dataset.rate < 1:
        raise SystemExit(f"--seconds {seconds:g}: less than one of {dataset.rate} samples a second")
    dilations = tuple(2**i for i in range(depth))
    model = jann.models.WaveNet(LEVELS, dilations, residual, skip, classes=len(dataset.classes))
    recipe = Recipe(steps, batch_size, length, learning_rate, weight_decay)
    run(out or Path(f"runs/wavenet-{data}"), dataset, model, recipe, seeds, seed, seconds)


if __name__ == "__main__":
    command(main)
