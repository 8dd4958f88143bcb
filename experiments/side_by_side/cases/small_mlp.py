"""A small MLP on digits, where a step takes microseconds and the library around it shows.

All rivals start from the same weights and see the same batches. Those with a Python loop have their batches made
beforehand, except `raw_loop`, which gathers each from NumPy arrays as a first version of a script does. `jann_train`
alone also shuffles and gathers within the time.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice, pairwise
from typing import Any

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

SIZES = (64, 128, 128, 10)
BATCH = 32
LEARNING_RATE = 1e-3
PORTION = 440  # steps: 10 epochs
CHECKED = 12  # losses; later Adam, which scales tiny gradients up, has made other roundings visible
ORDER = 1  # seed of the batches' order


def digits() -> Arrays:
    """scikit-learn's digits, the usual 1,437 for training: {"image": [1437, 64] in [0, 1], "label": [1437]}."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return {"image": (loaded.data[:1437] / 16).astype(np.float32), "label": loaded.target[:1437].astype(np.int32)}


def start() -> Arrays:
    """The digits, the first weights and the rows of each batch [PORTION, BATCH]."""
    import jax

    import jann

    arrays = digits()
    params = jann_model().init(jax.random.key(0))
    rows = jann.data.batches(arrays, BATCH, jax.random.key(ORDER)).plan(0, PORTION)["rows"]
    weights = {path: np.asarray(leaf) for path, leaf in jann.flatten(params).items()}
    return {**arrays, **weights, "rows": np.asarray(rows)}


