"""Sequences as arrays: nothing lost, nothing foretold across documents, little room wasted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.data import instructed, packed, padded, paired
from jann.data.sequences import best_fit


def texts(n, most, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(1, 1000, random.integers(1, most)).tolist() for _ in range(n)]


def test_padded():
    tokens, lengths = padded([[1, 2, 3], np.array([4])], pad=9)
    assert tokens.tolist() == [[1, 2, 3, 9, 9, 9, 9, 9], [4] + [9] * 7] and lengths.tolist() == [3, 1]
    assert tokens.dtype == lengths.dtype == np.int32
    assert padded([[1] * 9])[0].shape == (1, 16) and padded([[1] * 8])[0].shape == (1, 8)
    assert padded([[1, 2]], multiple=1)[0].tolist() == [[1, 2]] and padded([[1, 2]], length=3)[0].shape == (1, 3)


def test_packed_by_hand():
    rows = packed([[1, 2, 3], [4], [5, 6], [7, 8, 9, 10, 11, 12]], length=4, pad=99)
    # 7 8 9 10 fills a row; 11 12 is a piece of its own, as 10 -> 11 is foretold in the first
    assert rows["token"].tolist() == [[7, 8, 9, 10], [1, 2, 5, 11]]
    assert rows["label"].tolist() == [[8, 9, 10, 11], [2, 3, 6, 12]]
    assert rows["document"].tolist() == [[1, 1, 1, 1], [1, 1, 2, 3]]
    assert rows["position"].tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    assert rows["weight"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]
    short = packed([[1, 2, 3]], length=4, pad=99)
    assert short["token"].tolist() == [[1, 2, 99, 99]] and short["label"].tolist() == [[2, 3, 99, 99]]
    assert short["position"].tolist() == [[0, 1, -1, -1]] and short["document"].tolist() == [[1, 1, 0, 0]]
    assert short["weight"].tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize("length", [1, 7, 64])
def test_every_token_but_the_first_is_foretold_once_from_the_one_before(length):
    documents = texts(300, 40)
    rows = packed(documents, length)
    there = rows["weight"] == 1
    found = sorted(zip(rows["token"][there].tolist(), rows["label"][there].tolist(), strict=True))
    assert found == sorted((a, b) for d in documents for a, b in zip(d, d[1:], strict=False))
    assert ((rows["position"] >= 0) == there).all() and ((rows["document"] > 0) == there).all()
    goes_on = (rows["document"][:, 1:] == rows["document"][:, :-1]) & there[:, 1:]
    assert (rows["label"][:, :-1] == rows["token"][:, 1:])[goes_on].all()
    assert (rows["position"][:, 1:] == np.where(goes_on, rows["position"][:, :-1] + 1, 0))[there[:, 1:]].all()


def test_little_room_is_wasted_and_it_is_deterministic():
    documents = texts(2000, 200)
    rows = packed(documents, 128)
    assert rows["weight"].mean() > 0.99
    again = packed(documents, 128)
    assert all((rows[name] == again[name]).all() for name in rows)


def test_best_fit_takes_the_fullest_row_with_room():
    row, column, number = best_fit(np.array([3, 6, 5, 2, 4]), 8)
    # 6; 5; 4 in a third; 3 fills the second; 2 fills the first
    assert row.tolist() == [1, 0, 1, 0, 2]
    assert column.tolist() == [5, 0, 0, 6, 0] and number.tolist() == [2, 1, 1, 2, 1]


def test_a_packed_row_is_as_its_documents_alone(key, drawn):
    model = jann.models.GPT2(vocab=30, positions=8, embed=8, layers=2, heads=2)
    params = drawn(model)
    rows = packed([[1, 2, 3, 4], [5, 6, 7], [8, 9]], length=8)
    batch = jax.tree.map(jnp.asarray, rows)
    logits = model(params, batch["token"], None, batch["position"], batch["document"])[0]
    start = 0
    for document in ([1, 2, 3], [5, 6], [8]):
        alone = model(params, jnp.array([document]))[0]
        np.testing.assert_allclose(logits[start : start + len(document)], alone, atol=1e-5)
        start += len(document)
    loss = jann.objective(model, jann.language, inputs=("token", None, "position", "document"))
    wanted = -jax.nn.log_softmax(logits)[jnp.arange(6), jnp.array([2, 3, 4, 6, 7, 9])].mean()
    np.testing.assert_allclose(loss(params, batch, None)[0], wanted, rtol=1e-5)


def test_only_answers_are_foretold():
    rows = instructed([([1, 2, 3], [4, 5]), ([6], [7])], length=5)
    assert rows["token"].tolist() == [[1, 2, 3, 4, 6]] and rows["label"].tolist() == [[2, 3, 4, 5, 7]]
    assert rows["weight"].tolist() == [[0, 0, 1, 1, 1]] and rows["document"].tolist() == [[1, 1, 1, 1, 2]]
    pairs = list(zip(texts(200, 20), texts(200, 20, seed=1), strict=True))
    rows = instructed(pairs, 40)
    foretold = rows["label"][rows["weight"] == 1].tolist()
    assert sorted(foretold) == sorted(token for _, answer in pairs for token in answer)


def test_paired():
    arrays = paired([[5, 6, 7], [8]], [[9], [10, 11]], begin=1, stop=2, source_length=4, target_length=4)
    assert arrays["source"].tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]] and arrays["source_length"].tolist() == [3, 1]
    assert arrays["token"].tolist() == [[1, 9, 0, 0], [1, 10, 11, 0]]
    assert arrays["label"].tolist() == [[9, 2, 0, 0], [10, 11, 2, 0]]
    assert arrays["weight"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]


def test_what_is_given_badly_is_named():
    with pytest.raises(ValueError, match="there are no sequences"):
        padded([])
    with pytest.raises(ValueError, match="sequence 1 is empty"):
        padded([[1], []])
    with pytest.raises(ValueError, match=r"sequence 1 has 3 tokens, more than length=2: cut it \(tokens\[:2\]\)"):
        padded([[1], [1, 2, 3]], length=2)
    with pytest.raises(ValueError, match=r"sequence 0 is an array \[\] of <U5: give a list of tokens' numbers"):
        padded(["words"])
    with pytest.raises(ValueError, match=r"sequence 0 is an array \[1\] of float64"):
        padded([[0.5]])
    with pytest.raises(ValueError, match="at least one document of two tokens"):
        packed([[1], [2]], 4)
    with pytest.raises(ValueError, match="at least one document of two tokens"):
        packed([], 4)
    with pytest.raises(ValueError, match="document 0 is empty"):
        packed([[], [1, 2]], 4)
    with pytest.raises(ValueError, match="length=0: a row holds at least one token"):
        packed([[1, 2]], 0)
    with pytest.raises(ValueError, match=r"pair 1 has 3 \+ 3 tokens, more than 5"):
        instructed([([1, 2], [3, 4, 5]), ([1, 2, 3], [4, 5, 6])], 4)
    with pytest.raises(ValueError, match="answer 0 is empty"):
        instructed([([1], [])], 4)
    with pytest.raises(ValueError, match="there are no pairs"):
        instructed([], 4)
    with pytest.raises(ValueError, match="2 sources and 1 targets"):
        paired([[1], [2]], [[1]], 1, 2)
    with pytest.raises(ValueError, match="target 0 is empty"):
        paired([[1]], [[]], 1, 2)
