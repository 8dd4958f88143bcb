"""Images by class from noise: diffusion or flow matching, with a diffusion transformer or a U-Net.

    python -m experiments.diffusion --data mnist --guidance 1 2

Judged by a classifier that was trained apart (`experiments.generated_images`): the share of images that it takes for
what was asked, and the Fréchet distance to real images in its features, beside that between two halves of real images.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from experiments.generated_images import judge_beside
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    each_seed,
    given,
    metric_curves,
    more_than_zero,
    not_negative,
    over_seeds,
    save_figures,
    show_table,
    write_results,
)
from experiments.schedules import warmup_cosine
from jann import diffusion
from jann.models import DiT, UNet


@dataclasses.dataclass(frozen=True)
class Size:
    """What fits a data set, where the command line does not say.

    Takes about two minutes (digits) and twenty (28 × 28) on two cores.
    """

    embed: int
    depth: int
    patch: int
    steps: int
    batch_size: int
    samples: int


SIZES = {
    "digits": Size(embed=96, depth=3, patch=2, steps=4000, batch_size=64, samples=1000),
    "mnist": Size(embed=128, depth=4, patch=4, steps=4000, batch_size=64, samples=2000),
}
SIZES["fashion_mnist"] = SIZES["mnist"]
SCHEDULES = {"linear": diffusion.linear_schedule, "cosine": diffusion.cosine_schedule}


@dataclasses.dataclass(frozen=True)
class Process:
    """How noise is added to images and undone: a hashable value, so that programs are compiled once for it.

    A model takes times of 0 to about 1000 and labels, of which `null` says that nothing is asked.
    """

    kind: str
    schedule: diffusion.Schedule
    prediction: str
    min_snr: float | None
    null: int

    def loss(self, model, params, batch, key):
        """batch of images [batch, ...] in -1 .. 1 with labels -> loss of each [batch]"""
        labels = diffusion.drop_labels(batch["label"], self.null, 0.1, jann.fold(key, "labels"))

        def predict(x, t):
            return model(params, x, t * 1000 if self.kind == "flow" else t, labels)

        if self.kind == "flow":
            return diffusion.flow_loss(predict, batch["image"], key)
        return diffusion.diffusion_loss(predict, batch["image"], key, self.schedule, self.prediction, self.min_snr)

    def sample(self, predict, noise, key, sampler, steps, trajectory):
        """Noise [n, ...] -> images [n, ...] in -1 .. 1; with `trajectory` also those after each step [steps, n, ...]"""
        if self.kind == "flow":
            follow = {"euler": diffusion.euler, "heun": diffusion.heun}[sampler]
            return follow(lambda x, t: predict(x, t * 1000), noise, diffusion.flow_times(steps), trajectory)
        options = {"steps": steps, "prediction": self.prediction, "clip": 1.0, "trajectory": trajectory}
        if sampler == "ddpm":
            return diffusion.ddpm(predict, noise, self.schedule, key, **options)
        return diffusion.ddim(predict, noise, self.schedule, clip_noise=True, **options)


def to_signed(batch: dict, key: jax.Array | None = None, scale: float = 255.0) -> dict:
    """image of 0 .. scale -> -1 .. 1"""
    return {**batch, "image": batch["image"].astype(jnp.float32) * (2 / scale) - 1}


def trainer(
    dataset: Any, model: jann.Model, process: Process, steps: int, batch_size: int, learning_rate: float, average: float
) -> Callable[[Path, int], tuple[Any, dict]]:
    """-> train(folder, seed) -> (averaged parameters, history); what it compiles serves all seeds"""
    transform = partial(to_signed, scale=dataset.scale)
    schedule = warmup_cosine(learning_rate, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, mask=jann.decay_mask(model)))

    def loss(params, batch, key, extra=None):
        return process.loss(model, params, batch, key).mean(), ({}, extra)

    @jax.jit
    def unseen_loss(params, batch):
        return process.loss(model, params, batch, jax.random.key(0)).mean()  # always the same noise

    step = jann.make_step(loss, optimizer, average=average)
    unseen = transform({name: values[:1000] for name, values in dataset.validation.items()})

    def train(folder: Path, seed: int) -> tuple[Any, dict]:
        """One seed, resumed where it was interrupted."""
        key = jax.random.key(seed)
        train_state, history = jann.fit(
            step,
            jann.data.batches(dataset.train, batch_size, jax.random.fold_in(key, 1), transform),
            jann.start(model, optimizer, key, average_weights=True),
            steps,
            every=max(1, steps // 20),
            evaluate=lambda train_state: {"validation_loss": unseen_loss(jann.eval_params(train_state), unseen)},
            folder=folder,
            model=model,
        )
        if int(train_state.step) < steps:
            raise KeyboardInterrupt
        return jann.eval_params(train_state), history

    return train


@partial(jax.jit, static_argnames=("model", "process", "guidance", "sampler", "steps", "trajectory"))
def sample(params, noise, labels, key, *, model, process, guidance, sampler, steps, trajectory=False):
    """noise[n, ...], labels[n] -> images [n, ...] in 0 .. 1, as `Process.sample`; one compiled program"""
    predict = diffusion.guided(partial(model, params), labels, process.null, guidance)
    images = process.sample(predict, noise, key, sampler, steps, trajectory)
    return jax.tree.map(lambda x: jnp.clip(x / 2 + 0.5, 0, 1), images)


def sample_all(params, shape, labels, key, size: int = 250, **options) -> np.ndarray:
    """labels[n] -> images [n, *shape], `size` at a time"""
    images = []
    for i in range(0, len(labels), size):
        part = jax.random.fold_in(key, i)
        noise = jax.random.normal(jann.fold(part, "start"), (size, *shape))
        asked = np.resize(labels[i : i + size], size)  # the last part is filled up, so that nothing compiles again
        images.append(np.asarray(sample(params, noise, asked, jann.fold(part, "steps"), **options)))
    return np.concatenate(images)[: len(labels)]


def main(
    data: Literal["digits", "mnist", "fashion_mnist"] = "digits",
    backbone: Literal["dit", "unet"] = "dit",
    process: Literal["ddpm", "flow"] = "ddpm",
    prediction: Literal["noise", "x0", "v"] = "v",
    schedule: Literal["linear", "cosine"] = "cosine",
    min_snr: float | None = None,
    guidance: tuple[float, ...] = (1.0, 2.0),
    sampler: Literal["ddpm", "ddim", "euler", "heun"] | None = None,
    sampler_steps: int = 30,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 2e-3,
    average: float = 0.999,
    embed: int | None = None,
    depth: int | None = None,
    samples: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a conditional generator of images and has its samples judged.

    Args:
        data: The images: digits (8 × 8, comes with scikit-learn), mnist or fashion_mnist (28 × 28).
        backbone: A diffusion transformer, or a U-Net (whose convolutions are slow on a CPU).
        process: Diffusion (ddpm) or flow matching (flow), which has no prediction and schedule to choose.
        prediction: What the network says of a noisy image: its noise, the image, or the velocity between both.
        schedule: How noise grows over 1000 steps.
        min_snr: Limit of the weight by signal-to-noise ratio (5 is usual); by default all steps weigh the same.
        guidance: Weights of classifier-free guidance, each judged; 1 is none.
        sampler: ddpm or ddim (the default) for diffusion, euler or heun (the default) for flow matching.
        sampler_steps: Steps of the sampler; heun looks twice in each.
        steps: Training steps; by default what suits the data.
        batch_size: Images in a step.
        learning_rate: Peak of the warm-up (5 % of the steps) and cosine schedule (AdamW).
        average: Decay of the running average of the weights, which is what samples.
        embed: Width of the transformer, or of the U-Net's first level.
        depth: Blocks of the transformer, or residual blocks in each level of the U-Net.
        samples: Images judged.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/diffusion-DATA. The same command goes on with an interrupted run.
    """
    config = {name: value for name, value in locals().items() if name != "out"}
    own = {"embed": embed, "depth": depth, "steps": steps, "batch_size": batch_size, "samples": samples}
    at_least_one(**own, guidance=guidance, sampler_steps=sampler_steps, seeds=seeds)
    more_than_zero(learning_rate=learning_rate, min_snr=min_snr)
    for strength in guidance:
        not_negative(guidance=strength)
    below_one(average=average)
    if samples == 1:
        raise SystemExit("--samples 1: they are judged by their covariance, give 2 or more")
    sampler = sampler or ("heun" if process == "flow" else "ddim")
    if (sampler in ("euler", "heun")) != (process == "flow"):
        raise SystemExit(f"--sampler {sampler} is not for --process {process}")
    size = SIZES[data] if backbone == "dit" else dataclasses.replace(SIZES[data], embed=32, depth=1)
    size = dataclasses.replace(size, **given(**own))
    dataset = jann.data.load(data)
    model = model_of(backbone, dataset, size)
    null = len(dataset.classes)
    noising = Process(process, SCHEDULES[schedule](), prediction, min_snr, null)
    folder = jann.open_run(out or Path(f"runs/diffusion-{data}"), {**config, **dataclasses.asdict(size)})
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")
    train = trainer(dataset, model, noising, size.steps, size.batch_size, learning_rate, average)
    options = {"model": model, "process": noising, "sampler": sampler, "steps": sampler_steps}
    shape = dataset.train["image"].shape[1:]
    judge = judge_beside(folder, dataset)

    def one(at, number):
        params, history = train(at, number)
        key, asked = jann.fold(jax.random.key(number), "samples"), judge.asked(size.samples)
        found = [
            judge.score(sample_all(params, shape, asked, key, guidance=weight, **options), asked)
            for weight in guidance
        ]  # fmt: skip
        return found, history, params

    results = each_seed(folder, seeds, seed, one)
    scores, histories, params = zip(*results, strict=True)
    rows = [
        {
            "dataset": data, "process": process, "backbone": backbone, "guidance": weight,
            "parameters": jann.count(model), "samples": size.samples, "judge_accuracy_on_real": judge.accuracy,
            **{f"test_{name}": over_seeds([score[j][name] for score in scores]) for name in scores[0][j]},
        }
        for j, weight in enumerate(guidance)
    ]  # fmt: skip
    write_results(folder, rows)
    figures(folder, dataset, params[-1], histories, {**options, "guidance": guidance[-1]})
    show_table(rows, f"{model!r}, {sampler_steps} steps of {sampler}")
    print(f"wrote {folder}; jann.load({str(folder / f'seed-{seed}')!r}) gives the first model back")


