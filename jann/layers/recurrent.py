"""Recurrent cells over whole sequences: Elman's RNN, the LSTM and the GRU.

Time is a `lax.scan`. What comes from the input is one matrix product before it, and the gradient of the recurrent
weights is one matrix product after it: the scan backward gathers the gradients of the pre-activations, and adds nothing
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
from jax import lax

from jann.core import Param, ShapeError, Spec
from jann.layers.dense import linear, linear_spec
from jann.layers.dtypes import floats, wide_dtype
from jann.trees import Tree

Carry = dict[str, jax.Array]
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

    carries:    the names of what it carries
    advance:    (z, q, carry) -> (carry, slopes) with z[batch, gates * hidden] from the input, q from the recurrent
                weights; slopes are what the derivative needs, and cost nothing where none is taken
    source:     (dz, dq, slopes) -> what `vary` takes of tangents that do not come through the carry
    vary:       (source, dq, slopes, dcarry) -> dcarry, linear in source, dq and dcarry
    """

    carries: tuple[str, ...]
    advance: Callable
    source: Callable
    vary: Callable


@functools.lru_cache(maxsize=64)  # so that the same activation is the same kind, and compiles once
def _elman(activation: Callable) -> Kind:
    def advance(z, q, carry):
        a = z + q
        h, slope = jax.jvp(activation, (a,), (jnp.ones_like(a),))
        return {"hidden": h}, slope

    def vary(source, dq, slope, dcarry):
        return {"hidden": slope * (source + dq)}

    return Kind(("hidden",), advance, lambda dz, dq, slope: dz + dq, vary)


