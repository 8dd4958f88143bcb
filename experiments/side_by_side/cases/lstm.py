"""The gradient of one LSTM, where the time goes into matrix products and what is between them.

The mean square of all outputs, differentiated for the weights and biases. All rivals start from the same weights, in
PyTorch's layout; those that want time first have their inputs so. Checked are the loss and the gradient's norm.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.side_by_side.cases import limits
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

INPUTS, HIDDEN, TIME, BATCH = 256, 256, 128, 64
PORTION = 2


def start() -> Arrays:
    """x[batch, time, inputs] and the weights that PyTorch would draw, uniform within 1 / sqrt(hidden)."""
    random = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (4 * HIDDEN, INPUTS), "weight_hh_l0": (4 * HIDDEN, HIDDEN)}
    shapes |= {"bias_ih_l0": (4 * HIDDEN,), "bias_hh_l0": (4 * HIDDEN,)}
    weights = {name: random.uniform(-1, 1, shape) / np.sqrt(HIDDEN) for name, shape in shapes.items()}
    weights["bias_hh_l0"][:] = 0  # so that one bias is enough and gradients have one norm
    arrays = {"x": random.standard_normal((BATCH, TIME, INPUTS)), **weights}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def repeated(gradient: Callable, norm: Callable) -> Advance:
    """`gradient() -> (loss, gradients)`, again and again; `norm(gradients)` of the last."""

    def advance(portions):
        for _ in range(portions * PORTION):
            loss, gradients = gradient()
        return [float(loss), float(norm(gradients))]

    return advance


def of_jax(function: Callable, params, *args) -> Advance:
    import jax
    import optax

    compiled = jax.jit(jax.value_and_grad(lambda params, *args: (function(params, *args) ** 2).mean()))
    return repeated(lambda: jax.block_until_ready(compiled(params, *args)), optax.tree.norm)


def jann(start: Arrays) -> Advance:
    import jax.numpy as jnp

    from jann.models import LSTM
    from jann.pretrained import recurrent

    x, model = jnp.asarray(start.pop("x")), LSTM(INPUTS, HIDDEN)
    return of_jax(model, recurrent.from_torch(start, model), x)


def scan(start: Arrays) -> Advance:
    """As one writes it first: an input projection, and a scan that JAX differentiates."""
    import jax
    import jax.numpy as jnp

    params = {"input": start["weight_ih_l0"].T, "recurrent": start["weight_hh_l0"].T, "bias": start["bias_ih_l0"]}
    params = {name: jnp.asarray(array) for name, array in params.items()}

    def lstm(params, x):
        def step(carry, z):
            h, c = carry
            i, f, g, o = jnp.split(z + h @ params["recurrent"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], HIDDEN))
        return jax.lax.scan(step, (zeros, zeros), x @ params["input"] + params["bias"])[1]

    return of_jax(lstm, params, jnp.asarray(start["x"].swapaxes(0, 1)))


def linen(start: Arrays) -> Advance:
    import jax.numpy as jnp
    from flax import linen as nn

    cell = {}
    for n, gate in enumerate("ifgo"):
        rows = slice(n * HIDDEN, (n + 1) * HIDDEN)
        cell[f"i{gate}"] = {"kernel": jnp.asarray(start["weight_ih_l0"][rows].T)}
        recurrent, bias = start["weight_hh_l0"][rows].T, start["bias_ih_l0"][rows]
        cell[f"h{gate}"] = {"kernel": jnp.asarray(recurrent), "bias": jnp.asarray(bias)}
    layer = nn.RNN(nn.OptimizedLSTMCell(HIDDEN))
    return of_jax(lambda params, x: layer.apply({"params": {"cell": params}}, x), cell, jnp.asarray(start["x"]))


def torch(start: Arrays, batch_first: bool) -> Advance:
    import torch

    x = start.pop("x")
    x = torch.from_numpy(x if batch_first else np.ascontiguousarray(x.swapaxes(0, 1)))
    layer = torch.nn.LSTM(INPUTS, HIDDEN, batch_first=batch_first)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in start.items()})
    weights = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]

    def gradient():
        loss = layer(x)[0].square().mean()
        layer.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach(), [weight.grad for weight in weights]

    return repeated(gradient, lambda grads: sum(g.square().sum() for g in grads).sqrt())


def products(start: Arrays) -> Advance:
    """The limit: as many multiplications as forward and backward have in their products; the input has no gradient."""
    per_token = 4 * HIDDEN * (2 * INPUTS + 3 * HIDDEN)
    return limits.products(PORTION * BATCH * TIME * per_token)


CASE = Case(
    name="lstm",
    work=f"gradient of an LSTM, {INPUTS} inputs, {HIDDEN} units, {TIME} steps, batch {BATCH}",
    unit="gradients/s",
    portion=PORTION,
    start=start,
    rivals={
        "jann": jann,
        "scan": scan,
        "linen": linen,
        "torch": partial(torch, batch_first=False),
        "torch_batch_first": partial(torch, batch_first=True),
        "products": products,
    },
    reference="jann",
    bars=(Bar("jann", "torch", times=1.2), Bar("jann", "scan", times=1.2)),
    checked=2,
)
