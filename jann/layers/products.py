"""Matrix products, of which those of bfloat16 on a CPU with AMX are told to XLA in the one way that uses it.

That multiplies two matrices of bfloat16, the first of which lies as it is written, to float32: at six times the rate of
float32. What goes to bfloat16, has one side in float32 or turns the first matrix is made one of float32 before, at less
than its rate, and JAX's rules for gradients lead to all three. So this has its own.
"""

import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching, mlir

from jann.layers.dtypes import along, wide_dtype

ROWS = 8  # as which a single row is multiplied: with one, the other factor is read at a quarter of the rate or less


def matmul(
    a: jax.Array, b: jax.Array, *, first_turned: bool = False, second_turned: bool = False, wide: bool = False
) -> jax.Array:
    """a[..., rows, inner] b[inner, columns] or b[..., inner, columns] -> [..., rows, columns], in the dtype of both

    first_turned, second_turned:  that one is given with its last two axes exchanged
    wide:                         the result is in float32 at least, as the sums are
    """
    if not fast_halves(a):
        dtype = wide_dtype(a) if wide else None
        if second_turned and a.ndim == b.ndim == 2:  # a swap of axes may be done, by copying, each time
            return lax.dot_general(a, b, (((0 if first_turned else 1,), (1,)), ((), ())), preferred_element_type=dtype)
        if first_turned:
            letters = "...ir," + ("...ci" if second_turned else "...ic") + "->...rc"
            return jnp.einsum(letters, a, b, preferred_element_type=dtype)
        return jnp.matmul(a, b.swapaxes(-1, -2) if second_turned else b, preferred_element_type=dtype)
    options = {"first_turned": first_turned, "second_turned": second_turned, "wide": wide}
    if b.ndim == 2 < a.ndim:
        if first_turned:
            return matmul(a, jnp.broadcast_to(b, (*a.shape[:-2], *b.shape)), **options)
        y = matmul(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b, **options)
        return y.reshape(*a.shape[:-1], y.shape[-1])
    dtype = jnp.float32 if wide else a.dtype
    if a.shape[-2] == 1 and not first_turned:
        rows = jnp.broadcast_to(a, (*a.shape[:-2], ROWS, a.shape[-1]))
        if second_turned:
            return _bind(b, rows, dtype, second_turned=True)[..., :1].swapaxes(-1, -2)
        return _bind(rows, b, dtype)[..., :1, :]
    return _bind(a, b, dtype, first_turned, second_turned)


def plus_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y[..., *features] + bias[*features]"""
    return _plus(y, bias) if fast_halves(y) and y.ndim > bias.ndim else y + along(bias, y)


@jax.custom_jvp
def _plus(y, bias):
    return y + along(bias, y)


@_plus.defjvp
def _plus_rule(values, changes):
    """The bias's gradient is a sum over rows, which XLA takes nine times as long for as for the product with ones."""
    (y, bias), (dy, dbias) = values, changes
    ones = jnp.ones((math.prod(y.shape[: y.ndim - bias.ndim]), 1), y.dtype)
    return _plus(y, bias), dy + _bind(ones, dbias.astype(y.dtype).reshape(1, -1), y.dtype).reshape(y.shape)


def fast_halves(x: jax.Array) -> bool:
    """Whether x is of bfloat16, on a CPU with instructions for it that XLA uses: Intel's AMX.

    Not among several devices: over those XLA splits the products that it knows.
    """
    return x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu" and jax.device_count() == 1 and _has_amx()


@functools.cache
def _has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:  # there is none but on Linux
        return False


def _bind(a: jax.Array, b: jax.Array, dtype: Any, first_turned: bool = False, second_turned: bool = False) -> jax.Array:
    """a[*lead, rows, inner], b[*lead, inner, columns], or turned, -> [*lead, rows, columns]"""
    return half_matmul.bind(a, b, dtype=jnp.dtype(dtype), first_turned=first_turned, second_turned=second_turned)


def _multiplied(a, b, *, dtype, first_turned, second_turned):
    a = _turned(a) if first_turned else a
    lead = tuple(range(a.ndim - 2))
    inner = (a.ndim - 1,), (b.ndim - 1 if second_turned else b.ndim - 2,)
    return lax.dot_general(a, b, (inner, (lead, lead)), preferred_element_type=jnp.float32).astype(dtype)


def _turned(x):
    """x[*lead, rows, columns] with the last two axes exchanged, in a way that XLA cannot join to the product"""
    if x.size == 0 or 1 in x.shape[-2:]:
        return x.swapaxes(-1, -2)
    first = x[(0,) * x.ndim]
    always = (first <= first) | jnp.isnan(first)  # XLA does not know that, so what comes of it lies as it is written
    shape = (*x.shape[:-2], x.shape[-1], x.shape[-2])
    return lax.cond(always, lambda x: x.swapaxes(-1, -2), lambda x: jnp.zeros(shape, x.dtype), x)


def _shape(a, b, *, dtype, first_turned, second_turned):
    rows, columns = a.shape[-1 if first_turned else -2], b.shape[-2 if second_turned else -1]
    return jax.core.ShapedArray((*a.shape[:-2], rows, columns), dtype)


def _gradient_of_first(g, a, b, *, dtype, first_turned, second_turned):
    g, out = g.astype(b.dtype), a.aval.dtype
    if first_turned:
        return _bind(b, g, out, first_turned=second_turned, second_turned=True)
    return _bind(g, b, out, second_turned=not second_turned)


def _gradient_of_second(g, a, b, *, dtype, first_turned, second_turned):
    g, out = g.astype(a.dtype), b.aval.dtype
    if second_turned:
        return _bind(g, a, out, first_turned=True, second_turned=first_turned)
    return _bind(a, g, out, first_turned=not first_turned)


def _batched(arguments, axes, *, dtype, first_turned, second_turned):
    options = {"dtype": dtype, "first_turned": first_turned, "second_turned": second_turned}
    size = next(x.shape[axis] for x, axis in zip(arguments, axes, strict=True) if axis is not None)
    a, b = (
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(arguments, axes, strict=True)
    )
    if axes[1] is None and a.ndim == 3 and not first_turned:  # rows of one product
        y = _bind(a.reshape(a.shape[0] * a.shape[1], a.shape[2]), arguments[1], **options)
        return y.reshape(*a.shape[:2], y.shape[-1]), 0
    return _bind(a, b, **options), 0


half_matmul = jax.extend.core.Primitive("half_matmul")
half_matmul.def_impl(jax.jit(_multiplied, static_argnames=("dtype", "first_turned", "second_turned")))
half_matmul.def_abstract_eval(_shape)
mlir.register_lowering(half_matmul, mlir.lower_fun(_multiplied, multiple_results=False))
ad.defbilinear(half_matmul, _gradient_of_first, _gradient_of_second)
batching.primitive_batchers[half_matmul] = _batched
