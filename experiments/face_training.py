"""What both tasks with faces share: how photographs are prepared, moved and learnt from."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from jann.models import VGG

POINTS = 20  # of each learning curve


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a network is trained: see `experiments.faces.main`."""

    steps: int
    batch_size: int
    weight_decay: float
    shift: int


def prepared(images: np.ndarray, size: int) -> np.ndarray:
    """uint8[..., height, width, 1] -> float32[..., size, size, 1], means of squares; each of mean 0 and deviation 1

    Raises ValueError where the size does not divide that of the images.
    """
    *lead, height, width, _ = images.shape
    if size < 1 or height % size or width % size:
        raise ValueError(f"size {size}: images of {height} × {width} are averaged to a size that divides both")
    small = images.reshape(*lead, size, height // size, size, width // size, 1).mean((-4, -2))
    small = small - small.mean((-3, -2), keepdims=True)
    deviation = small.std((-3, -2), keepdims=True)
    return (small / np.maximum(deviation, 1e-6)).astype(np.float32)


def network(size: int, outputs: int, dropout: float) -> VGG:
    """Three blocks of one convolution each, then a fully connected layer on all places"""
    return VGG(1, outputs, widths=((16,), (32,), (64,)), hidden=(128,), size=size, dropout=dropout)


def moved(batch: dict, key: jax.Array, shift: int) -> dict:
    """Photographs mirrored with probability one half, and moved by up to `shift` pixels"""
    image = jann.data.random_flip(batch["image"], jax.random.fold_in(key, 0))
    return {**batch, "image": jann.data.random_crop(image, jax.random.fold_in(key, 1), shift)}


def trained(
    model: jann.Model, loss: Callable, batches: Callable, learning_rate: Any, settings: Settings, key: jax.Array,
    look: Callable[[Any], dict] = lambda params: {},
) -> tuple[Any, dict]:  # fmt: skip
    """-> (parameters with running statistics, curves: training loss and what `look` says of them, each [POINTS])"""
    optimizer = optax.adamw(
        optax.cosine_decay_schedule(learning_rate, settings.steps),
        weight_decay=settings.weight_decay,
        mask=jann.decay_mask(model),
    )
    step = jann.make_step(loss, optimizer)

    def some_steps(train_state, _):
        train_state, history = jann.train(step, batches, train_state, settings.steps // POINTS)
        return train_state, {"train_loss": history["loss"].mean(), **look(jann.eval_params(train_state))}

    train_state, curves = jax.lax.scan(some_steps, jann.start(model, optimizer, key), length=POINTS)
    return jann.eval_params(train_state), curves


def refuse_diverged(params: Any, what: str, option: str) -> None:
    """Raises SystemExit where the parameters of a draw, params[seeds, ...], are not finite."""
    finite = [np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in jax.tree.leaves(params)]
    if diverged := (~np.all(finite, 0)).sum():
        raise SystemExit(f"{what} diverged in {diverged} of {len(finite[0])} draws: try lower {option}")


def curve_rows(curves: dict[str, np.ndarray], settings: Settings, **names: Any) -> list[dict]:
    """curves[seeds, POINTS] -> a line of `metrics.jsonl` for each seed and point"""
    at = steps_at(settings)
    seeds = len(next(iter(curves.values())))
    return [
        {**names, "seed": seed, "step": int(at[i]), **{name: float(y[seed, i]) for name, y in curves.items()}}
        for seed in range(seeds)
        for i in range(POINTS)
    ]


def steps_at(settings: Settings) -> np.ndarray:
    return settings.steps // POINTS * np.arange(1, POINTS + 1)


def evaluate_in_parts(model: jann.Model, params: Any, images: jax.Array) -> jax.Array:
    """images[..., height, width, 1] -> outputs[..., n]"""
    lead = images.shape[:-3]
    outputs = jax.lax.map(partial(model, params), images.reshape(-1, *images.shape[-3:]), batch_size=100)
    return jnp.reshape(outputs, (*lead, outputs.shape[-1]))
