"""Images from noise by 50 DDIM steps of a small U-Net: jann's sampler, which is one scan, and loops in Python.

XLA's CPU compiler makes convolutions inside loops slow: there a loop in Python may be the faster.
"""

from collections.abc import Callable

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

SIZE, BATCH, STEPS = 16, 8, 50
WIDTHS, GROUPS = (32, 64), 8
CHECKED = 64


def jann_model():
    from jann.models import UNet

    return UNet(inputs=1, outputs=1, widths=WIDTHS, depth=1, attention=(len(WIDTHS) - 1,), groups=GROUPS)


def start() -> Arrays:
    """noise[batch, size, size, 1] and weights by jann's paths; those that start at zero are drawn as well."""
    import jax

    import jann

    random = np.random.default_rng(0)
    weights = {path: np.asarray(leaf) for path, leaf in jann.flatten(jann_model().init(jax.random.key(0))).items()}
    for path, leaf in weights.items():
        if path.endswith("weight") and not leaf.any():
            scale = 0.3 / np.sqrt(np.prod(leaf.shape[:-1]))
            weights[path] = (scale * random.standard_normal(leaf.shape)).astype(np.float32)
    return {"noise": random.standard_normal((BATCH, SIZE, SIZE, 1)).astype(np.float32), **weights}


def repeated(sample: Callable) -> Advance:
    """`sample() -> images[batch, size, size, 1]`; the first pixels of the last"""

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
    return jann_model(), jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()}), noise


def jann(start: Arrays) -> Advance:
    import jax

    import jann

    model, params, noise = ready(start)
    schedule = jann.diffusion.linear_schedule()

    @jax.jit
    def sample(params, noise):
        return jann.diffusion.ddim(lambda x, t: model(params, x, t), noise, schedule, STEPS, clip=1.0)

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
        return jann.diffusion.ddim_step(x, model(params, x, t), now, after, clip=1.0)

    def sample():
        x = noise
        for t, now, after in zip(times, alpha_bar[:-1], alpha_bar[1:], strict=True):
            x = step(params, x, t, now, after)
        return x

    return repeated(sample)


CASE = Case(
    name="diffusion",
    work=f"sampling {BATCH} images of {SIZE} × {SIZE}, {STEPS} DDIM steps of a U-Net, {' and '.join(map(str, WIDTHS))} "
    f"channels, float32",
    unit="images/s",
    portion=BATCH,
    start=start,
    rivals={"jann": jann, "loop": loop},
    reference="jann",
    bars=(Bar("jann", "loop", times=0.95),),
    checked=CHECKED,
)
