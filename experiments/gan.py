"""Images by class from noise: a conditional DCGAN.

    python -m experiments.gan --data mnist

Judged by a classifier that was trained apart (`experiments.generated_images`): the share of images that it takes for
what was asked, and the Fréchet distance to real images in its features, beside that between two halves of real images.
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
from experiments.diffusion import to_signed
from experiments.generated_images import Judge, judge_beside
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
from jann.models import Discriminator, Generator


@dataclasses.dataclass(frozen=True)
class Size:
    """What fits a data set, where the command line does not say.

    Takes about a minute (digits) and twelve (28 × 28) on two cores.
    """

    epochs: int
    batch_size: int
    samples: int


SIZES = {"digits": Size(200, 64, 1000), "mnist": Size(10, 64, 5000)}
SIZES["fashion_mnist"] = SIZES["mnist"]


@partial(jax.jit, static_argnums=0)
def generate(generator: Generator, params: Any, z: jax.Array, labels: jax.Array) -> jax.Array:
    """z[n, latent], labels[n] -> images [n, ...] in 0 .. 1"""
    return jnp.clip(generator(params, z, labels) / 2 + 0.5, 0, 1)


def generate_all(generator: Generator, params: Any, labels: np.ndarray, key: jax.Array, size: int = 500) -> np.ndarray:
    """labels[n] -> images [n, ...] in 0 .. 1, `size` at a time"""
    images = []
    for i in range(0, len(labels), size):
        z = jax.random.normal(jax.random.fold_in(key, i), (size, generator.latent))
        asked = np.resize(labels[i : i + size], size)  # the last part is filled up, so that nothing compiles again
        images.append(np.asarray(generate(generator, params, z, asked)))
    return np.concatenate(images)[: len(labels)]


def train(
    folder: Path, judge: Judge, generator: Generator, discriminator: Discriminator, size: Size,
    optimizers: dict, options: dict, seed: int,
) -> tuple[Any, dict]:  # fmt: skip
    """One seed, resumed where it was interrupted: -> (averaged parameters of the generator, history)"""
    key, dataset = jax.random.key(seed), judge.dataset
    transform = partial(to_signed, scale=dataset.scale)
    batches = jann.data.batches(dataset.train, size.batch_size, jax.random.fold_in(key, 1), transform)
    step = jann.adversarial_step(
        generator, discriminator, optimizers, latent=generator.latent, labels="label", **options
    )
    steps = size.epochs * batches.steps_per_epoch
    asked = judge.asked(500)

    def judged(train_state):
        images = generate_all(generator, jann.eval_params(train_state), asked, jann.fold(key, "validation"))
        return {"classified_as_asked": judge.score(images, asked)["classified_as_asked"]}

    train_state, history = jann.fit(
        step,
        batches,
        jann.start_adversarial(generator, discriminator, optimizers, key),
        steps,
        every=max(20, -(-steps // 40)),
        evaluate=judged,
        folder=folder,
        model=generator,
    )
    if int(train_state.step) < steps:
        raise KeyboardInterrupt
    return jann.eval_params(train_state), history


def main(
    data: Literal["digits", "mnist", "fashion_mnist"] = "digits",
    loss: Literal["non_saturating", "hinge", "wasserstein"] = "non_saturating",
    latent: int = 64,
    widths: tuple[int, ...] = (64, 32),
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 2e-4,
    discriminator_learning_rate: float = 2e-4,
    critic_steps: int = 1,
    penalty: float | None = None,
    average: float = 0.999,
    samples: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a conditional DCGAN and has its samples judged.

    Args:
        data: The images: digits (8 × 8, comes with scikit-learn), mnist or fashion_mnist (28 × 28).
        loss: What both networks want of the scores; wasserstein goes with a gradient penalty.
        latent: Size of the noise that images are made of.
        widths: Channels before each transposed convolution; the discriminator has the same, mirrored.
        epochs: Passes over the training images; by default what suits the data.
        batch_size: Images in a step.
        learning_rate: Of the generator (Adam, b1 = 0.5).
        discriminator_learning_rate: Of the discriminator.
        critic_steps: Updates of the discriminator for each of the generator; the batch is divided among them.
        penalty: Weight of the gradient penalty, by default 10 with wasserstein and none else.
        average: Decay of the running average of the generator's weights, which are what samples.
        samples: Images judged.
        seeds: How many pairs, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/gan-DATA. The same command goes on with an interrupted run.
    """
    config = {name: value for name, value in locals().items() if name != "out"}
    at_least_one(epochs=epochs, batch_size=batch_size, samples=samples, critic_steps=critic_steps, seeds=seeds)
    at_least_one(latent=latent, widths=min(widths or (1,)))
    more_than_zero(learning_rate=learning_rate, discriminator_learning_rate=discriminator_learning_rate)
    not_negative(penalty=penalty)
    below_one(average=average)
    if samples == 1:
        raise SystemExit("--samples 1: they are judged by their covariance, give 2 or more")
    penalty = penalty if penalty is not None else 10.0 if loss == "wasserstein" else 0.0
    size = dataclasses.replace(SIZES[data], **given(epochs=epochs, batch_size=batch_size, samples=samples))
    dataset = jann.data.load(data)
    jann.data.batches(dataset.train, size.batch_size, jax.random.key(0))  # refuses a size before the judge is trained
    side, _, channels = dataset.train["image"].shape[1:]
    classes = len(dataset.classes)
    generator = Generator(latent, side, channels, widths, classes)
    discriminator = Discriminator(side, channels, widths[::-1], classes, batch_norm=penalty == 0)
    folder = jann.open_run(out or Path(f"runs/gan-{data}"), {**config, **dataclasses.asdict(size)})
    print(dataset, jann.summary(generator), jann.summary(discriminator), sep="\n\n", end="\n\n")
    judge = judge_beside(folder, dataset)

    optimizers = {
        "generator": optax.adam(learning_rate, b1=0.5),
        "discriminator": optax.adam(discriminator_learning_rate, b1=0.5),
    }
    options = {"loss": loss, "critic_steps": critic_steps, "penalty": penalty, "average": average}

    def one(at, number):
        params, history = train(at, judge, generator, discriminator, size, optimizers, options, number)
        asked = judge.asked(size.samples)
        images = generate_all(generator, params, asked, jann.fold(jax.random.key(number), "samples"))
        return judge.score(images, asked), history, params

    results = each_seed(folder, seeds, seed, one)
    scores, histories, params = zip(*results, strict=True)
    row = {
        "dataset": data, "loss": loss, "parameters": jann.count(generator), "samples": size.samples,
        "judge_accuracy_on_real": judge.accuracy,
        **{f"test_{name}": over_seeds([score[name] for score in scores]) for name in scores[0]},
    }  # fmt: skip
    write_results(folder, [row])
    figures(folder, dataset, generator, params[-1], histories)
    show_table([row], f"{generator!r}")
    print(f"wrote {folder}; jann.load({str(folder / f'seed-{seed}')!r}) gives the first generator back")