def _lstm_advance(z, q, carry):
    i, f, g, o = jnp.split(z + q, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
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


LSTM = Kind(("hidden", "cell"), _lstm_advance, lambda dz, dq, slopes: dz + dq, _lstm_vary)


def _gru_advance(z, q, carry):
    zr, zu, zn = jnp.split(z, 3, axis=-1)
    qr, qu, qn = jnp.split(q, 3, axis=-1)
    r, u = jax.nn.sigmoid(zr + qr), jax.nn.sigmoid(zu + qu)
    n = jnp.tanh(zn + r * qn)
    before = carry["hidden"].astype(u.dtype)
    of_n = (1 - u) * (1 - n * n)
    slopes = (of_n * qn * r * (1 - r), (before - n) * u * (1 - u), of_n, r, u)
    return {"hidden": (1 - u) * n + u * before}, slopes


def _gru_source(dz, dq, slopes):
    *_, r, _ = slopes
    dqr, dqu, dqn = jnp.split(dq, 3, axis=-1)
    return dz + jnp.concatenate([dqr, dqu, r * dqn], axis=-1)


def _gru_vary(source, dq, slopes, dcarry):
    of_r, of_u, of_n, r, u = slopes
    dr, du, dn = jnp.split(source, 3, axis=-1)
    dqr, dqu, dqn = jnp.split(dq, 3, axis=-1)
    return {"hidden": of_r * (dr + dqr) + of_u * (du + dqu) + of_n * (dn + r * dqn) + u * dcarry["hidden"]}


GRU = Kind(("hidden",), _gru_advance, _gru_source, _gru_vary)


# time


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recur(kind: Kind, reverse: bool, z: jax.Array, recurrent: Tree, carry: Carry, valid: jax.Array | None):
    """z[time, batch, gates * hidden] from the input -> (h[time, batch, hidden], carry)"""

    def step(carry, scanned):
        z, valid = scanned
        new, _ = kind.advance(z, _product(recurrent, carry["hidden"]), carry)
        carry = _kept(valid, new, carry)
        return carry, carry["hidden"]

    carry, outputs = lax.scan(step, carry, (z, valid), reverse=reverse)
    return outputs, carry


@_recur.defjvp
def _recur_jvp(kind, reverse, primals, tangents):
    """The tangent of the recurrent weights meets every step's carry before the scan, so that its transpose, the
    gradient, is a product after it.
    """
    z, recurrent, carry, valid = primals
    dz, drecurrent, dcarry, _ = tangents

    def step(carry, scanned):
        z, valid = scanned
        new, slopes = kind.advance(z, _product(recurrent, carry["hidden"]), carry)
        new = _kept(valid, new, carry)
        return new, (new["hidden"], carry["hidden"], slopes)

    last, (outputs, before, slopes) = lax.scan(step, carry, (z, valid), reverse=reverse)
    sources = kind.source(dz, _product(drecurrent, before), slopes)

    def vary(dcarry, scanned):
        source, slopes, valid = scanned
        dq = _product({"weight": recurrent["weight"]}, dcarry["hidden"])
        dcarry = _kept(valid, kind.vary(source, dq, slopes, dcarry), dcarry)
        return dcarry, dcarry["hidden"]

    dlast, doutputs = lax.scan(vary, dcarry, (sources, slopes, valid), reverse=reverse)
    return (outputs, last), (doutputs, dlast)


def _product(recurrent: Tree, h: jax.Array) -> jax.Array:
    """h[..., batch, hidden] -> h U, [..., batch, gates * hidden], with the bias at the last gate where there is one"""
    weight = recurrent["weight"]
    q = jnp.matmul(h, weight, preferred_element_type=wide_dtype(h))
    if "bias" in recurrent:
        bias = jnp.pad(recurrent["bias"], (weight.shape[1] - recurrent["bias"].shape[0], 0))
        q = q + lax.broadcast_to_rank(bias, q.ndim)
    return q


def _kept(valid, new, old):
    """The new carry in the old one's dtypes; where a step is padding, the old one."""
    new = {name: value.astype(old[name].dtype) for name, value in new.items()}
    return new if valid is None else {name: jnp.where(valid, value, old[name]) for name, value in new.items()}


def _over_time(kind, p, x, carry, lengths, reverse):
    x = floats(x, "a recurrent layer")
    if x.ndim < 2:
        raise ShapeError(f"a recurrent layer takes x[..., time, inputs], got {list(x.shape)}", p["input"]["weight"])
    lead, time = x.shape[:-2], x.shape[-2]
    hidden = p["recurrent"]["weight"].shape[0]
    carry = _start(kind, carry, lead, hidden, x, p)
    valid = None if lengths is None else _valid(lengths, lead, time)
    batched = x.reshape(math.prod(lead), time, x.shape[-1])
    if valid is not None:  # so that not even a NaN in the padding comes through
        batched = jnp.where(valid.swapaxes(0, 1), batched, 0)
    z, recurrent = _from_input(p, batched.swapaxes(0, 1))
    flat = {name: value.reshape(-1, hidden) for name, value in carry.items()}
    outputs, flat = _recur(kind, reverse, z, recurrent, flat, valid)
    if valid is not None:
        outputs = jnp.where(valid, outputs, 0)
    carry = {name: value.reshape(*lead, hidden) for name, value in flat.items()}
    return outputs.swapaxes(0, 1).reshape(*lead, time, hidden), carry


def _one_step(kind, p, x, carry):
    x = floats(x, "a recurrent cell")
    carry = _start(kind, carry, x.shape[:-1], p["recurrent"]["weight"].shape[0], x, p)
    z, recurrent = _from_input(p, x)
    new, _ = kind.advance(z, _product(recurrent, carry["hidden"]), carry)
    carry = _kept(None, new, carry)
    return carry["hidden"], carry


def _from_input(p, x):
    """x[..., inputs] -> W x + b with the gates side by side, [..., gates * hidden], and so the recurrent weights"""
    z = linear(p["input"], x)
    weight = p["recurrent"]["weight"]
    z = z.reshape(*x.shape[:-1], -1)
    recurrent = {"weight": weight.reshape(weight.shape[0], -1)}
    if "bias" in p["recurrent"]:
        recurrent["bias"] = p["recurrent"]["bias"]
    return z, jax.tree.map(lambda leaf: leaf.astype(x.dtype), recurrent)


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
    if not isinstance(lengths, jax.core.Tracer) and lengths.size and (lengths.min() < 0 or lengths.max() > time):
        raise ValueError(f"lengths must be from 0 to {time}, the steps of x, got {lengths.min()} to {lengths.max()}")
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
