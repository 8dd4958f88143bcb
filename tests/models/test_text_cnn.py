"""Kim's network for sentences: against its sums written out, its size, and what lies behind a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.models import TextCNN

MODEL = TextCNN(vocab=9, embed=4, maps=5, widths=(1, 2, 4), labels=3)
TOKENS = jnp.array([[3, 1, 4, 1, 5, 0], [2, 6, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0]])
LENGTHS = jnp.array([5, 2, 1])


@pytest.fixture
def params(drawn):
    return drawn(MODEL)


def written_out(params, sentence):
    """The paper's c_i = relu(w · x_{i:i+h-1} + b) for a window around each word, their maximum, and the last layer."""
    words = params["embedding"]["table"][sentence]
    best = []
    for width, p in zip(MODEL.widths, params["convolutions"], strict=True):
        before = (width - 1) // 2
        padded = np.concatenate([np.zeros((before, 4)), words, np.zeros((width - 1 - before, 4))])
        windows = np.stack([padded[i : i + width] for i in range(len(words))])
        best.append(np.maximum(np.einsum("nwe,wem->nm", windows, p["weight"]) + p["bias"], 0).max(0))
    return np.concatenate(best) @ params["head"]["weight"] + params["head"]["bias"]


def test_equals_the_papers_sums_written_out(params):
    """Sentences of five, two and one words, for windows of up to four."""
    want = [written_out(params, row[:length]) for row, length in zip(np.array(TOKENS), LENGTHS, strict=True)]
    np.testing.assert_allclose(jax.jit(MODEL)(params, TOKENS, LENGTHS), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(MODEL(params, TOKENS[0]), written_out(params, np.array(TOKENS[0])), rtol=1e-4, atol=1e-5)


def test_what_lies_behind_a_sentence_does_not_matter(params):
    model = jax.jit(MODEL)
    want = model(params, TOKENS, LENGTHS)
    behind = np.arange(6) >= np.array(LENGTHS)[:, None]
    for other in (8, -1, 9):  # the last two are no words at all
        np.testing.assert_allclose(model(params, jnp.where(behind, other, TOKENS), LENGTHS), want, rtol=1e-5, atol=1e-6)
    longer = jnp.pad(TOKENS, ((0, 0), (0, 7)), constant_values=8)
    np.testing.assert_allclose(model(params, longer, LENGTHS), want, rtol=1e-5, atol=1e-6)

    table = jax.jit(jax.grad(lambda params: (model(params, TOKENS, LENGTHS) ** 2).sum()))(params)["embedding"]["table"]
    assert not table[0].any() and not table[8].any()  # padding, and a word that is not there
    assert all(table[word].any() for word in (2, 5, 7))


def test_a_sentence_without_words_gives_the_bias(params):
    found = MODEL(params, TOKENS, jnp.zeros(3, int))
    np.testing.assert_allclose(found, np.broadcast_to(params["head"]["bias"], (3, 3)), rtol=1e-6)


def test_matches_are_tapped(params):
    """The best match is the largest of a pattern's map; without a pattern's match the others' sum is left."""
    _, values = jann.observe(MODEL)(params, TOKENS, LENGTHS)
    best = np.concatenate([values[f"maps_{i}"].max(1) for i in range(3)], 1)
    np.testing.assert_array_equal(values["pooled"], best)
    without, _ = jann.observe(MODEL, {"pooled": lambda value, layer: value.at[:, 7].set(0)})(params, TOKENS, LENGTHS)
    best[:, 7] = 0
    want = best @ params["head"]["weight"] + params["head"]["bias"]
    np.testing.assert_allclose(without, want, rtol=1e-4, atol=1e-5)


def test_counts_of_the_paper():
    """100 maps of each of three widths over 300 features, and a bias each; the last layer; the words."""
    paper = TextCNN(vocab=1000, embed=300)
    assert jann.count(paper) == 300_000 + (3 + 4 + 5) * 300 * 100 + 300 + 2 * 300 + 2


@pytest.mark.parametrize("widths", [(), (3, 0)])
def test_widths_that_are_none(widths):
    with pytest.raises(ValueError, match="widths are at least one number, each at least 1"):
        TextCNN(9, widths=widths)
