"""Matrix products and look-ups."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jann.core import Param, ShapeError, Spec
from jann.layers.activations import dropout
from jann.layers.dtypes import floats, wide_dtype
from jann.layers.initializers import lecun_normal, small_normal
from jann.layers.low_rank import LowRank
from jann.layers.products import matmul, plus_bias
from jann.layers.turned import Turned
from jann.trees import Tree

Axes = int | dict[str, int]
PARTS = 4  # in which a single row is multiplied on a CPU


def linear_spec(inputs: Axes, outputs: Axes, bias: bool = True, init=lecun_normal) -> Spec:
    """Declares `weight[inputs, outputs]` and `bias[outputs]`; either may be axes by name, {"heads": 8, "head": 64}."""
    inputs = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    outputs = outputs if isinstance(outputs, dict) else {"outputs": outputs}
    if len(inputs) + len(outputs) > 2:
        init = _of_matrix(init, len(inputs))
    weight = Param({**inputs, **outputs}, init, into=tuple(inputs))
    return {"weight": weight, "bias": Param(outputs)} if bias else {"weight": weight}


@functools.lru_cache(maxsize=256)  # so that equal specs have equal initialisers
def _of_matrix(init: Callable, axes: int) -> Callable:
    """An initialiser that sees [all inputs, all outputs], since those of JAX would take two axes for them."""

    @functools.wraps(init)  # `jann.init` asks whose it is
    def draw(key, shape, dtype=jnp.float32):
        return init(key, (math.prod(shape[:axes]), math.prod(shape[axes:])), dtype).reshape(shape)

    return draw


def linear(p: Tree, x: jax.Array, axes: int = 1) -> jax.Array:
    """x[..., *inputs] -> x W + b, [..., *outputs]; the last `axes` axes of x are summed over

    The weight may be a `LowRank` kernel: then x W + scale (x down) up + b; or a `Turned` one.
    """
    weight = p["weight"]
    x = floats(x, "linear")
    inputs = weight.shape[:axes]
    if x.shape[x.ndim - axes :] != inputs or x.ndim < axes:
        wanted = ", ".join(map(str, inputs))
        raise ShapeError(
            f"a weight of shape {list(weight.shape)} takes inputs[..., {wanted}], got {list(x.shape)}", weight
        )
    if isinstance(weight, LowRank):
        low = _product(dropout(x, weight.rate, weight.key), weight.down, axes) * weight.scale.astype(x.dtype)
        y = _product(x, weight.base, axes) + _product(low, weight.up, 1)
    else:
        y = _product(x, weight, axes)
    return plus_bias(y, p["bias"]) if "bias" in p else y


def _product(x: jax.Array, weight: jax.Array, axes: int) -> jax.Array:
    lead, outputs = x.shape[: x.ndim - axes], weight.shape[axes:]
    inputs = math.prod(weight.shape[:axes])
    if isinstance(weight, Turned):
        y = matmul(x.reshape(math.prod(lead), inputs), weight.matrix.astype(x.dtype), second_turned=True)
        return y.reshape(*lead, *outputs)
    matrix = weight.astype(x.dtype).reshape(inputs, -1)
    if math.prod(lead) == 1 and inputs % PARTS == 0 and jax.default_backend() == "cpu":
        # One row: XLA reads the weight with one core. In parts, as a batch of products, all cores do.
        # Of bfloat16 too: in a loop, XLA then makes float32 of the weight once.
        parts = x.reshape(PARTS, 1, -1), matrix.reshape(PARTS, inputs // PARTS, -1)
        y = jnp.matmul(*parts, preferred_element_type=wide_dtype(x)).sum(0)
        return y.astype(x.dtype).reshape(*lead, *outputs)
    if _as_rows():
        return matmul(x.reshape(math.prod(lead), inputs), matrix).reshape(*lead, *outputs)
    return (x.reshape(*lead, inputs) @ matrix).reshape(*lead, *outputs)


def embedding_spec(vocab: int, embed: int, init=small_normal) -> Spec:
    """Declares `table[vocab, embed]`."""
    return {"table": Param({"vocab": vocab, "embed": embed}, init)}


def embedding(p: Tree, ids: jax.Array) -> jax.Array:
    """ids[...] integers -> rows of the table, [..., embed]; an id outside the vocabulary gives NaN."""
    ids = jnp.asarray(ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"embedding takes integer ids, got {ids.dtype}")
    rows = jnp.take(p["table"], ids, axis=0, mode="fill", fill_value=jnp.nan)
    return jnp.where((ids < 0)[..., None], jnp.nan, rows)


def unembedding(p: Tree, x: jax.Array) -> jax.Array:
    """x[..., embed] -> its product with each row of the table, [..., vocab]: logits of a model with tied weights"""
    table = p["table"].astype(x.dtype)
    if _as_rows():
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        return matmul(rows, table, second_turned=True).reshape(*x.shape[:-1], table.shape[0])
    return x @ table.T


def _as_rows() -> bool:
    """Whether all leading axes are made one, as with more XLA on a CPU copies both sides to form the weight's gradient.

    Axes that may be split over devices, such as batch and time, are not.
    """
    return jax.default_backend() == "cpu" and jax.device_count() == 1
