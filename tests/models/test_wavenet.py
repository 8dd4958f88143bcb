"""WaveNet: what it sees, in pieces as in one, and against the paper's sums written out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.generation import sample
from jann.models import WaveNet

SMALL = WaveNet(levels=8, dilations=(1, 2, 4, 1, 2), residual=4, skip=5)
DIGITS = WaveNet(levels=8, dilations=(1, 2, 4, 1, 2), residual=4, skip=5, classes=3)


def listed(params):
    return {**params, "blocks": jann.unstacked(params["blocks"])}


def test_equals_the_papers_sums_written_out(drawn):
    """Section 2 of the paper with loops over time in NumPy: x_t sees x_t and x_(t-d), zeros before the start."""
    params = jax.tree.map(np.asarray, drawn(DIGITS))
    samples = np.array([3, 1, 4, 1, 5, 0, 2, 6, 5, 3])
    x = params["embedding"]["table"][samples]
    skipped = 0
    for i, dilation in enumerate(DIGITS.dilations):
        p = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
        gates = np.stack([
            (x[t - dilation] if t >= dilation else 0 * x[t]) @ p["past"]["weight"] + x[t] @ p["present"]["weight"]
            + p["present"]["bias"] + p["condition"]["table"][2]
            for t in range(len(samples))
        ])  # fmt: skip
        unit = np.tanh(gates[:, :4]) / (1 + np.exp(-gates[:, 4:]))
        x = x + unit @ p["residual"]["weight"] + p["residual"]["bias"]
        skipped = skipped + unit @ p["skip"]["weight"] + p["skip"]["bias"]
    hidden = np.maximum(skipped, 0) @ params["hidden"]["weight"] + params["hidden"]["bias"]
    want = np.maximum(hidden, 0) @ params["head"]["weight"] + params["head"]["bias"]
    np.testing.assert_allclose(DIGITS(params, samples, jnp.int32(2)), want, rtol=1e-4, atol=1e-5)


def test_sees_its_receptive_field_and_nothing_later(drawn):
    """By gradients: output t depends on inputs t - 10 .. t, and on all of them."""
    model = WaveNet(levels=16, dilations=SMALL.dilations, residual=4, skip=5)
    assert model.receptive_field == 11
    params = drawn(model)

    @jax.jit
    @jax.jacobian
    def gradients(table):  # [time, levels, place, residual], since place t has row t of the table to itself
        return model({**params, "embedding": {"table": table}}, jnp.arange(16))

    seen = np.abs(gradients(params["embedding"]["table"])).sum((1, 3)) > 0
    for t in range(16):
        assert np.flatnonzero(seen[t]).tolist() == list(range(max(0, t - 10), t + 1))


@pytest.mark.parametrize("form", [lambda params: params, listed])
def test_in_pieces_and_one_by_one_equals_the_whole(form, drawn):
    params = form(drawn(DIGITS))
    samples = jax.random.randint(jax.random.key(1), (2, 3, 23), 0, 8)
    label = jnp.array([[0, 1, 2], [2, 1, 0]])
    apply = jax.jit(DIGITS.apply)
    whole, _ = apply(params, samples, label)
    state, pieces, at = None, [], 0
    for size in (7, 1, 1, 1, 11, 1, 1):
        logits, state = apply(params, samples[..., at : at + size], label, state=state)
        pieces.append(logits)
        at += size
    np.testing.assert_allclose(jnp.concatenate(pieces, -2), whole, rtol=1e-5, atol=1e-5)


def test_both_forms_of_depth_agree(drawn):
    params = drawn(SMALL)
    samples = jnp.arange(12) % 8
    model = jax.jit(SMALL)
    np.testing.assert_allclose(model(params, samples), model(listed(params), samples), rtol=1e-5, atol=1e-6)


def test_samples_are_those_of_the_full_forward(drawn):
    """Each drawn sample is what its own logits and key give, computed anew from everything before it."""
    params = listed(drawn(SMALL))
    prompt, key = jnp.array([[1, 2, 3], [4, 5, 6]]), jax.random.key(5)
    drawn_now = jax.jit(lambda params: sample(partial(_step, params), prompt, 12, key, temperature=0.7))(params)
    assert drawn_now.shape == (2, 12)
    so_far = np.concatenate([prompt, drawn_now], 1)
    model = jax.jit(SMALL)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 1), out_axes=1)
    def categorical(i, logits):
        return jax.random.categorical(jax.random.fold_in(key, i), logits)

    want = categorical(jnp.arange(12), model(params, so_far[:, :-1])[:, 2:] / 0.7)
    np.testing.assert_array_equal(drawn_now, want)
    likeliest = jax.jit(lambda params: sample(partial(_step, params), prompt, 12, key, temperature=0.0))(params)
    again = np.concatenate([prompt, likeliest], 1)
    np.testing.assert_array_equal(likeliest, model(params, again[:, :-1])[:, 2:].argmax(-1))


def _step(params, samples, state):
    return SMALL.apply(params, samples, state=state)


def test_what_does_not_fit_is_refused(drawn):
    samples = jnp.zeros(4, int)
    with pytest.raises(ValueError, match="takes a label of 3 classes, got none"):
        DIGITS(drawn(DIGITS), samples)
    with pytest.raises(ValueError, match=r"takes no label \(classes=0\), got one"):
        SMALL(drawn(SMALL), samples, jnp.int32(1))
    with pytest.raises(ValueError, match=r"dilations are at least one number, each at least 1, got \(1, 0\)"):
        WaveNet(dilations=(1, 0))
