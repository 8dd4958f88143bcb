"""The selective recurrence equals its definition, in chunks, at once, with a state, with beginnings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.layers import selective, selective_scan


def drawn(time, lead=(2,), inner=3, state=4):
    random = np.random.default_rng(time)
    x, step = random.normal(size=(2, *lead, time, inner))
    into, out = random.normal(size=(2, *lead, time, state))
    decay, begin = -random.uniform(0.1, 2, (state, inner)), random.normal(size=(*lead, state, inner))
    parts = x, np.abs(step), decay, into, out, begin, random.random((*lead, time)) < 0.2
    return [jnp.asarray(part) if part.dtype == bool else jnp.asarray(part, jnp.float32) for part in parts]


def defined(x, step, decay, into, out, state, begins):
    made = []
    for t in range(x.shape[-2]):
        state = jnp.where(begins[..., t, None, None], 0, state)
        state = jnp.exp(step[..., t, None, :] * decay[None]) * state
        state = state + into[..., t, :, None] * (step * x)[..., t, None, :]
        made.append((out[..., t, :, None] * state).sum(-2))
    return jnp.stack(made, -2), state


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("time", [1, 3, 4, 9])
def test_equals_its_definition_forward_and_back(monkeypatch, at_once, time):
    monkeypatch.setattr(selective, "CHUNK", 4)
    *parts, begins = drawn(time)

    def total(run, *options):
        def of(parts):
            y, last = run(*parts, begins, *options)
            return (y**2).sum() + (last**3).sum(), (y, last)

        return jax.jit(jax.value_and_grad(of, has_aux=True))(parts)

    found, want = total(selective_scan, at_once), total(defined)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, want)


def test_a_state_goes_on_and_steps_of_nothing_keep_it():
    x, step, decay, into, out, begin, _ = drawn(40)
    whole, last = selective_scan(x, step, decay, into, out, begin)
    first, state = selective_scan(x[:, :7], step[:, :7], decay, into[:, :7], out[:, :7], begin)
    second, end = selective_scan(x[:, 7:], step[:, 7:], decay, into[:, 7:], out[:, 7:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(end, last, rtol=1e-5, atol=1e-5)
    _, kept = selective_scan(x, 0 * step, decay, into, out, begin)
    np.testing.assert_array_equal(kept, begin)
    half = [part.astype(jnp.bfloat16) for part in (x, step)]
    assert {leaf.dtype for leaf in selective_scan(*half, decay, into, out)} == {jnp.dtype(jnp.float32)}
