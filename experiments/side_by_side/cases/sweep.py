"""64 runs of the small MLP, 16 seeds × 4 learning rates: `jann.sweep` against the same runs one after another.

A sweep compiles in each call, so its figures leave out the time that JAX reports for tracing, lowering and compiling;
figures with it are given too. The runs one after another have their compiled program from the turn before.
"""

from functools import partial

import numpy as np

from experiments.side_by_side.cases import small_mlp
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

SEEDS = 16
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
STEPS = 2200  # of each run: 50 epochs


def experiment(key, learning_rate, arrays):
    """One run -> its first losses and its last."""
    import jax
    import optax

    import jann

    model = small_mlp.jann_model()
    optimizer = optax.adam(learning_rate)
    batches = jann.data.batches(arrays, small_mlp.BATCH, jax.random.fold_in(key, 1))
    step = jann.make_step(jann.objective(model), optimizer)
    _, history = jann.train(step, batches, jann.start(model, optimizer, key), STEPS)
    return {"first": history["loss"][: small_mlp.CHECKED], "last": history["loss"][-1]}


def swept(form: str, start: Arrays) -> Advance:
    import jann

    jann.cpu_devices()
    run = partial(experiment, arrays=start)

    def advance(portions):
        for _ in range(portions):
            found = jann.sweep(run, seeds=SEEDS, learning_rate=list(LEARNING_RATES), form=form, progress=False)
        return np.stack([found.results(point)["first"] for point in range(len(LEARNING_RATES))])

    return advance


def one_by_one(start: Arrays) -> Advance:
    import jax

    run = jax.jit(partial(experiment, arrays=start))
    keys = [jax.random.fold_in(jax.random.key(0), seed) for seed in range(SEEDS)]

    def advance(portions):
        for _ in range(portions):
            losses = [[run(key, rate)["first"] for key in keys] for rate in LEARNING_RATES]
            losses = np.asarray(jax.device_get(losses))
        return losses

    return advance


CASE = Case(
    name="sweep",
    work=f"{SEEDS * len(LEARNING_RATES)} runs of {STEPS:,} steps of the small MLP; steps of all runs together",
    unit="steps/s",
    portion=SEEDS * len(LEARNING_RATES) * STEPS,
    start=small_mlp.digits,
    rivals={
        "jann_sweep": partial(swept, "auto"),
        "sweep_map": partial(swept, "map"),
        "sweep_vmap": partial(swept, "vmap"),
        "one_by_one": one_by_one,
    },
    reference="jann_sweep",
    bars=(Bar("jann_sweep", "one_by_one", times=1.8),),
    checked=small_mlp.CHECKED,
)
