"""Drawing sequences; that a model's cached state gives the same draws is tested with the models (test_wavenet.py)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.generation import generate, sample
from jann.models import GPT2


def test_samples_have_the_models_distribution():
    """Of a model that always says the same: shares of 4,000 draws within four standard errors."""
    weights = np.arange(1, 9) / 36

    def step(samples, state):
        return jnp.broadcast_to(jnp.log(weights), (*samples.shape, 8)), ()

    many = jax.jit(lambda key: sample(step, jnp.zeros((100, 1), int), 40, key))(jax.random.key(0))
    shares = np.bincount(np.ravel(many), minlength=8) / 4000
    assert (np.abs(shares - weights) < 4 * np.sqrt(weights * (1 - weights) / 4000)).all()


def test_temperature_sharpens_and_the_state_goes_along(key):
    """Logits are those of the number of tokens seen so far, so each place has its own likeliest token."""

    def step(tokens, count):
        seen = (0 if count is None else count) + jnp.cumsum(jnp.ones_like(tokens), -1)
        return 2.0 * jax.nn.one_hot(seen % 5, 5), seen[..., -1:]

    prompt = jnp.zeros((200, 3), int)
    cold, cool, hot = (jax.jit(lambda t: sample(step, prompt, 6, key, t))(t) for t in (0.0, 0.3, 3.0))
    likeliest = np.broadcast_to((3 + np.arange(6)) % 5, (200, 6))
    np.testing.assert_array_equal(cold, likeliest)
    for drawn, temperature in ((cool, 0.3), (hot, 3.0)):
        want = np.exp(2 / temperature) / (np.exp(2 / temperature) + 4)
        assert abs((drawn == likeliest).mean() - want) < 4 * np.sqrt(want * (1 - want) / 1200)


def test_nothing_to_draw_and_nothing_to_go_on_from_are_refused(key):
    with pytest.raises(ValueError, match="n=0 and a prompt of 4 tokens: both must be at least 1"):
        sample(None, jnp.zeros(4, int), 0, key)
    with pytest.raises(ValueError, match="n=3 and a prompt of 0 tokens"):
        sample(None, jnp.zeros(0, int), 3, key)


def test_a_step_that_forgets_the_prompt_is_refused(drawn, key):
    model = GPT2(vocab=11, positions=16, embed=8, layers=1, heads=2)
    params = jax.tree.map(lambda leaf: 8 * leaf, drawn(model))
    prompt = jnp.array([[1, 2, 3]])
    with pytest.raises(ValueError, match="returned None as its state.*GPT2, Llama.*jann.generation.generate"):
        sample(partial(model.apply, params), prompt, 5, key, 0.0)
    one = sample(partial(model.apply, params), prompt, 1, key, 0.0)  # which needs no state
    np.testing.assert_array_equal(one, generate(model, params, prompt, 1).tokens)
    cached = sample(lambda tokens, state: model.apply(params, tokens, state=state), prompt, 5, key, 0.0,
                    model.cache((1,), 8))  # fmt: skip
    np.testing.assert_array_equal(cached, generate(model, params, prompt, 5).tokens)
