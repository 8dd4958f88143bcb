"""Gated residual networks, and the selection of variables that is made of them.

Lim, Arik, Loeff and Pfister 2021, "Temporal fusion transformers", arXiv:1912.09363, sections 4.1 and 4.2.
"""

import jax
import jax.numpy as jnp

from jann.core import Spec, stack
from jann.depth import depth_keys
from jann.drawing import fold
from jann.layers.activations import dropout
from jann.layers.dense import linear, linear_spec
from jann.layers.dtypes import wide_dtype
from jann.layers.norms import layer_norm, layer_norm_spec
from jann.trees import Tree


def gated_skip_spec(inputs: int, outputs: int) -> Spec:
    """Declares `gate` (inputs -> gates and values of the outputs) and `norm`."""
    return {"gate": linear_spec(inputs, {"halves": 2, "outputs": outputs}), "norm": layer_norm_spec(outputs)}


def gated_skip(
    p: Tree, x: jax.Array, skip: jax.Array, rate: float | jax.Array = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """x[..., inputs], skip[..., outputs] -> LayerNorm(skip + σ(gates of x) · values of x), [..., outputs]

    A closed gate leaves the shortcut alone. rate, key: dropout of x.
    """
    both = linear(p["gate"], dropout(x, rate, key))
    return layer_norm(p["norm"], skip + jax.nn.sigmoid(both[..., 0, :]) * both[..., 1, :])


def gated_residual_spec(inputs: int, hidden: int, outputs: int | None = None, context: int | None = None) -> Spec:
    """Declares `dense`, `hidden` and `out`; `context` where there is one, `skip` where outputs differ from inputs."""
    outputs = inputs if outputs is None else outputs
    spec = {
        "dense": linear_spec(inputs, hidden),
        "hidden": linear_spec(hidden, hidden),
        "out": gated_skip_spec(hidden, outputs),
    }
    if context is not None:
        spec["context"] = linear_spec(context, hidden, bias=False)
    return spec if inputs == outputs else {**spec, "skip": linear_spec(inputs, outputs)}


def gated_residual(
    p: Tree,
    x: jax.Array,
    context: jax.Array | None = None,
    rate: float | jax.Array = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """x[..., inputs], context[..., features] or None -> gated_skip(W ELU(W' x + W'' context), x), [..., outputs]"""
    hidden = linear(p["dense"], x)
    if context is not None:
        hidden = hidden + linear(p["context"], context)
    hidden = linear(p["hidden"], jax.nn.elu(hidden))
    return gated_skip(p["out"], hidden, linear(p["skip"], x) if "skip" in p else x, rate, key)


def variable_selection_spec(variables: int, hidden: int, context: int | None = None) -> Spec:
    """Declares `weights`, a gated residual network of all variables, and `each`, one for each of them, stacked."""
    return {
        "weights": gated_residual_spec(variables * hidden, hidden, variables, context),
        "each": stack(gated_residual_spec(hidden, hidden), variables=variables),
    }


def variable_selection(
    p: Tree,
    x: jax.Array,
    context: jax.Array | None = None,
    rate: float | jax.Array = 0.0,
    key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """x[..., variables, hidden] -> (their weighted sum [..., hidden], the weights [..., variables], which sum to 1)"""
    flat = jax.lax.collapse(x, -2)
    scores = gated_residual(p["weights"], flat, context, rate, fold(key, "weights"))
    weights = jax.nn.softmax(scores.astype(wide_dtype(scores)))

    def one(p, x, key):
        return gated_residual(p, x, rate=rate, key=key)

    keys = depth_keys(fold(key, "each"), x.shape[-2])
    each = jax.vmap(one, in_axes=(0, -2, None if keys is None else 0), out_axes=-2)(p["each"], x, keys)
    return jnp.einsum("...v,...vh->...h", weights.astype(x.dtype), each), weights
