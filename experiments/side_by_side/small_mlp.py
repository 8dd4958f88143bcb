"""Steps per second of a 64-128-128-10 MLP on digits: batch 32, Adam, cross-entropy, each library as its users write it.

Loops take each batch from NumPy arrays by index; `jann_train` gathers it inside the compiled scan.
"""

import time

import numpy as np

from experiments.side_by_side.harness import Case, serve

STEPS, WARM, CHECKED = 4000, 200, 20
SIZES = (64, 128, 128, 10)
LEARNING_RATE = 1e-3

CASE = Case(
    name="small MLP",
    module="experiments.side_by_side.small_mlp",
    rivals=("jann_train", "jann_step", "raw_loop", "linen", "nnx", "nnx_cached", "equinox", "haiku", "torch"),
    unit="steps/s",
    better="higher",
    bars={
        ("jann_step", "raw_loop"): 0.95,
        ("jann_train", "raw_loop"): 1.3,
        ("jann_train", "nnx"): 6,
        ("jann_train", "equinox"): 3,
        ("jann_train", "torch"): 4,
    },
    note="64-128-128-10 MLP on scikit-learn's digits, batch 32, Adam. jann_train: jann.chunks, 4,000 steps as one scan "
    "with its batches drawn inside; jann_step: jann's jitted step in a Python loop; raw_loop: the same written in "
    "JAX and Optax; the others as their documentation writes a loop. Losses of the first 20 steps agree to 1e-3.",
)


def problem():
    """Images [1257, 64], labels, rows of each batch [steps, 32], weights of each layer."""
    import jann

    train = jann.data.load("digits").train
    images = train["image"].reshape(-1, 64).astype(np.float32) / 16
    random = np.random.default_rng(0)
    rows = np.stack([random.permutation(len(images))[:32] for _ in range(STEPS + WARM)])
    weights = [
        ((random.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in zip(SIZES, SIZES[1:], strict=False)
    ]
    return images, train["label"].astype(np.int32), rows, weights


def loop(state, step, images, labels, rows, block):
    """Times `state, loss = step(state, x, y)` after warm-up; the losses of the first steps prove equal work."""
    losses = []
    for i in range(WARM):
        state, loss = step(state, images[rows[i]], labels[rows[i]])
        if i < CHECKED:
            losses.append(float(loss))
    block(loss)
    clock = time.perf_counter()
    for i in range(WARM, WARM + STEPS):
        state, loss = step(state, images[rows[i]], labels[rows[i]])
    block(loss)
    return {"value": STEPS / (time.perf_counter() - clock), "losses": losses}


def jann_parts(weights):
    import jax
    import jax.numpy as jnp
    import optax

    import jann

    model = jann.models.MLP(inputs=64, hidden=SIZES[1:-1], outputs=10)

    def loss(params, batch, key, extra=None):
        logits = model(params, batch["image"], key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), ({}, extra)

    optimizer = optax.adam(LEARNING_RATE)
    params = {"layers": [{"weight": jnp.array(w), "bias": jnp.array(b)} for w, b in weights]}
    return jann.make_step(loss, optimizer), jann.TrainState.start(jax.random.key(0), params, optimizer)


def jann_train():
    import jax

    import jann

    images, labels, rows, weights = problem()
    step, state = jann_parts(weights)
    first = {"image": images[rows[:CHECKED]], "label": labels[rows[:CHECKED]]}
    losses = jann.train(step, first, state, CHECKED)[1]["loss"]
    batches = jann.data.batches({"image": images, "label": labels}, 32, jax.random.key(1))
    parts = jann.chunks(step, batches, state, 2 * STEPS, STEPS)
    jax.block_until_ready(next(parts))
    clock = time.perf_counter()
    jax.block_until_ready(next(parts))
    return {"value": STEPS / (time.perf_counter() - clock), "losses": losses.tolist()}


def jann_step():
    import jax

    images, labels, rows, weights = problem()
    step, state = jann_parts(weights)
    jitted = jax.jit(step, donate_argnums=0)

    def run(state, x, y):
        state, metrics = jitted(state, {"image": x, "label": y})
        return state, metrics["loss"]

    return loop(state, run, images, labels, rows, jax.block_until_ready)


def raw_loop():
    from functools import partial

    import jax
    import jax.numpy as jnp
    import optax

    images, labels, rows, weights = problem()
    optimizer = optax.adam(LEARNING_RATE)
    params = [(jnp.array(w), jnp.array(b)) for w, b in weights]

    def loss(params, x, y):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, y).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state, x, y):
        params, opt_state = state
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    return loop((params, optimizer.init(params)), step, images, labels, rows, jax.block_until_ready)


