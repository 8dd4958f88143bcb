"""Spoken digits: a recurrent network on log-mel spectrograms of real recordings.

    python -m experiments.speech_digits                          # made-up tones, no download
    python -m experiments.speech_digits --data spoken_digits
    python -m experiments.speech_digits --data spoken_digits --held-out-speaker theo

On the Free Spoken Digit Dataset's own test recordings its authors give no table; small convolutional networks are
commonly reported at 96 to 99 %. All six speakers are also in the training recordings; with one held out, the test is of
a voice never heard, and much harder.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jann
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    each_seed,
    metric_curves,
    more_than_zero,
    not_negative,
    save_figures,
)
from experiments.sequence_training import adamw, report

WINDOW, HOP, BANDS = 256, 128, 40  # samples, samples, mel bands
INPUTS = ("frames", "frame_count")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the classifier is trained and what it hears: see `main`."""

    epochs: int
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    seconds: float = 1.0


def prepare(batch: dict, key: jax.Array | None = None, *, rate: int, seconds: float) -> dict:
    """audio[batch, time], length[batch] -> {"frames": [batch, frames, bands], "frame_count": [batch], ...}

    What is longer than `seconds` is cut. A spectrogram is brought to mean 0 and variance 1 over its valid frames, so
    that loudness does not matter. With a key: moved in time, made noisy, strips of time and frequency blanked.
    """
    samples = int(seconds * rate)
    audio = batch["audio"][:, :samples]
    audio = jnp.pad(audio, ((0, 0), (0, samples - audio.shape[1]))).astype(jnp.float32) / 32768
    length = jnp.clip(batch["length"], WINDOW, samples)
    if key is not None:
        most = rate // 20
        audio = jann.data.random_shift(audio, jax.random.fold_in(key, 0), most)
        length = jnp.minimum(length + most, samples)
        loudness = jnp.sqrt(jnp.square(audio).sum(1) / length)
        level = 10 ** jax.random.uniform(jax.random.fold_in(key, 1), loudness.shape, minval=-3.0, maxval=-1.0)
        audio = audio + (loudness * level)[:, None] * jax.random.normal(jax.random.fold_in(key, 2), audio.shape)
    frames = jann.data.log_mel(audio, rate, WINDOW, HOP, BANDS)
    count = jann.data.frame_count(length, WINDOW, HOP)
    valid = (jnp.arange(frames.shape[1])[None, :] < count[:, None])[..., None]
    numbers = BANDS * count[:, None, None]
    mean = (frames * valid).sum((1, 2), keepdims=True) / numbers
    deviation = jnp.sqrt((jnp.square(frames - mean) * valid).sum((1, 2), keepdims=True) / numbers)
    frames = (frames - mean) / (deviation + 1e-3) * valid
    if key is not None:
        frames = jann.data.random_mask(frames, jax.random.fold_in(key, 3), axis=1, most=6)
        frames = jann.data.random_mask(frames, jax.random.fold_in(key, 4), axis=2, most=6)
    return {"frames": frames, "frame_count": count, "label": batch["label"]}


