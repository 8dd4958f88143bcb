"""Whisper: what it hears, what it writes, its cache, and the tokens that tell it what to do."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.analysis import check_gradients
from jann.generation import beam_search, generate, stream
from jann.models import Whisper

MODEL = Whisper(vocab=11, bands=3, embed=8, layers=1, heads=2, hidden=10, decoder_layers=2, places=4, positions=9,
                activation=jnp.tanh, begin_tokens=(1, 2))  # fmt: skip
HEARD = np.random.default_rng(0).normal(size=(2, 8, 3))
TOKENS = np.array([[1, 2, 5, 3], [1, 2, 7, 4]])


@pytest.fixture
def params(drawn):
    return drawn(MODEL)


def test_gradients_listed_blocks_and_json(params):
    weights = np.random.default_rng(1).normal(size=(2, 4, 11))
    check_gradients(lambda p: (MODEL(p, HEARD, TOKENS) * weights).sum(), params, tolerance=1e-4)
    listed = jann.core.listed(MODEL, params)
    whole = MODEL(params, HEARD, TOKENS)
    np.testing.assert_allclose(MODEL(listed, HEARD, TOKENS), whole, rtol=1e-4, atol=1e-5)
    one = jax.vmap(MODEL, (None, 0, 0))(params, HEARD, TOKENS)
    np.testing.assert_allclose(one, whole, rtol=1e-4, atol=1e-5)
    assert jann.from_json(json.loads(json.dumps(jann.to_json(MODEL)))) == MODEL
    noisy = dataclasses.replace(MODEL, dropout=0.5)
    assert np.abs(noisy(params, HEARD, TOKENS, key=jax.random.key(0)) - whole).max() > 1e-3


@pytest.mark.parametrize(("weights", "heard"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_encoder_and_decoder_may_differ_in_precision(params, weights, heard):
    """The spectrogram sets the encoder's and the table of tokens the decoder's."""
    low = jax.tree.map(lambda leaf: jnp.asarray(leaf, weights), params)
    found = MODEL(low, jnp.asarray(HEARD, heard), TOKENS)
    assert found.dtype == weights
    np.testing.assert_allclose(found.astype(jnp.float32), MODEL(params, HEARD, TOKENS), rtol=0.1, atol=0.1)


def test_in_pieces_with_a_cache_equals_the_whole(params):
    whole = MODEL(params, HEARD, TOKENS)
    first, state = MODEL.begin(params, HEARD, None, 6)
    np.testing.assert_array_equal(first, TOKENS[:, :2])
    pieces = []
    for part in (first, TOKENS[:, 2:3], TOKENS[:, 3:]):
        x, state = MODEL.features(params, part, state=state)
        pieces.append(MODEL.logits(params, x))
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, rtol=1e-4, atol=1e-5)
    later = MODEL(params, HEARD, np.concatenate([TOKENS[:, :3], [[9], [9]]], 1))
    np.testing.assert_allclose(later[:, :3], whole[:, :3], rtol=1e-5, atol=1e-6)


def test_what_is_generated_is_the_likeliest_behind_the_first_tokens(params):
    made = generate(MODEL, params, HEARD, 5)
    tokens = np.concatenate([TOKENS[:, :2], made.tokens], 1)
    likeliest = MODEL(params, HEARD, tokens)[:, 1:-1].argmax(-1)
    np.testing.assert_array_equal(made.tokens, likeliest)
    assert list(stream(MODEL, params, HEARD[1], 5)) == made.tokens[1].tolist()
    np.testing.assert_array_equal(beam_search(MODEL, params, list(HEARD), 5, beams=1)[0].tokens, made.tokens)


def test_what_does_not_fit_is_named(params):
    with pytest.raises(ValueError, match=r"spectrogram 1 is \[7, 3\], wanted \[8, 3\] .* jann.data.speech_spectrogram"):
        generate(MODEL, params, [HEARD[0], HEARD[0, :7]], 2)
    with pytest.raises(ValueError, match="spectrogram 0 has values that are not finite"):
        generate(MODEL, params, HEARD * np.nan, 2)
    with pytest.raises(ValueError, match="there is no spectrogram"):
        generate(MODEL, params, [], 2)
    with pytest.raises(ValueError, match="8 new tokens behind the first, 2, are more than the 9 positions"):
        generate(MODEL, params, HEARD, 8)
    with pytest.raises(ValueError, match=r"a spectrogram \[..., 8, 3\] wanted, got \[2, 8, 4\]"):
        MODEL(params, np.zeros((2, 8, 4)), TOKENS)
    with pytest.raises(ValueError, match="10 tokens are more than the model's 9 positions"):
        MODEL(params, HEARD, np.ones((2, 10), int))


def test_the_start_of_the_encoder_s_positions_are_sinusoids():
    """Of log timescales to 10,000 inclusive, as in OpenAI's code."""
    start = MODEL.init(jax.random.key(0))["encoder"]["positions"]
    angles = np.arange(4)[:, None] * np.exp(-np.log(10_000) / 3 * np.arange(4))
    np.testing.assert_allclose(start, np.concatenate([np.sin(angles), np.cos(angles)], 1), rtol=1e-4, atol=1e-5)
