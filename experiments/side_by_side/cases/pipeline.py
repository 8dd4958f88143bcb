"""Batches of small images, drawn in a shuffled order, scaled, brought to the device and there looked at once.

All rivals draw the same rows; checked are the batches' means. `jann` makes them within a compiled scan, as `jann.train`
does; `jann_step` one by one, from Python.
"""

from functools import partial

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

EXAMPLES, SHAPE, BATCH = 60_000, (28, 28, 1), 128
PORTION = 100


def start() -> Arrays:
    """image[examples, *shape] of 0..255, label[examples] and the rows of each batch [PORTION, batch]."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (EXAMPLES, *SHAPE), np.uint8)
    arrays = {"image": image, "label": random.integers(0, 10, EXAMPLES).astype(np.int32)}
    return {**arrays, "rows": np.asarray(jann_batches(arrays).plan(0, PORTION)["rows"])}


def jann_batches(arrays: Arrays):
    import jax

    import jann

    return jann.data.batches({name: arrays[name] for name in ("image", "label")}, BATCH, jax.random.key(0), scaled)


def scaled(batch: dict, key=None) -> dict:
    return {**batch, "image": batch["image"].astype(np.float32) / 255}


def looked_at(batch: dict):
    """batch -> one number, of all that it holds"""
    return batch["image"].mean() + batch["label"].mean()


def jann(start: Arrays) -> Advance:
    import jax

    batches = jann_batches(start)

    @jax.jit
    def portion(batches):
        # The whole batch is made, as a training step needs it; XLA would take means of what it gathers otherwise.
        made = jax.lax.optimization_barrier
        return jax.lax.map(lambda row: looked_at(made(batches.take(row))), batches.plan(0, PORTION))

    def advance(portions):
        for _ in range(portions):
            seen = jax.block_until_ready(portion(batches))
        return seen

    return advance


def jann_step(start: Arrays) -> Advance:
    import jax

    batches, look = jann_batches(start), jax.jit(looked_at)

    def advance(portions):
        for _ in range(portions):
            seen = jax.block_until_ready([look(batches(i)) for i in range(PORTION)])
        return seen

    return advance


def numpy(start: Arrays) -> Advance:
    """NumPy's indexing on the host, and `jax.device_put`."""
    import jax

    look = jax.jit(lambda batch: looked_at(scaled(batch)))

    def batch(rows):
        return jax.device_put({"image": start["image"][rows], "label": start["label"][rows]})

    def advance(portions):
        for _ in range(portions):
            seen = jax.block_until_ready([look(batch(rows)) for rows in start["rows"]])
        return seen

    return advance


def torch(start: Arrays, workers: int) -> Advance:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    dataset = TensorDataset(torch.from_numpy(start["image"]), torch.from_numpy(start["label"]))
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = DataLoader(dataset, batch_sampler=start["rows"].tolist(), **options)

    def advance(portions):
        for _ in range(portions):
            seen = [(image.float() / 255).mean() + label.float().mean() for image, label in loader]
        return torch.stack(seen).numpy()

    return advance


CASE = Case(
    name="pipeline",
    work=f"batches of {BATCH} of {EXAMPLES:,} images of {' × '.join(map(str, SHAPE))} bytes, shuffled and scaled, on "
    f"the device",
    unit="batches/s",
    portion=PORTION,
    start=start,
    rivals={
        "jann": jann,
        "jann_step": jann_step,
        "numpy": numpy,
        "torch": partial(torch, workers=0),
        "torch_workers": partial(torch, workers=2),
    },
    reference="jann",
    bars=(Bar("jann", "numpy", times=1.0), Bar("jann", "torch", times=1.0)),
    checked=PORTION,
)