def figures(folder: Path, dataset: Any, generator: Generator, params: Any, histories: list) -> None:
    """Samples of each class, the way from one noise to another, losses and scores, and how the judge saw it go."""
    classes, columns, key = len(dataset.classes), 10, jax.random.key(1)
    labels = np.repeat(np.arange(classes), columns)
    images = generate_all(generator, params, labels, key)
    first, last = jax.random.normal(jann.fold(key, "path"), (2, 1, generator.latent))
    angle = np.linspace(0, np.pi / 2, columns, dtype=np.float32)[:, None]  # along the sphere, where such noise lies
    path = jnp.tile(jnp.cos(angle) * first + jnp.sin(angle) * last, (classes, 1))
    real = [dataset.train["image"][dataset.train["label"] == label][:columns] for label in range(classes)]
    save_figures(
        folder,
        samples=jann.plots.images(images, columns=columns, title="Samples (averaged weights)"),
        real=jann.plots.images(np.concatenate(real) / dataset.scale, columns=columns, title="Real images"),
        path=jann.plots.images(
            np.asarray(generate(generator, params, path, labels)), columns=columns,
            title="From one noise to another, the same for each class",
        ),
        loss=metric_curves(
            histories, {"generator": "generator_loss", "discriminator": "discriminator_loss"}, ylabel="loss"
        ),
        scores=metric_curves(
            histories, {"real images": "real_score", "generated": "fake_score"}, ylabel="discriminator's mean score"
        ),
        judged=metric_curves(
            histories, {"averaged weights": "classified_as_asked"}, ylabel="share classified as asked"
        ),
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
