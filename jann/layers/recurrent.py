"""Recurrent cells over whole sequences: Elman's RNN, the LSTM and the GRU.

Time is a loop. What comes from the input is one matrix product before it, and the gradient of the recurrent
weights is one matrix product after it: the loop backward gathers the gradients of the pre-activations, and adds nothing
up over time. Forward mode, second derivatives and `vmap` work as well.

A carry is a dict of arrays [..., hidden], sized from the input: "hidden", and for the LSTM "cell", which as a sum over
time is float32 at least.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jann.core import Param, ShapeError, Spec
from jann.layers.dense import linear, linear_spec
from jann.layers.dtypes import floats, wide_dtype
from jann.trees import Tree

Carry = dict[str, jax.Array]

# A product of fewer rows is summed in another order by XLA's CPU backend, and a sequence fed in pieces would equal the
# whole up to rounding only. A few rows more cost little.
FEW = 64

orthogonal = jax.nn.initializers.orthogonal()


def rnn_spec(inputs: int, hidden: int) -> Spec:
    """Declares `input` {weight[inputs, hidden], bias[hidden]} and `recurrent` {weight[carry, hidden]} (orthogonal).

    The bias is the sum of PyTorch's two.
    """
    recurrent = Param({"carry": hidden, "hidden": hidden}, orthogonal, into=("carry",))
    return {"input": linear_spec(inputs, {"hidden": hidden}), "recurrent": {"weight": recurrent}}


def rnn(
    p: Tree,
    x: jax.Array,
    carry: Carry | None = None,
    lengths: jax.Array | None = None,
    reverse: bool = False,
    activation: Callable = jnp.tanh,
) -> tuple[jax.Array, Carry]:
    """x[..., time, inputs] -> (h[..., time, hidden], carry) with h_t = activation(W x_t + U h_{t-1} + b) (Elman 1990)

    carry, lengths, reverse: as in `lstm`; the carry is {"hidden": [..., hidden]}
    activation:              of each value alone; arrays that it holds itself are constants, to which JAX gives no
                             gradient, but an error
    """
    return _over_time(_elman(activation), p, x, carry, lengths, reverse)


def rnn_cell(
    p: Tree, x: jax.Array, carry: Carry | None = None, activation: Callable = jnp.tanh
) -> tuple[jax.Array, Carry]:
    """One step of `rnn`: x[..., inputs] -> (h[..., hidden], carry)"""
    return _one_step(_elman(activation), p, x, carry)


def lstm_spec(inputs: int, hidden: int, forget_bias: float = 1.0) -> Spec:
    """Declares `input` {weight[inputs, gates, hidden], bias[gates, hidden]} and
    `recurrent` {weight[carry, gates, hidden]}.

    The gates are in PyTorch's order: input, forget, cell, output; the bias is the sum of its two. Each gate's recurrent
    matrix starts orthogonal, and the biases at zero, but for the forget gate at `forget_bias`, so that a fresh network
    remembers (Jozefowicz et al. 2015).
    """
    return _gated_spec(inputs, hidden, 4, _constant_gate(1, forget_bias))


def lstm(
    p: Tree,
    x: jax.Array,
    carry: Carry | None = None,
    lengths: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, Carry]:
    """x[..., time, inputs] -> (h[..., time, hidden], carry) (Hochreiter and Schmidhuber 1997; Gers et al. 2000)

    i, f, o = σ(W x_t + U h_{t-1} + b), g = tanh(W x_t + U h_{t-1} + b), c_t = f c_{t-1} + i g, h_t = o tanh(c_t),
    with W, U and b of their own for each of i, f, g, o.

    carry:    {"hidden", "cell"}, each [..., hidden]: where to go on from, by default zeros. The carry that comes out
              goes on where the sequence ends: a sequence in pieces equals the whole.
    lengths:  [...] how many steps of each sequence are valid. What follows them is padding: it changes nothing, its
              outputs are zero, and the carry stays as it was after the last valid step. A length of 0 leaves the carry
              as it came. Traced lengths beyond the array count as its end, negative ones as 0.
    reverse:  from the last (valid) step to the first; outputs stay at their places

    Raises ValueError for lengths outside of 0 to time (where they are not traced) or not of the leading axes' shape,
    and ShapeError for inputs or a carry that do not fit.
    """
    return _over_time(LSTM, p, x, carry, lengths, reverse)


def lstm_cell(p: Tree, x: jax.Array, carry: Carry | None = None) -> tuple[jax.Array, Carry]:
    """One step of `lstm`: x[..., inputs] -> (h[..., hidden], carry)"""
    return _one_step(LSTM, p, x, carry)


def gru_spec(inputs: int, hidden: int) -> Spec:
    """Declares `input` {weight[inputs, gates, hidden], bias[gates, hidden]} and
    `recurrent` {weight[carry, gates, hidden], bias[hidden]}.

    The gates are in PyTorch's order: reset, update, new. The sum of its two biases is the input's for reset and update;
    those of new are kept apart, since the reset gate multiplies the recurrent one.
    """
    spec = _gated_spec(inputs, hidden, 3, jax.nn.initializers.zeros)
    return {**spec, "recurrent": {**spec["recurrent"], "bias": Param({"hidden": hidden})}}


def gru(
    p: Tree,
    x: jax.Array,
    carry: Carry | None = None,
    lengths: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, Carry]:
    """x[..., time, inputs] -> (h[..., time, hidden], carry) (Cho et al. 2014, arXiv:1406.1078)

    r, z = σ(W x_t + U h_{t-1} + b), n = tanh(W x_t + b + r (U h_{t-1} + b')), h_t = (1 - z) n + z h_{t-1}, with W, U
    and b of their own for each of r, z, n. The reset gate multiplies after U, as in PyTorch and cuDNN.

    carry, lengths, reverse: as in `lstm`; the carry is {"hidden": [..., hidden]}
    """
    return _over_time(GRU, p, x, carry, lengths, reverse)


def gru_cell(p: Tree, x: jax.Array, carry: Carry | None = None) -> tuple[jax.Array, Carry]:
    """One step of `gru`: x[..., inputs] -> (h[..., hidden], carry)"""
    return _one_step(GRU, p, x, carry)


# what tells the cells apart


class Kind(NamedTuple):
    """One step of a cell, and its derivative.

    carries:  the names of what it carries
    advance:  (z, q, bias, carry) -> (carry, slopes) with z = W x and q = U h, both [batch, gates * hidden]; slopes are
              what the derivative needs, and cost nothing where none is taken
    source:   (dz, dq, dbias, slopes) -> the tangent of the pre-activations, as far as it doesn't come through the carry
    vary:     (source, dq, slopes, dcarry) -> dcarry, linear in source, dq and dcarry
    """

    carries: tuple[str, ...]
    advance: Callable
    source: Callable
    vary: Callable


def _sum(dz, dq, dbias, slopes):
    return dz + dq + lax.broadcast_to_rank(dbias, dz.ndim)


@functools.lru_cache(maxsize=64)  # so that the same activation is the same kind, and compiles once
def _elman(activation: Callable) -> Kind:
    def advance(z, q, bias, carry):
        a = z + q + bias[None]
        h, slope = jax.jvp(activation, (a,), (jnp.ones_like(a),))
        return {"hidden": h}, slope

    def vary(source, dq, slope, dcarry):
        return {"hidden": slope * (source + dq)}

    return Kind(("hidden",), advance, _sum, vary)


def _lstm_advance(z, q, bias, carry):
    # σ(a) = (1 + tanh(a / 2)) / 2, so all gates are one pass of tanh: several times as fast on CPU as a pass for each
    a = z + q + bias[None]
    half = jnp.full(a.shape[-1] // 4, 0.5, a.dtype)
    scale = jnp.concatenate([half, half, 2 * half, half])[None]
    shift = jnp.concatenate([half, half, 0 * half, half])[None]
    i, f, g, o = jnp.split(jnp.tanh(a * scale) * scale + shift, 4, axis=-1)
    before = carry["cell"]
    c = f * before + i * g
    t = jnp.tanh(c)
    slopes = (i * (1 - i) * g, f * (1 - f) * before, i * (1 - g * g), o * (1 - o) * t, f, o * (1 - t * t))
    return {"hidden": o * t, "cell": c}, slopes


def _lstm_vary(source, dq, slopes, dcarry):
    di, df, dg, do = jnp.split(source + dq, 4, axis=-1)
    of_i, of_f, of_g, of_o, f, of_c = slopes
    dc = f * dcarry["cell"] + of_i * di + of_f * df + of_g * dg
    return {"hidden": of_c * dc + of_o * do, "cell": dc}


LSTM = Kind(("hidden", "cell"), _lstm_advance, _sum, _lstm_vary)


def _gru_advance(z, q, bias, carry):
    hidden = carry["hidden"].shape[-1]
    bias, inner = bias[None, : 2 * hidden], bias[None, 2 * hidden :]
    r, u = jnp.split(jax.nn.sigmoid(z[:, : 2 * hidden] + q[:, : 2 * hidden] + bias), 2, axis=-1)
    q = q[:, 2 * hidden :] + inner[:, hidden:]
    n = jnp.tanh(z[:, 2 * hidden :] + inner[:, :hidden] + r * q)
    before = carry["hidden"].astype(u.dtype)
    of_n = (1 - u) * (1 - n * n)
    slopes = (of_n * q * r * (1 - r), (before - n) * u * (1 - u), of_n, r, u)
    return {"hidden": (1 - u) * n + u * before}, slopes


def _gru_source(dz, dq, dbias, slopes):
    *_, r, _ = slopes
    dbias = jnp.split(lax.broadcast_to_rank(dbias, dz.ndim), 4, axis=-1)
    dzr, dzu, dzn = jnp.split(dz, 3, axis=-1)
    dqr, dqu, dqn = jnp.split(dq, 3, axis=-1)
    new = dzn + dbias[2] + r * (dqn + dbias[3])
    return jnp.concatenate([dzr + dqr + dbias[0], dzu + dqu + dbias[1], new], axis=-1)


def _gru_vary(source, dq, slopes, dcarry):
    of_r, of_u, of_n, r, u = slopes
    dr, du, dn = jnp.split(source, 3, axis=-1)
    dqr, dqu, dqn = jnp.split(dq, 3, axis=-1)
    return {"hidden": of_r * (dr + dqr) + of_u * (du + dqu) + of_n * (dn + r * dqn) + u * dcarry["hidden"]}


GRU = Kind(("hidden",), _gru_advance, _gru_source, _gru_vary)


# time


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recur(kind, reverse, z, weight, bias, carry, valid):
    """z[time, batch, gates * hidden] = W x -> (h[time, batch, hidden], carry)

    As a loop over one buffer and not a scan for one reason: the compiler must not see that there is a single step.
    It would write it out without the loop and round it otherwise, and a stream fed step by step would not equal the
    whole bit for bit.
    """
    time = z.shape[0]

    def step(n, state):
        carry, outputs = state
        t = time - 1 - n if reverse else n
        now, on = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, t, 0, keepdims=False), (z, valid))
        new, _ = kind.advance(now, _product(carry["hidden"], weight), bias, carry)
        carry = _kept(on, new, carry)
        return carry, lax.dynamic_update_index_in_dim(outputs, carry["hidden"], t, 0)

    outputs = jnp.zeros((time, *carry["hidden"].shape), carry["hidden"].dtype)
    if time == 0:
        return outputs, carry
    steps = lax.optimization_barrier(jnp.int32(1)) if time == 1 else time
    carry, outputs = lax.fori_loop(0, steps, step, (carry, outputs))
    return outputs, carry


@_recur.defjvp
def _recur_jvp(kind, reverse, primals, tangents):
    """The weight's tangent meets all steps' carries before the scan, so that its transpose, the gradient, is a product
    after it.
    """
    z, weight, bias, carry, valid = primals
    dz, dweight, dbias, dcarry, _ = tangents

    def step(carry, scanned):
        z, valid = scanned
        new, slopes = kind.advance(z, _product(carry["hidden"], weight), bias, carry)
        new = _kept(valid, new, carry)
        return new, (new["hidden"], slopes)

    last, (outputs, slopes) = lax.scan(step, carry, (z, valid), reverse=reverse)
    first = carry["hidden"][None]
    before = jnp.concatenate([outputs[1:], first] if reverse else [first, outputs[:-1]])[: len(outputs)]
    through = _product(before.reshape(math.prod(before.shape[:2]), before.shape[-1]), dweight).reshape(z.shape)
    sources = kind.source(dz, through, dbias, slopes)

    def vary(dcarry, scanned):
        source, slopes, valid = scanned
        new = kind.vary(source, _product(dcarry["hidden"], weight), slopes, dcarry)
        dcarry = _kept(valid, new, dcarry)
        return dcarry, dcarry["hidden"]

    dlast, doutputs = lax.scan(vary, dcarry, (sources, slopes, valid), reverse=reverse)
    return (outputs, last), (doutputs, dlast)


def _product(h, weight):
    return jnp.matmul(h, weight, preferred_element_type=wide_dtype(h))


def _kept(valid, new, old):
    """The new carry in the old one's dtypes; where a step is padding, the old one."""
    new = {name: value.astype(old[name].dtype) for name, value in new.items()}
    return new if valid is None else {name: jnp.where(valid, value, old[name]) for name, value in new.items()}


def _over_time(kind, p, x, carry, lengths, reverse):
    x = floats(x, "a recurrent layer")
    if x.ndim < 2:
        raise ShapeError(f"a recurrent layer takes x[..., time, inputs], got {list(x.shape)}", p["input"]["weight"])
    lead, time = x.shape[:-2], x.shape[-2]
    batch = math.prod(lead)
    hidden = p["recurrent"]["weight"].shape[0]
    carry = _start(kind, carry, lead, hidden, x, p)
    valid = None if lengths is None else _valid(lengths, lead, time)
    batched = x.reshape(batch, time, x.shape[-1])
    if valid is not None:  # so that not even a NaN in the padding comes through
        batched = jnp.where(valid.swapaxes(0, 1), batched, 0)
    # plain matrices are what XLA multiplies fastest on CPU
    rows = batched.swapaxes(0, 1).reshape(time * batch, x.shape[-1])
    if time * batch < FEW:
        rows = jnp.pad(rows, ((0, FEW - time * batch), (0, 0)))
    z, weight, bias = _side_by_side(p, rows)
    z = z[: time * batch].reshape(time, batch, z.shape[-1])
    flat = {name: value.reshape(batch, hidden) for name, value in carry.items()}
    outputs, flat = _recur(kind, reverse, z, weight, bias, flat, valid)
    if valid is not None:
        outputs = jnp.where(valid, outputs, 0)
    carry = {name: value.reshape(*lead, hidden) for name, value in flat.items()}
    return outputs.swapaxes(0, 1).reshape(*lead, time, hidden), carry


def _one_step(kind, p, x, carry):
    x = floats(x, "a recurrent cell")
    carry = _start(kind, carry, x.shape[:-1], p["recurrent"]["weight"].shape[0], x, p)
    flat = {name: lax.collapse(value, 0, -1) for name, value in carry.items()}
    z, weight, bias = _side_by_side(p, lax.collapse(x, 0, -1))
    new, _ = kind.advance(z, _product(flat["hidden"], weight), bias, flat)
    carry = {name: value.reshape(carry[name].shape) for name, value in _kept(None, new, flat).items()}
    return carry["hidden"], carry


def _side_by_side(p, x):
    """x[rows, inputs] -> W x [rows, gates * hidden], and the recurrent weight and all biases with gates side by side

    The input's bias is added in the scan, where it costs nothing; for `x` as a whole it would be a pass through memory.
    """
    weight = p["recurrent"]["weight"]
    z = linear({name: leaf for name, leaf in p["input"].items() if name != "bias"}, x)
    biases = [p["input"]["bias"].reshape(-1), *([p["recurrent"]["bias"]] if "bias" in p["recurrent"] else [])]
    bias = jnp.concatenate(biases).astype(wide_dtype(x))
    return lax.collapse(z, 1), lax.collapse(weight, 1).astype(x.dtype), bias


def _start(kind, carry, lead, hidden, x, p):
    dtypes = {"hidden": x.dtype, "cell": wide_dtype(x)}
    if carry is None:
        return {name: jnp.zeros((*lead, hidden), dtypes[name]) for name in kind.carries}
    shapes = {name: getattr(value, "shape", None) for name, value in carry.items()} if isinstance(carry, dict) else {}
    wanted = dict.fromkeys(kind.carries, (*lead, hidden))
    if shapes != wanted:
        got = {name: list(shape or ()) for name, shape in shapes.items()} or type(carry).__name__
        raise ShapeError(
            f"inputs {list(x.shape)} go on from a carry {({name: list(s) for name, s in wanted.items()})}, got {got}; "
            f"carry=None starts from zeros",
            p["recurrent"]["weight"],
        )
    return {name: carry[name].astype(dtypes[name]) for name in kind.carries}


def _valid(lengths: Any, lead: tuple[int, ...], time: int) -> jax.Array:
    """lengths[...] -> whether a step is valid, [time, batch, 1]"""
    lengths = jnp.asarray(lengths)
    if lengths.shape != lead or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"lengths must be integers of shape {list(lead)}, one a sequence, got {lengths.dtype} {list(lengths.shape)}"
        )
    if not isinstance(lengths, jax.core.Tracer) and lengths.size:
        known = np.asarray(lengths)  # by NumPy, for within jit JAX would trace this too
        if known.min() < 0 or known.max() > time:
            raise ValueError(f"lengths must be from 0 to {time}, the steps of x, got {known.min()} to {known.max()}")
    return (jnp.arange(time)[:, None] < lengths.reshape(1, -1))[..., None]


# how they start


def _gated_spec(inputs: int, hidden: int, gates: int, bias: Callable) -> Spec:
    outputs = {"gates": gates, "hidden": hidden}
    weight = Param({"carry": hidden, **outputs}, _orthogonal_gates, into=("carry",))
    return {"input": {**linear_spec(inputs, outputs), "bias": Param(outputs, bias)}, "recurrent": {"weight": weight}}


def _orthogonal_gates(key, shape, dtype=jnp.float32):
    carry, gates, hidden = shape
    draws = jax.vmap(lambda k: orthogonal(k, (carry, hidden), dtype))(jax.random.split(key, gates))
    return draws.swapaxes(0, 1)


@functools.lru_cache(maxsize=64)  # so that equal specs have equal initialisers
def _constant_gate(gate: int, value: float) -> Callable:
    def draw(key, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype).at[gate].set(value)

    return draw
