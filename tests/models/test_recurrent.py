"""Recurrent models: state, layers and directions; the classifier; the language model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.layers import lstm
from jann.models import GRU, LSTM, RNN, RecurrentLanguageModel, SequenceClassifier


@pytest.mark.parametrize("model", [RNN(3, 4, 2), LSTM(3, 4, 2), GRU(3, 4, 3)])
def test_a_stream_in_pieces_equals_the_whole_bit_for_bit(model, key):
    params, x = model.init(key), jax.random.normal(key, (2, 9, 3))
    apply = jax.jit(model.apply)
    whole, end = apply(params, x)
    state, pieces = model.carry(2), []
    for a, b in ((0, 1), (1, 6), (6, 7), (7, 9)):
        y, state = apply(params, x[:, a:b], state=state)
        pieces.append(y)
    np.testing.assert_array_equal(np.concatenate(pieces, 1), whole)
    jax.tree.map(np.testing.assert_array_equal, state, end)


def test_layers_and_directions_are_single_ones_put_together(key):
    model = LSTM(3, 4, layers=2, bidirectional=True)
    params, x, lengths = model.init(key), jax.random.normal(key, (2, 6, 3)), np.array([6, 4])
    h = x
    for p in params["layers"]:
        parts = [lstm(p[name], h, lengths=lengths, reverse=name == "backward")[0] for name in ("forward", "backward")]
        h = jnp.concatenate(parts, -1)
    y, state = model.apply(params, x, lengths)
    np.testing.assert_allclose(y, h, rtol=1e-5, atol=1e-6)
    ends = state["layers"][1]
    np.testing.assert_allclose(ends["forward"]["hidden"], y[np.arange(2), lengths - 1, :4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ends["backward"]["hidden"], y[:, 0, 4:], rtol=1e-5, atol=1e-6)


def test_dropout_is_between_layers_only(key):
    x = jax.random.normal(key, (2, 6, 3))
    one, two = LSTM(3, 64, dropout=0.5), LSTM(3, 64, layers=2, dropout=0.5)
    params = two.init(key)
    first = {"layers": params["layers"][:1]}
    np.testing.assert_array_equal(one(first, x, key=key), one(first, x))
    assert np.abs(two(params, x, key=key) - two(params, x)).max() > 1e-3
    _, seen = jann.observe(two)(params, x, key=key)
    np.testing.assert_allclose(seen["hidden"][0], one(first, x), rtol=1e-5, atol=1e-6)


def test_hidden_states_are_seen_and_edited(key):
    model = GRU(3, 4, layers=2)
    params, x = model.init(key), jax.random.normal(key, (2, 6, 3))
    y, seen = jax.jit(jann.observe(model))(params, x)
    assert seen["hidden"].shape == (2, 2, 6, 4)
    np.testing.assert_array_equal(seen["hidden"][1], y)

    def silenced(h, layer):
        return jnp.where(layer == 0, 0.0, h)

    edited, _ = jann.observe(model, {"hidden": silenced})(params, x)
    np.testing.assert_allclose(edited[0], edited[1], atol=1e-6)  # nothing of the input is left


def test_states_that_do_not_fit(key):
    x = jnp.zeros((2, 6, 3))
    both, single = GRU(3, 4, bidirectional=True), GRU(3, 4, layers=2)
    state = single.carry(2)
    with pytest.raises(ValueError, match="reads from the end, so it cannot go on"):
        both.apply(both.init(key), x, state=state)
    with pytest.raises(ValueError, match="no carry to start from"):
        both.carry(2)
    with pytest.raises(ValueError, match="with 2 layers"):
        single.apply(single.init(key), x, state=GRU(3, 4).carry(2))
    with pytest.raises(jann.ShapeError, match=r"\[2, 4\].*\[5, 4\]"):
        single.apply(single.init(key), x, state=single.carry(5))
    with pytest.raises(ValueError, match="LSTM.layers must be at least 1"):
        LSTM(3, 4, layers=0)


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_classifier_does_not_see_padding(pool, key):
    model = SequenceClassifier(3, 5, 8, layers=2, bidirectional=True, pool=pool)
    params, x, lengths = model.init(key), jax.random.normal(key, (3, 7, 3)), np.array([7, 4, 0])
    logits = jax.jit(model)(params, x, lengths)
    np.testing.assert_allclose(logits[1], model(params, x[1, :4]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[0], model(params, x[0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[2], params["head"]["bias"], atol=1e-6)
    moved = jax.jit(model)(params, x.at[1, 4:].set(9.0), lengths)
    np.testing.assert_array_equal(moved, logits)


def test_lengths_of_a_narrow_type_do_not_bound_the_time(key):
    model = SequenceClassifier(3, 2, 4, cell="gru")
    params, x, lengths = model.init(key), jax.random.normal(key, (2, 300, 3)), np.array([100, 20])
    want = jax.jit(model)(params, x, lengths)
    np.testing.assert_array_equal(jax.jit(model)(params, x, lengths.astype(np.uint8)), want)


def test_unknown_names():
    with pytest.raises(ValueError, match="SequenceClassifier.cell must be one of rnn, lstm, gru, got 'elman'"):
        SequenceClassifier(3, 5, 8, cell="elman")
    with pytest.raises(ValueError, match="RecurrentLanguageModel.cell must be one of"):
        RecurrentLanguageModel(3, 5, 8, cell="LSTM")
    with pytest.raises(ValueError, match="pool must be one of mean, last"):
        SequenceClassifier(3, 5, 8, pool="max")


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_language_model_is_causal_and_goes_on(cell, key):
    model = RecurrentLanguageModel(vocab=7, embed=6, hidden=8, layers=2, cell=cell)
    params, tokens = model.init(key), jax.random.randint(key, (2, 9), 0, 7)
    apply = jax.jit(model.apply)
    whole, _ = apply(params, tokens)
    assert whole.shape == (2, 9, 7)
    changed, _ = apply(params, tokens.at[:, 5].add(1) % 7)
    np.testing.assert_array_equal(changed[:, :5], whole[:, :5])
    assert np.abs(changed[:, 5:] - whole[:, 5:]).max() > 1e-3
    state = model.carry(2)
    for t in range(9):
        logits, state = apply(params, tokens[:, t : t + 1], state=state)
        np.testing.assert_allclose(logits[:, 0], whole[:, t], rtol=1e-5, atol=1e-6)


def test_language_model_noise_needs_a_key(key):
    model = RecurrentLanguageModel(vocab=7, embed=6, hidden=8, dropout=0.5)
    params, tokens = model.init(key), jax.random.randint(key, (2, 9), 0, 7)
    np.testing.assert_array_equal(model(params, tokens), model(params, tokens))
    one, other = (model(params, tokens, key=jax.random.key(i)) for i in range(2))
    assert np.abs(one - other).max() > 1e-2