def model_of(backbone: str, dataset: Any, size: Size) -> jann.Model:
    height, _, channels = dataset.train["image"].shape[1:]
    labels = len(dataset.classes) + 1  # and none
    if backbone == "dit":
        heads = max(1, size.embed // 32)
        return DiT(height, channels, size.patch, size.embed, size.depth, heads, classes=labels)
    widths = (size.embed, 2 * size.embed) if height < 28 else (size.embed, 2 * size.embed, 2 * size.embed)
    last = (len(widths) - 1,)
    return UNet(channels, channels, widths, size.depth, last, head=32, groups=8, classes=labels)


def figures(folder: Path, dataset: Any, params: Any, histories: list, options: dict) -> None:
    """Samples of each class, how some came out of the noise, and the loss."""
    classes, columns, key = len(dataset.classes), 10, jax.random.key(1)
    labels = np.repeat(np.arange(classes), columns)
    noise = jax.random.normal(key, (len(labels), *dataset.train["image"].shape[1:]))
    images, states = sample(params, noise, labels, key, trajectory=True, **options)
    shown = np.unique(np.linspace(0, len(states) - 1, columns - 1).round().astype(int))
    path = np.stack([np.clip(noise[::columns] / 2 + 0.5, 0, 1), *states[shown, ::columns]], 1)
    captions = ["noise", *(f"step {i + 1}" for i in shown)] * classes
    real = [dataset.train["image"][dataset.train["label"] == label][:columns] for label in range(classes)]
    weight = options["guidance"]
    save_figures(
        folder,
        samples=jann.plots.images(np.asarray(images), columns=columns, title=f"Samples, guidance {weight:g}"),
        real=jann.plots.images(np.concatenate(real) / dataset.scale, columns=columns, title="Real images"),
        denoising=jann.plots.images(
            np.concatenate(path), captions, len(shown) + 1, title=f"From noise to image, guidance {weight:g}"
        ),
        loss=metric_curves(
            histories, {"train": "loss", "validation (averaged weights)": "validation_loss"},
            ylabel="mean squared error", log_y=True,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