def train_one(folder: Path, dataset: Any, model: jann.Model, recipe: Recipe, seed: int) -> tuple[float, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (test accuracy, history, parameters)."""
    key = jax.random.key(seed)
    transform = partial(prepare, rate=dataset.rate, seconds=recipe.seconds)
    train, validation, test = (
        {name: split[name] for name in ("audio", "length", "label")}
        for split in (dataset.train, dataset.validation, dataset.test)
    )
    batches = jann.data.batches(train, recipe.batch_size, jax.random.fold_in(key, 1), transform)
    steps = recipe.epochs * batches.steps_per_epoch
    optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay, steps)
    measure = partial(jann.evaluate, jann.measure(model, inputs=INPUTS), size=100, transform=transform)

    def validate(train_state):
        means = measure(jann.eval_params(train_state), validation)
        return {f"validation_{name}": value for name, value in means.items()}

    train_state, history = jann.fit(
        jann.make_step(jann.objective(model, inputs=INPUTS), optimizer, average=0.98),
        batches, jann.start(model, optimizer, key, average_weights=True), steps,
        every=batches.steps_per_epoch, evaluate=validate, folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < steps:
        raise KeyboardInterrupt
    params = jann.eval_params(train_state)
    return float(measure(params, test)["accuracy"]), history, params


def figures(folder: Path, dataset: Any, model: jann.Model, params: Any, recipe: Recipe, histories: list) -> None:
    """Learning curves over seeds; for one model its confusions, what it heard and what it took for something else."""
    transform = partial(prepare, rate=dataset.rate, seconds=recipe.seconds)
    heard = jax.jit(transform)({name: dataset.test[name] for name in ("audio", "length", "label")})
    labels, said = dataset.test["label"], np.argmax(jax.jit(model)(params, *(heard[name] for name in INPUTS)), -1)
    heard = jax.device_get(heard)

    def panels(rows, caption):
        return {caption(i): heard["frames"][i, : heard["frame_count"][i]] for i in rows}

    def name(i):
        return f"{dataset.classes[labels[i]]}, {dataset.speakers[dataset.test['speaker'][i]]} ({i})"

    draw = partial(
        jann.plots.spectrograms, seconds_per_frame=HOP / dataset.rate,
        hertz=jann.data.mel_edges(dataset.rate, BANDS)[1:-1], label="log power, standardised",
    )  # fmt: skip
    first = [int(np.flatnonzero(labels == label)[0]) for label in range(min(10, len(dataset.classes)))]
    wrong = np.flatnonzero(said != labels)[:8]
    drawn = {
        "accuracy": metric_curves(
            histories, {"train (augmented)": "accuracy", "validation": "validation_accuracy"},
            x=np.arange(1, len(histories[0]["step"]) + 1), xlabel="epoch", ylabel="accuracy",
        ),
        "confusion": jann.plots.confusion_matrix(labels, said, dataset.classes),
        "spectrograms": draw(panels(first, name)),
    }  # fmt: skip
    if len(wrong):
        drawn["mistakes"] = draw(panels(wrong, lambda i: f"{name(i)} taken for {dataset.classes[said[i]]}"))
    save_figures(folder, **drawn)


def run(out: Path, dataset: Any, model: jann.Model, recipe: Recipe, seeds: int, seed: int) -> None:
    """Trains `seeds` classifiers, each in a folder of its own in `out`; reports on all of them."""
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": dataset.name})
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")
    results = each_seed(folder, seeds, seed, lambda at, number: train_one(at, dataset, model, recipe, number))
    accuracies, histories, params = zip(*results, strict=True)
    figures(folder, dataset, model, params[-1], recipe, histories)
    row = {"dataset": dataset.name, "model": repr(model), "parameters": jann.count(model)}
    published = "96-99 % small CNNs, as commonly reported" if dataset.name == "spoken_digits" else "none"
    report(folder, f"{dataset.name}: {model!r}", row, {"test_accuracy": accuracies}, published)


def main(
    data: Literal["synthetic_tones", "spoken_digits"] = "synthetic_tones",
    held_out_speaker: str | None = None,
    cell: Literal["gru", "lstm", "rnn"] = "gru",
    hidden: int = 96,
    layers: int = 2,
    dropout: float = 0.3,
    epochs: int = 20,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.02,
    seconds: float = 1.0,
    seeds: int = 3,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a bidirectional recurrent classifier of short recordings and reports its test accuracy.

    Args:
        data: Made-up tones, which need no download, or spoken digits.
        held_out_speaker: Test on all recordings of this speaker instead, and train on none of them.
        cell: The recurrent cell.
        hidden: Features of its carry in each direction.
        layers: Cells on top of each other.
        dropout: Rate between layers and before the logits.
        epochs: Passes over the training recordings.
        batch_size: Recordings in a step.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        seconds: What is longer is cut; of the 3,000 spoken digits 20 are longer than a second.
        seeds: How many classifiers, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/speech_digits-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(epochs=epochs, batch_size=batch_size, seeds=seeds)
    at_least_one(hidden=hidden, layers=layers)
    more_than_zero(learning_rate=learning_rate, seconds=seconds)
    not_negative(weight_decay=weight_decay)
    below_one(dropout=dropout)
    dataset = jann.data.load(data)
    if held_out_speaker is not None:
        dataset = dataset.hold_out(held_out_speaker)
    model = jann.models.SequenceClassifier(BANDS, len(dataset.classes), hidden, layers, cell, True, dropout)
    recipe = Recipe(epochs, batch_size, learning_rate, weight_decay, seconds)
    run(out or Path(f"runs/speech_digits-{data}"), dataset, model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
