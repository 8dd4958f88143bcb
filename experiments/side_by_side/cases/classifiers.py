"""A training step of an image classifier, SGD with momentum, on one batch of random images: for LeNet and ResNet.

Networks of other libraries name their layers as jann's paths do, so that one rule carries the weights over: with `_` in
between for Linen ("stages_0_0_conv1"), with `.` for PyTorch ("stages.0.0.conv1").
"""

from typing import Any

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, steps

CLASSES = 10
LEARNING_RATE, MOMENTUM = 0.05, 0.9


def start(model: Any, shape: tuple[int, ...]) -> Arrays:
    """The first weights by jann's paths, and a batch: image[*shape] of standardised pixels, label[batch]."""
    import jax

    import jann

    random = np.random.default_rng(0)
    batch = {
        "image": random.standard_normal(shape).astype(np.float32),
        "label": random.integers(0, CLASSES, shape[0]).astype(np.int32),
    }
    return {**batch, **{path: np.asarray(leaf) for path, leaf in jann.flatten(model.init(jax.random.key(0))).items()}}


def jann(model: Any, start: Arrays, portion: int) -> Advance:
    import jax
    import jax.numpy as jnp
    import optax

    import jann

    batch = {name: jnp.asarray(start.pop(name)) for name in ("image", "label")}
    optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)
    params, _ = jann.split(model, jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()}))
    state = jann.start(model, optimizer, jax.random.key(0)).replace(params=params)
    compiled = jax.jit(jann.make_step(jann.objective(model), optimizer), donate_argnums=0)

    def step():
        nonlocal state
        state, metrics = compiled(state, batch)
        return metrics["loss"]

    return steps(step, portion)


LINEN = {
    "weight": ("params", "kernel"), "scale": ("params", "scale"), "bias": ("params", "bias"),
    "mean": ("batch_stats", "mean"), "variance": ("batch_stats", "var"),
}  # fmt: skip


def linen(network: Any, start: Arrays, portion: int) -> Advance:
    import jax
    import jax.numpy as jnp
    import optax

    image, label = (jnp.asarray(start.pop(name)) for name in ("image", "label"))
    variables: dict = {"params": {}, "batch_stats": {}}
    for path, leaf in start.items():
        *layer, part = path.split("/")
        collection, name = LINEN[part]
        variables[collection].setdefault("_".join(layer), {})[name] = jnp.asarray(leaf)
    optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)

    def loss(params, statistics, image, label):
        logits, updates = network.apply({"params": params, "batch_stats": statistics}, image, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return losses.mean(), updates.get("batch_stats", {})

    def take(state, image, label):
        params, statistics, opt_state = state
        (value, statistics), grads = jax.value_and_grad(loss, has_aux=True)(params, statistics, image, label)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), statistics, opt_state), value

    compiled = jax.jit(take, donate_argnums=0)
    state = variables["params"], variables["batch_stats"], optimizer.init(variables["params"])

    def step():
        nonlocal state
        state, value = compiled(state, image, label)
        return value

    return steps(step, portion)


TORCH = {"scale": "weight", "mean": "running_mean", "variance": "running_var"}


def torch(network: Any, start: Arrays, portion: int, compiled: bool = False, channels_last: bool = False) -> Advance:
    """PyTorch, its kernels [outputs, inputs, height, width]; `channels_last` is how they and images lie in memory."""
    import torch
    from torch.nn import functional as F

    image = torch.from_numpy(np.ascontiguousarray(start.pop("image").transpose(0, 3, 1, 2)))
    label = torch.from_numpy(start.pop("label")).long()
    weights = {}
    for path, leaf in start.items():
        *layer, part = path.split("/")
        leaf = np.ascontiguousarray(leaf.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[leaf.ndim]))
        weights[".".join([*layer, TORCH.get(part, part)])] = torch.from_numpy(leaf)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
    if channels_last:
        network, image = (each.to(memory_format=torch.channels_last) for each in (network, image))
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM)
    forward = torch.compile(network) if compiled else network

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(forward(image), label)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return steps(step, portion)
