"""Images from noise by 50 DDIM steps of a small U-Net: jann's sampler, which is one scan, and loops in Python.

XLA's CPU compiler makes convolutions inside loops slow: there a loop in Python may be the faster. PyTorch's is the one
that diffusers runs, its network channels first.

The network is untrained, and what it says is taken for "v". Taken for the noise it would be divided by a small
sqrt(alpha_bar), and a rounding of 1e-7 at the start grew to 0.7 in the images: rivals could not be compared.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.side_by_side.cases import unets
from experiments.side_by_side.cases.unets import Sizes
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

SIZE, BATCH, STEPS = 16, 8, 50
SIZES = Sizes(channels=1, widths=(32, 64), depth=1, attention=(1,), groups=8)
CHECKED = 64


def start() -> Arrays:
    """noise[batch, size, size, channels] and weights by jann's paths; those that start at zero are drawn as well."""
    import jax

    import jann

    random, params = np.random.default_rng(0), unets.jann_model(SIZES).init(jax.random.key(0))
    weights = {path: np.asarray(leaf) for path, leaf in jann.flatten(params).items()}
    for path, leaf in weights.items():
        if path.endswith("weight") and not leaf.any():
            scale = 0.3 / np.sqrt(np.prod(leaf.shape[:-1]))
            weights[path] = (scale * random.standard_normal(leaf.shape)).astype(np.float32)
    noise = random.standard_normal((BATCH, SIZE, SIZE, SIZES.channels)).astype(np.float32)
    return {"noise": noise, **weights}


def repeated(sample: Callable) -> Advance:
    """`sample() -> images[batch, size, size, channels]`; the first pixels of the last"""

    def advance(portions):
        for _ in range(portions):
            images = sample()
        return np.asarray(images).reshape(-1)[:CHECKED]

    return advance


def ready(start: Arrays):
    """-> (model, params, noise), on the device"""
    import jax.numpy as jnp

    import jann

    noise = jnp.asarray(start.pop("noise"))
    params = jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()})
    return unets.jann_model(SIZES), params, noise


def jann(start: Arrays) -> Advance:
    import jax

    import jann

    model, params, noise = ready(start)
    schedule = jann.diffusion.linear_schedule()

    @jax.jit
    def sample(params, noise):
        return jann.diffusion.ddim(lambda x, t: model(params, x, t), noise, schedule, STEPS, prediction="v", clip=1.0)

    return repeated(lambda: sample(params, noise))


def loop(start: Arrays) -> Advance:
    """The same U-Net and formula, a compiled step called from Python."""
    import jax

    import jann

    model, params, noise = ready(start)
    schedule = jann.diffusion.linear_schedule()
    times = jann.diffusion.spaced_times(schedule.steps, STEPS)
    alpha_bar = np.append(np.asarray(schedule.alpha_bar, np.float32)[times], np.float32(1))

    @jax.jit
    def step(params, x, t, now, after):
        return jann.diffusion.ddim_step(x, model(params, x, t), now, after, prediction="v", clip=1.0)

    def sample():
        x = noise
        for t, now, after in zip(times, alpha_bar[:-1], alpha_bar[1:], strict=True):
            x = step(params, x, t, now, after)
        return x

    return repeated(sample)


def torch(start: Arrays, compiled: bool = False) -> Advance:
    """PyTorch, with the loop of diffusers' pipelines and the formula of its scheduler."""
    import torch

    noise = torch.from_numpy(np.ascontiguousarray(start.pop("noise").transpose(0, 3, 1, 2)))
    network = unets.torch(SIZES, start)
    predict = torch.compile(network) if compiled else network
    alpha_bar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).float()
    times = torch.arange(1000, 0, -1000 / STEPS).round().long() - 1
    levels = torch.cat([alpha_bar[times], torch.ones(1)])

    @torch.inference_mode()
    def sample():
        x = noise
        for t, now, after in zip(times, levels[:-1], levels[1:], strict=True):
            predicted = predict(x, t.expand(len(x)))
            x0 = (now.sqrt() * x - (1 - now).sqrt() * predicted).clamp(-1, 1)
            direction = now.sqrt() * predicted + (1 - now).sqrt() * x
            x = after.sqrt() * x0 + (1 - after).sqrt() * direction
        return x.permute(0, 2, 3, 1)

    return repeated(sample)


CASE = Case(
    name="diffusion",
    work=f"sampling {BATCH} images of {SIZE} × {SIZE}, {STEPS} DDIM steps of a U-Net, "
    f"{' and '.join(map(str, SIZES.widths))} channels, float32",
    unit="images/s",
    portion=BATCH,
    start=start,
    rivals={"jann": jann, "loop": loop, "torch": torch, "torch_compile": partial(torch, compiled=True)},
    reference="jann",
    bars=(
        Bar("jann", "loop", times=0.95),
        Bar("jann", "torch", times=1.0),
        Bar("jann", "torch_compile", times=1.0),
    ),
    checked=CHECKED,
)
