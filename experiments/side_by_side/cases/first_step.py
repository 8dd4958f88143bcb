"""Seconds from the imports to the end of the first training step of an MLP on digits, each time in a fresh process.

Data, first weights, and a step with noise and dropout, as in `experiments.digits`; each library draws its own numbers,
so that losses are not compared. Cold, JAX's persistent compilation cache is an empty folder; warm, the folder is as
earlier processes left it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, Bar, Case, Measured

SIZES, BATCH, STEPS = (64, 128, 128, 10), 64, 2000  # STEPS: of the learning rate's schedule
DROPOUT, NOISE = 0.2, 0.2
LEARNING_RATE, DECAY = 3e-3, 0.01


def told(clock: float) -> None:
    """Writes the seconds since `clock` for the process that started this one."""
    print(json.dumps({"seconds": time.perf_counter() - clock}))


# what the processes do


def jann() -> None:
    import jax
    import optax
    import sklearn.datasets  # noqa: F401

    import jann
    import jann.data
    from experiments.digits import prepare

    clock = time.perf_counter()
    key = jax.random.key(0)
    digits = jann.data.load("digits")
    model = jann.models.MLP(SIZES[0], SIZES[1:-1], SIZES[-1], dropout=DROPOUT)
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, STEPS)
    optimizer = optax.adamw(schedule, weight_decay=DECAY, mask=jann.decay_mask(model))
    batches = jann.data.batches(digits.train, BATCH, jax.random.fold_in(key, 1), partial(prepare, noise=NOISE))
    step = jann.make_step(jann.objective(model), optimizer)
    state, metrics = next(jann.chunks(step, batches, jann.start(model, optimizer, key), 1, 1))
    jax.block_until_ready((state, metrics))
    told(clock)


def raw() -> None:
    import jax
    import jax.numpy as jnp
    import optax
    from sklearn.datasets import load_digits

    clock = time.perf_counter()
    key = jax.random.key(0)
    loaded = load_digits()
    random = np.random.default_rng(0)
    rows = random.permutation(1437)[:BATCH]
    image, label = (loaded.data[rows] / 16).astype(np.float32), loaded.target[rows]
    params = []
    for i, (a, b) in enumerate(pairwise(SIZES)):
        weight = jax.random.truncated_normal(jax.random.fold_in(key, i), -2, 2, (a, b)) / np.sqrt(a)
        params.append((weight, jnp.zeros(b)))
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, STEPS)
    optimizer = optax.adamw(schedule, weight_decay=DECAY, mask=lambda tree: jax.tree.map(lambda p: p.ndim > 1, tree))

    def loss(params, image, label, key):
        *hidden, (weight, bias) = params
        x = image + NOISE * jax.random.normal(jax.random.fold_in(key, 0), image.shape)
        for i, (w, b) in enumerate(hidden, 1):
            x = jax.nn.relu(x @ w + b)
            kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - DROPOUT, x.shape)
            x = jnp.where(kept, x / (1 - DROPOUT), 0)
        return optax.softmax_cross_entropy_with_integer_labels(x @ weight + bias, label).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state, image, label, key):
        params, opt_state = state
        value, grads = jax.value_and_grad(loss)(params, image, label, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    jax.block_until_ready(step((params, optimizer.init(params)), image, label, key))
    told(clock)


def torch() -> None:
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    clock = time.perf_counter()
    loaded = load_digits()
    rows = torch.randperm(1437)[:BATCH]
    image, label = torch.tensor(loaded.data / 16, dtype=torch.float32)[rows], torch.tensor(loaded.target)[rows]
    parts = [part for a, b in pairwise(SIZES) for part in (nn.Linear(a, b), nn.ReLU(), nn.Dropout(DROPOUT))]
    network = nn.Sequential(*parts[:-2])
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=DECAY)
    nn.functional.cross_entropy(network(image + NOISE * torch.randn_like(image)), label).backward()
    optimizer.step()
    told(clock)


# the rivals, which start them


def started(name: str, cache: str) -> float:
    """The seconds that a fresh process says it took, with JAX's compilation cache in that folder."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    if name == "jann":
        environment["XDG_CACHE_HOME"] = cache  # in which it keeps what it compiles, without being asked
    else:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # else what compiles quickly is not kept
        }
    script = f"from experiments.side_by_side.cases import first_step; first_step.{name}()"
    found = subprocess.run(
        [sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return json.loads(found.stdout.splitlines()[-1])["seconds"]


def cold(name: str, start: Arrays) -> Advance:
    def advance(portions):
        seconds = 0.0
        for _ in range(portions):
            with tempfile.TemporaryDirectory() as cache:
                seconds += started(name, cache)
        return Measured(np.zeros(1), seconds=seconds)

    return advance


def warm(name: str, start: Arrays) -> Advance:
    cache = tempfile.TemporaryDirectory()  # until this process ends
    if name == "torch":
        import torch  # noqa: F401  so that where it is missing, it is found out here

    def advance(portions):
        return Measured(np.zeros(1), seconds=sum(started(name, cache.name) for _ in range(portions)))

    return advance


CASE = Case(
    name="first_step",
    work="from the imports to the end of the first training step of an MLP on digits, in a fresh process",
    unit="s",
    portion=1,
    start=dict,
    rivals={
        "jann_cold": partial(cold, "jann"),
        "jann_warm": partial(warm, "jann"),
        "raw_cold": partial(cold, "raw"),
        "raw_warm": partial(warm, "raw"),
        "torch": partial(warm, "torch"),
    },
    reference="jann_warm",
    bars=(Bar("jann_warm", seconds=3.0), Bar("jann_warm", "raw_warm", seconds=0.5)),
)