def layers(start: Arrays) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first weights[inputs, outputs] and biases[outputs], layer by layer."""
    return [(start[f"layers/{i}/weight"], start[f"layers/{i}/bias"]) for i in range(len(SIZES) - 1)]


def gathered(start: Arrays) -> Iterator[dict[str, np.ndarray]]:
    """The batches, each gathered when it is asked for; without end."""
    return ({"image": start["image"][rows], "label": start["label"][rows]} for rows in cycle(start["rows"]))


def prepared(start: Arrays, convert: Callable) -> Iterator[dict[str, Any]]:
    """The batches made beforehand, their arrays converted; without end."""
    batches = islice(gathered(start), len(start["rows"]))
    return cycle([{name: convert(array) for name, array in batch.items()} for batch in batches])


def python_loop(step: Callable, state: Any, batches: Iterator) -> Advance:
    """Steps in a Python loop, as most scripts take them: `step(state, batch) -> (state, loss)`."""

    def advance(portions):
        nonlocal state
        losses = []
        for batch in islice(batches, portions * PORTION):
            state, loss = step(state, batch)
            losses.append(loss)
        float(losses[-1])  # waits until it is there
        return losses if portions == 1 else losses[-1:]

    return advance


def on_device(start: Arrays) -> Iterator[dict[str, Any]]:
    import jax.numpy as jnp

    return prepared(start, jnp.asarray)


# jann


def jann_model():
    import jann

    return jann.models.MLP(inputs=SIZES[0], hidden=SIZES[1:-1], outputs=SIZES[-1])


def jann_run(start: Arrays):
    """-> (step, train state)"""
    import jax
    import optax

    import jann

    model, optimizer = jann_model(), optax.adam(LEARNING_RATE)
    params = {"layers": [{"weight": jax.numpy.array(w), "bias": jax.numpy.array(b)} for w, b in layers(start)]}
    return jann.make_step(jann.objective(model), optimizer), jann.TrainState.start(jax.random.key(0), params, optimizer)


def jann_step(start: Arrays) -> Advance:
    import jax

    step, train_state = jann_run(start)
    compiled = jax.jit(step, donate_argnums=0)

    def take(train_state, batch):
        train_state, metrics = compiled(train_state, batch)
        return train_state, metrics["loss"]

    return python_loop(take, train_state, on_device(start))


def jann_train(start: Arrays) -> Advance:
    import jax

    import jann

    step, train_state = jann_run(start)
    arrays = {"image": start["image"], "label": start["label"]}
    batches = jann.data.batches(arrays, BATCH, jax.random.key(ORDER))

    def advance(portions):
        nonlocal train_state
        for new, metrics in jann.chunks(step, batches, train_state, portions * PORTION, PORTION):
            train_state, losses = new, metrics["loss"]
        return jax.block_until_ready(losses)

    return advance


# JAX and libraries on it


def raw_run(start: Arrays):
    """-> (step, state) in plain JAX and Optax"""
    import jax
    import optax

    optimizer = optax.adam(LEARNING_RATE)

    def loss(params, batch):
        *hidden, (weight, bias) = params
        x = batch["image"]
        for w, b in hidden:
            x = jax.nn.relu(x @ w + b)
        return optax.softmax_cross_entropy_with_integer_labels(x @ weight + bias, batch["label"]).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        params, opt_state = state
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    params = [(jax.numpy.array(w), jax.numpy.array(b)) for w, b in layers(start)]
    return step, (params, optimizer.init(params))


def raw_step(start: Arrays) -> Advance:
    return python_loop(*raw_run(start), on_device(start))


def raw_loop(start: Arrays) -> Advance:
    return python_loop(*raw_run(start), gathered(start))


def linen(start: Arrays) -> Advance:
    import flax.linen as nn
    import jax
    import optax
    from flax.training.train_state import TrainState

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for size in SIZES[1:-1]:
                x = nn.relu(nn.Dense(size)(x))
            return nn.Dense(SIZES[-1])(x)

    net = Net()
    named = {f"Dense_{i}": {"kernel": jax.numpy.array(w), "bias": jax.numpy.array(b)}
             for i, (w, b) in enumerate(layers(start))}  # fmt: skip
    state = TrainState.create(apply_fn=net.apply, params=named, tx=optax.adam(LEARNING_RATE))

    @partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        def loss(params):
            logits = state.apply_fn({"params": params}, batch["image"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        value, grads = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=grads), value

    return python_loop(step, state, on_device(start))


def nnx(start: Arrays, cached: bool = False) -> Advance:
    import jax
    import optax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairwise(SIZES)])

        def __call__(self, x):
            *hidden, last = self.layers
            for layer in hidden:
                x = nnx.relu(layer(x))
            return last(x)

    net = Net(nnx.Rngs(0))
    for layer, (w, b) in zip(net.layers, layers(start), strict=True):
        layer.kernel[...], layer.bias[...] = jax.numpy.array(w), jax.numpy.array(b)
    optimizer = nnx.Optimizer(net, optax.adam(LEARNING_RATE), wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer, batch):
        def loss(net):
            return optax.softmax_cross_entropy_with_integer_labels(net(batch["image"]), batch["label"]).mean()

        value, grads = nnx.value_and_grad(loss)(net)
        optimizer.update(net, grads)
        return value

    take = nnx.cached_partial(step, net, optimizer) if cached else partial(step, net, optimizer)
    return python_loop(lambda state, batch: (state, take(batch)), None, on_device(start))


def equinox(start: Arrays) -> Advance:
    import equinox as eqx
    import jax
    import optax

    net = eqx.nn.MLP(SIZES[0], SIZES[-1], SIZES[1], len(SIZES) - 2, key=jax.random.key(0))
    new = [jax.numpy.array(a) for w, b in layers(start) for a in (w.T, b)]
    net = eqx.tree_at(lambda net: [a for layer in net.layers for a in (layer.weight, layer.bias)], net, new)
    optimizer = optax.adam(LEARNING_RATE)

    @eqx.filter_value_and_grad
    def loss(net, batch):
        logits = jax.vmap(net)(batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    @eqx.filter_jit
    def step(state, batch):
        net, opt_state = state
        value, grads = loss(net, batch)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(net, eqx.is_inexact_array))
        return (eqx.apply_updates(net, updates), opt_state), value

    return python_loop(step, (net, optimizer.init(eqx.filter(net, eqx.is_inexact_array))), on_device(start))


def haiku(start: Arrays) -> Advance:
    import haiku as hk
    import jax
    import optax

    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP(SIZES[1:])(x)))
    params = {f"mlp/~/linear_{i}": {"w": jax.numpy.array(w), "b": jax.numpy.array(b)}
              for i, (w, b) in enumerate(layers(start))}  # fmt: skip
    optimizer = optax.adam(LEARNING_RATE)

    def loss(params, batch):
        logits = net.apply(params, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        params, opt_state = state
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    return python_loop(step, (params, optimizer.init(params)), on_device(start))


# Keras, with JAX below it


def keras_model(start: Arrays):
    """-> (keras, a model with the first weights, its optimiser, its loss)"""
    os.environ["KERAS_BACKEND"] = "jax"  # Keras reads it when it is imported
    import keras

    *hidden, last = SIZES[1:]
    net = keras.Sequential([keras.Input(SIZES[:1]), *(keras.layers.Dense(size, "relu") for size in hidden)])
    net.add(keras.layers.Dense(last))
    net.set_weights([array for pair in layers(start) for array in pair])
    # Its epsilon is the paper's "epsilon hat", added before the correction of the moments; so it is ours at first.
    optimizer = keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-8 * (1 - 0.999) ** 0.5)
    return keras, net, optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def keras(start: Arrays) -> Advance:
    """Keras's own loop, `fit`, an epoch of all batches a portion; the losses from the means that it tells callbacks."""
    keras, net, optimizer, loss = keras_model(start)
    net.compile(optimizer, loss, jit_compile=True)
    image, label = (start[name][start["rows"].reshape(-1)] for name in ("image", "label"))

    class Means(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.values = []

        def on_train_batch_end(self, batch, logs=None):
            self.values.append(logs["loss"])

    means = Means()

    def advance(portions):
        net.fit(image, label, batch_size=BATCH, epochs=portions, verbose=0, callbacks=[means], shuffle=False)
        totals = np.array(means.values) * np.arange(1, PORTION + 1)
        return np.diff(totals, prepend=0)

    return advance


def keras_stateless(start: Arrays) -> Advance:
    """The loop of Keras's guide to writing one in JAX: a step without state, compiled."""
    import jax

    _, net, optimizer, loss = keras_model(start)
    optimizer.build(net.trainable_variables)

    def with_updates(trainable, others, batch):
        logits, others = net.stateless_call(trainable, others, batch["image"], training=True)
        return loss(batch["label"], logits), others

    gradient = jax.value_and_grad(with_updates, has_aux=True)

    @partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        trainable, others, opt_state = state
        (value, others), grads = gradient(trainable, others, batch)
        trainable, opt_state = optimizer.stateless_apply(opt_state, grads, trainable)
        return (trainable, others, opt_state), value

    variables = net.trainable_variables, net.non_trainable_variables, optimizer.variables
    state = tuple([variable.value for variable in each] for each in variables)
    return python_loop(step, state, on_device(start))


# PyTorch


def torch(start: Arrays, compiled: bool = False) -> Advance:
    """PyTorch's usual loop; compiled with `torch.compile`, and then Adam is the fused one."""
    import torch
    from torch import nn

    linears = [nn.Linear(a, b) for a, b in pairwise(SIZES)]
    with torch.no_grad():
        for linear, (w, b) in zip(linears, layers(start), strict=True):
            linear.weight.copy_(torch.tensor(w.T))
            linear.bias.copy_(torch.tensor(b))
    *hidden, last = linears
    net = nn.Sequential(*(module for linear in hidden for module in (linear, nn.ReLU())), last)
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=compiled)
    forward = torch.compile(net) if compiled else net

    def step(state, batch):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward(batch["image"]), batch["label"])
        loss.backward()
        optimizer.step()
        return state, loss.detach()

    def convert(array):
        return torch.tensor(array, dtype=torch.int64 if array.dtype == np.int32 else None)

    return python_loop(step, None, prepared(start, convert))


CASE = Case(
    name="small_mlp",
    work=f"training an MLP {'-'.join(map(str, SIZES))} (ReLU) on digits: batch {BATCH}, Adam {LEARNING_RATE:g}, "
    f"cross-entropy",
    unit="steps/s",
    portion=PORTION,
    start=start,
    rivals={
        "jann_train": jann_train,
        "jann_step": jann_step,
        "raw_step": raw_step,
        "raw_loop": raw_loop,
        "linen": linen,
        "haiku": haiku,
        "nnx": nnx,
        "nnx_cached": partial(nnx, cached=True),
        "equinox": equinox,
        "keras": keras,
        "keras_stateless": keras_stateless,
        "torch": torch,
        "torch_compile": partial(torch, compiled=True),
    },
    reference="jann_train",
    bars=(
        Bar("jann_step", "raw_step", times=0.95),
        Bar("jann_train", "raw_loop", times=1.3),
        Bar("jann_train", "nnx", times=8),
        Bar("jann_train", "equinox", times=3.8),
        Bar("jann_train", "torch", times=5),
    ),
    checked=CHECKED,
)
