"""Aggregate steps per second of 64 runs of the small MLP: as one sweep, and one after another.

What JAX reports as time spent on tracing and compiling is subtracted from the sweep's; the runs one after another start
when their program is compiled.
"""

import time

import jax

from experiments.side_by_side.harness import Case, serve

RUNS, STEPS = 64, 2000

CASE = Case(
    name="sweep of 64 MLPs",
    module="experiments.side_by_side.sweeps",
    rivals=("jann_sweep", "one_after_another", "sweep_map", "sweep_vmap", "sweep_with_compilation"),
    unit="steps/s of all runs together",
    better="higher",
    bars={("jann_sweep", "one_after_another"): 1.8},
    note="64 runs (16 seeds × 4 learning rates) of 2,000 steps of the small MLP. jann_sweep chooses its form by the "
    "first chunks, which count. one_after_another: the same experiment, jitted once, called 64 times. Compilation is "
    "left out of both, but for the last row.",
)


def experiment(key, learning_rate):
    import optax

    import jann

    train = jann.data.load("digits").train
    arrays = {"image": train["image"].reshape(-1, 64).astype("float32") / 16, "label": train["label"]}
    model = jann.models.MLP(inputs=64, hidden=(128, 128), outputs=10)
    optimizer = optax.adam(learning_rate)
    step = jann.make_step(jann.objective(model), optimizer)
    batches = jann.data.batches(arrays, 32, jax.random.fold_in(key, 1))
    _, history = jann.train(step, batches, jann.start(model, optimizer, key), STEPS)
    return {"loss": history["loss"][-100:].mean()}


RATES = [0.0003, 0.001, 0.003, 0.01]


def sweep(form="auto", count_compilation=False):
    import jann

    jann.cpu_devices()
    compiling = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiling.append(seconds) if name.startswith("/jax/core/compile") else None
    )
    clock = time.perf_counter()
    swept = jann.sweep(experiment, seeds=RUNS // len(RATES), learning_rate=RATES, form=form, progress=False)
    seconds = time.perf_counter() - clock - (0 if count_compilation else sum(compiling))
    return {"value": RUNS * STEPS / seconds, "losses": [swept.rows()[i]["loss"]["seeds"][0] for i in range(len(RATES))]}


def one_after_another():
    run = jax.jit(experiment)
    keys = [jax.random.fold_in(jax.random.key(0), seed) for seed in range(RUNS // len(RATES))]
    jax.block_until_ready(run(keys[0], RATES[0]))
    clock = time.perf_counter()
    losses = [[float(run(key, rate)["loss"]) for key in keys] for rate in RATES]
    return {"value": RUNS * STEPS / (time.perf_counter() - clock), "losses": [losses[i][0] for i in range(len(RATES))]}


if __name__ == "__main__":
    serve({
        "jann_sweep": sweep, "one_after_another": one_after_another, "sweep_map": lambda: sweep("map"),
        "sweep_vmap": lambda: sweep("vmap"), "sweep_with_compilation": lambda: sweep(count_compilation=True),
    })  # fmt: skip