def linen():
    from functools import partial

    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for size in SIZES[1:-1]:
                x = nn.relu(nn.Dense(size)(x))
            return nn.Dense(SIZES[-1])(x)

    images, labels, rows, weights = problem()
    net = Net()
    params = {f"Dense_{i}": {"kernel": jnp.array(w), "bias": jnp.array(b)} for i, (w, b) in enumerate(weights)}
    state = TrainState.create(apply_fn=net.apply, params=params, tx=optax.adam(LEARNING_RATE))

    @partial(jax.jit, donate_argnums=0)
    def step(state, x, y):
        def loss(params):
            logits = state.apply_fn({"params": params}, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value

    return loop(state, step, images, labels, rows, jax.block_until_ready)


def nnx(cached=False):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(64, 128, rngs=rngs)
            self.second = nnx.Linear(128, 128, rngs=rngs)
            self.last = nnx.Linear(128, 10, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.second(nnx.relu(self.first(x)))))

    images, labels, rows, weights = problem()
    net = Net(nnx.Rngs(0))
    for layer, (w, b) in zip((net.first, net.second, net.last), weights, strict=True):
        layer.kernel[...], layer.bias[...] = jnp.array(w), jnp.array(b)
    optimizer = nnx.Optimizer(net, optax.adam(LEARNING_RATE), wrt=nnx.Param)

    @nnx.jit
    def train_step(net, optimizer, x, y):
        def loss(net):
            return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

        value, grads = nnx.value_and_grad(loss)(net)
        optimizer.update(net, grads)
        return value

    bound = nnx.cached_partial(train_step, net, optimizer) if cached else lambda x, y: train_step(net, optimizer, x, y)
    return loop(None, lambda state, x, y: (state, bound(x, y)), images, labels, rows, jax.block_until_ready)


def equinox():
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    images, labels, rows, weights = problem()
    net = eqx.nn.MLP(64, 10, 128, 2, key=jax.random.key(0))
    layers = tuple(
        eqx.tree_at(lambda m: (m.weight, m.bias), layer, (jnp.array(w.T), jnp.array(b)))
        for layer, (w, b) in zip(net.layers, weights, strict=True)
    )
    net = eqx.tree_at(lambda m: m.layers, net, layers)
    optimizer = optax.adam(LEARNING_RATE)

    @eqx.filter_value_and_grad
    def loss(net, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(x), y).mean()

    @eqx.filter_jit
    def step(state, x, y):
        net, opt_state = state
        value, grads = loss(net, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(net, eqx.is_array))
        return (eqx.apply_updates(net, updates), opt_state), value

    state = (net, optimizer.init(eqx.filter(net, eqx.is_array)))
    return loop(state, step, images, labels, rows, jax.block_until_ready)


def haiku():
    from functools import partial

    import haiku as hk
    import jax
    import jax.numpy as jnp
    import optax

    images, labels, rows, weights = problem()
    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP(SIZES[1:])(x)))
    params = {f"mlp/~/linear_{i}": {"w": jnp.array(w), "b": jnp.array(b)} for i, (w, b) in enumerate(weights)}
    optimizer = optax.adam(LEARNING_RATE)

    @partial(jax.jit, donate_argnums=0)
    def step(state, x, y):
        params, opt_state = state

        def loss(params):
            return optax.softmax_cross_entropy_with_integer_labels(net.apply(params, x), y).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    return loop((params, optimizer.init(params)), step, images, labels, rows, jax.block_until_ready)


def torch():
    import torch
    from torch import nn

    images, labels, rows, weights = problem()
    images, labels, rows = torch.from_numpy(images), torch.from_numpy(labels).long(), torch.from_numpy(rows)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    for layer, (w, b) in zip(net[::2], weights, strict=True):
        layer.weight.data, layer.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b)
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE)

    def step(state, x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return state, loss

    return loop(None, step, images, labels, rows, float)


if __name__ == "__main__":
    serve({
        "jann_train": jann_train, "jann_step": jann_step, "raw_loop": raw_loop, "linen": linen, "nnx": nnx,
        "nnx_cached": lambda: nnx(cached=True), "equinox": equinox, "haiku": haiku, "torch": torch,
    })  # fmt: skip
