"""Recurrent layers against their formulas, their own cells step by step, and what must not change them."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.analysis import check_gradients
from jann.core import ShapeError, init
from jann.layers import gru, gru_cell, gru_spec, lstm, lstm_cell, lstm_spec, rnn, rnn_cell, rnn_spec

INPUTS, HIDDEN, TIME = 3, 5, 7
KINDS = {"rnn": (rnn_spec, rnn, rnn_cell), "lstm": (lstm_spec, lstm, lstm_cell), "gru": (gru_spec, gru, gru_cell)}
kinds = pytest.mark.parametrize("kind", KINDS)


def made(kind, inputs=INPUTS, hidden=HIDDEN):
    """Parameters with biases other than zero."""
    params = init(KINDS[kind][0](inputs, hidden), jax.random.key(1))
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noisy = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(treedef, noisy)


@pytest.fixture
def x(key):
    return jax.random.normal(key, (2, TIME, INPUTS))


def carry_of(kind, *leading):
    names = ("hidden", "cell") if kind == "lstm" else ("hidden",)
    return {name: jax.random.normal(jax.random.key(i), (*leading, HIDDEN)) for i, name in enumerate(names)}


def by_cells(kind, p, x, carry=None):
    """The sequence through the cell, a step at a time: plain code, which JAX differentiates by itself."""
    outputs = []
    for t in range(x.shape[-2]):
        h, carry = KINDS[kind][2](p, x[..., t, :], carry)
        outputs.append(h)
    return jnp.stack(outputs, -2), carry


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@kinds
def test_one_step_of_the_published_formula(kind, x):
    p, before = made(kind), carry_of(kind, 2)
    h = np.asarray(before["hidden"])
    w = np.asarray(p["input"]["weight"]).reshape(INPUTS, -1, HIDDEN)
    u = np.asarray(p["recurrent"]["weight"]).reshape(HIDDEN, -1, HIDDEN)
    b = np.asarray(p["input"]["bias"]).reshape(-1, HIDDEN)
    z = [np.asarray(x[:, 0]) @ w[:, k] + b[k] for k in range(len(b))]
    q = [h @ u[:, k] for k in range(len(b))]
    if kind == "rnn":
        want = {"hidden": np.tanh(z[0] + q[0])}
    elif kind == "lstm":
        i, f, o = (sigmoid(z[k] + q[k]) for k in (0, 1, 3))
        cell = f * np.asarray(before["cell"]) + i * np.tanh(z[2] + q[2])
        want = {"hidden": o * np.tanh(cell), "cell": cell}
    else:
        r, update = sigmoid(z[0] + q[0]), sigmoid(z[1] + q[1])
        new = np.tanh(z[2] + r * (q[2] + np.asarray(p["recurrent"]["bias"])))
        want = {"hidden": (1 - update) * new + update * h}
    for output, carry in (
        jax.jit(KINDS[kind][2])(p, x[:, 0], before),
        jax.jit(KINDS[kind][1])(p, x[:, :1], before),
    ):
        np.testing.assert_allclose(output.reshape(2, HIDDEN), want["hidden"], rtol=1e-5, atol=1e-6)
        assert carry.keys() == want.keys()
        for name in want:
            np.testing.assert_allclose(carry[name], want[name], rtol=1e-5, atol=1e-6)


@kinds
def test_derivatives_are_those_of_the_cells(kind, x):
    """Reverse, forward and second derivatives, for parameters, inputs and the carry that comes in."""
    p, before = made(kind), carry_of(kind, 2)
    weights = jax.random.normal(jax.random.key(5), (2, TIME, HIDDEN))

    def loss(run, args):
        outputs, carry = run(*args)
        return (weights * outputs).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(carry))

    def derivatives(run, args, tangents):
        grad = jax.grad(lambda a: loss(run, a))
        along = jax.jvp(grad, (args,), (tangents,))
        return *along, jax.jvp(lambda a: loss(run, a), (args,), (tangents,))[1]

    args = (p, x, before)
    tangents = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(6), leaf.shape), args)
    ours = jax.jit(lambda a, t: derivatives(KINDS[kind][1], a, t))(args, tangents)
    plain = jax.jit(lambda a, t: derivatives(lambda *a: by_cells(kind, *a), a, t))(args, tangents)
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@kinds
def test_gradients_with_padding_and_in_reverse_against_finite_differences(kind, x):
    run, lengths = KINDS[kind][1], np.array([4, 0])

    def loss(p, x):
        outputs, carry = run(p, x, lengths=lengths, reverse=True)
        return (outputs**2).sum() + sum(jnp.sin(leaf).sum() for leaf in carry.values())

    errors = check_gradients(lambda args: loss(*args), (made(kind), x), tolerance=1e-5)
    assert len(errors) >= 4


@pytest.mark.parametrize(
    ("kind", "lead", "time", "inputs", "hidden"),
    # few rows, tiny widths and single steps are where a compiler rounds in another way
    [("rnn", (), 9, 7, 9), ("lstm", (6,), 11, 5, 7), ("gru", (3,), 25, 300, 100), ("gru", (1,), 5, 12, 4)],
)
def test_pieces_equal_the_whole_bit_for_bit(kind, lead, time, inputs, hidden, key):
    p = made(kind, inputs, hidden)
    x = jax.random.normal(key, (*lead, time, inputs))
    run = jax.jit(KINDS[kind][1])
    whole, end = run(p, x)
    for cuts in ((0, 2, time - 1, time), range(time + 1)):
        carry, pieces = None, []
        for a, b in pairwise(cuts):
            outputs, carry = run(p, x[..., a:b, :], carry)
            pieces.append(outputs)
        np.testing.assert_array_equal(np.concatenate(pieces, -2), whole)
        for name in end:
            np.testing.assert_array_equal(carry[name], end[name])


@pytest.mark.parametrize(("kind", "reverse"), [("rnn", True), ("lstm", False), ("gru", True)])
def test_padding_never_leaks(kind, reverse, key):
    """Not even a NaN in it: outputs, carry and gradients are those of each sequence alone, cut at its length."""
    p, lengths = made(kind), np.array([TIME, 3, 0])
    x = np.asarray(jax.random.normal(key, (3, TIME, INPUTS)))
    before = carry_of(kind, 3)
    padded = np.where((np.arange(TIME) < lengths[:, None])[..., None], x, np.nan)

    def loss(p, x, carry, lengths):
        outputs, carry = KINDS[kind][1](p, x, carry, lengths, reverse)
        return (outputs**2).sum() + sum((3 * leaf).sum() for leaf in carry.values()), (outputs, carry)

    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, (outputs, after)), (of_p, of_x) = both(p, padded, before, lengths)
    (_, (moved, _)), _ = both(p, np.where(np.isnan(padded), 1e3, padded), before, lengths)
    np.testing.assert_array_equal(moved, outputs)
    total = jax.tree.map(jnp.zeros_like, p)
    for n, length in enumerate(lengths):
        np.testing.assert_array_equal(outputs[n, length:], 0)
        np.testing.assert_array_equal(of_x[n, length:], 0)
        if length == 0:
            jax.tree.map(lambda a, b, n=n: np.testing.assert_array_equal(a[n], b[n]), after, before)
            continue
        one = jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], before)
        (_, (alone, carry)), (grad, grad_x) = both(p, x[n : n + 1, :length], one, None)
        np.testing.assert_allclose(outputs[n, :length], alone[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(of_x[n, :length], grad_x[0], rtol=1e-4, atol=1e-5)
        for name in carry:
            np.testing.assert_allclose(after[name][n], carry[name][0], rtol=1e-5, atol=1e-6)
        total = jax.tree.map(jnp.add, total, grad)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), of_p, total)


def test_reverse_reads_from_the_end_of_the_valid_part(x):
    p, lengths = made("gru"), np.array([TIME, 4])
    backward, end = gru(p, x, lengths=lengths, reverse=True)
    for n, length in enumerate(lengths):
        forward, carry = gru(p, x[n, :length][::-1])
        np.testing.assert_allclose(backward[n, :length], forward[::-1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(end["hidden"][n], carry["hidden"], rtol=1e-5, atol=1e-6)


@kinds
def test_leading_axes_and_an_ensemble(kind, key):
    run = KINDS[kind][1]
    x = jax.random.normal(key, (2, 3, 4, INPUTS))
    lengths = np.array([[4, 2, 0], [1, 4, 3]])
    many = [made(kind), jax.tree.map(lambda leaf: leaf * 0.5, made(kind))]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    ours, carry = jax.jit(jax.vmap(lambda p, x, lengths: run(p, x, lengths=lengths)))(stacked, x, lengths)
    together = jax.jit(run)(many[0], x, lengths=lengths)[0]
    assert carry["hidden"].shape == (2, 3, HIDDEN)
    for n in range(2):
        alone, _ = jax.jit(run)(many[n], x[n], lengths=lengths[n])
        np.testing.assert_allclose(ours[n], alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together[0], ours[0], rtol=1e-5, atol=1e-6)


@kinds
def test_half_precision_keeps_the_cell_wide(kind, x):
    p, run = made(kind), jax.jit(KINDS[kind][1])
    low, carry = run(p, x.astype(jnp.bfloat16))
    full, _ = run(p, x)
    assert low.dtype == carry["hidden"].dtype == jnp.bfloat16
    assert carry.get("cell", jnp.zeros(())).dtype == jnp.float32
    np.testing.assert_allclose(low.astype(jnp.float32), full, atol=0.05)
    grads = jax.jit(jax.grad(lambda x: run(p, x)[0].astype(jnp.float32).sum()))
    half = grads(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), grads(x), atol=0.15)


def test_how_they_start():
    p = init(lstm_spec(6, 8), jax.random.key(0))
    np.testing.assert_array_equal(p["input"]["bias"], np.repeat([[0.0], [1.0], [0.0], [0.0]], 8, axis=1))
    for gate in range(4):
        u = p["recurrent"]["weight"][:, gate]
        np.testing.assert_allclose(u @ u.T, np.eye(8), atol=1e-5)
    assert init(lstm_spec(6, 8, forget_bias=3.0), jax.random.key(0))["input"]["bias"][1].min() == 3
    assert lstm_spec(6, 8) == lstm_spec(6, 8)


def test_an_empty_sequence_changes_nothing(x):
    before = carry_of("lstm", 2)
    outputs, carry = lstm(made("lstm"), x[:, :0], before)
    assert outputs.shape == (2, 0, HIDDEN)
    jax.tree.map(np.testing.assert_array_equal, carry, before)


def test_lengths_outside_of_the_array(x):
    p = made("gru")
    with pytest.raises(ValueError, match="from 0 to 7.*got 3 to 8"):
        gru(p, x, lengths=np.array([8, 3]))
    with pytest.raises(ValueError, match="got -1 to 3"):
        gru(p, x, lengths=np.array([-1, 3]))
    with pytest.raises(ValueError, match=r"of shape \[2\], one a sequence, got int\d+ \[3\]"):
        gru(p, x, lengths=np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="integers"):
        gru(p, x, lengths=np.array([1.0, 2.0]))
    traced, _ = jax.jit(gru)(p, x, None, np.array([8, -1]))  # where values are not known, they count as 7 and 0
    np.testing.assert_array_equal(traced, jax.jit(gru)(p, x, None, np.array([7, 0]))[0])


def test_shapes_that_do_not_fit(x):
    p = made("lstm")
    with pytest.raises(ShapeError, match=r"'hidden': \[2, 5\], 'cell': \[2, 5\].*'hidden': \[2, 5\]"):
        lstm(p, x, {"hidden": jnp.zeros((2, HIDDEN))})
    with pytest.raises(ShapeError, match=r"got .*\[3, 5\]"):
        lstm(p, x, carry_of("lstm", 3))
    with pytest.raises(ShapeError, match="got tuple"):
        lstm_cell(p, x[:, 0], (jnp.zeros((2, HIDDEN)), jnp.zeros((2, HIDDEN))))
    with pytest.raises(ShapeError, match="3"):
        lstm(p, jnp.zeros((2, TIME, 4)))
    with pytest.raises(ShapeError, match=r"x\[..., time, inputs\]"):
        lstm(p, jnp.zeros(INPUTS))
    with pytest.raises(TypeError, match="floating-point"):
        lstm(p, jnp.zeros((2, TIME, INPUTS), int))


def test_lengths_may_be_closed_over_and_sequences_empty(key):
    model = jann.models.LSTM(3, 4)
    params, x, lengths = model.init(key), jax.random.normal(key, (2, 5, 3)), jnp.array([3, 5])
    closed = jax.jit(lambda x: model.apply(params, x, lengths)[0])(x)
    np.testing.assert_allclose(closed, model.apply(params, x, lengths)[0], rtol=1e-6)
    for reverse in (False, True):
        grads = jax.grad(lambda p, r=reverse: lstm(p, jnp.zeros((2, 0, 3)), reverse=r)[0].sum())(
            params["layers"][0]["forward"]
        )
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(grads))


def test_the_mean_over_traced_lengths_beyond_the_array_is_that_of_its_steps(key):
    model = jann.models.SequenceClassifier(inputs=3, outputs=2, hidden=4, pool="mean")
    params, x = model.init(key), jax.random.normal(key, (2, 5, 3))
    np.testing.assert_array_equal(
        jax.jit(model.apply)(params, x, jnp.array([9, 5]))[0], jax.jit(model.apply)(params, x, jnp.array([5, 5]))[0]
    )
