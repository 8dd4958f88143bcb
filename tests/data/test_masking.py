"""Masked words and corrupted spans: at the published rates, and nothing else changed."""

from functools import partial

import jax
import numpy as np
import pytest

from jann.data import batches, corrupt_spans, mask_places, mask_words

VOCAB, MASK, SPECIAL = 50, 4, (0, 1, 2, 3, 4)


def within(found, n, p):
    """Whether a share of n equals p up to five standard deviations of chance."""
    return abs(found - p) < 5 * np.sqrt(p * (1 - p) / n)


def test_words_are_masked_at_the_published_rates(key):
    token = np.random.default_rng(0).integers(5, VOCAB, (1000, 400)).astype(np.int32)
    out = jax.jit(partial(mask_words, mask=MASK, vocab=VOCAB, special=SPECIAL))({"token": token}, key)
    out = {name: np.asarray(array) for name, array in out.items()}
    np.testing.assert_array_equal(out["label"], token)
    chosen = out["weight"] == 1
    assert set(np.unique(out["weight"])) == {0, 1} and (out["token"] == token)[~chosen].all()
    assert within(chosen.mean(), token.size, 0.15)
    n, now, was = chosen.sum(), out["token"][chosen], token[chosen]
    assert within((now == MASK).mean(), n, 0.8 + 0.1 / VOCAB)
    assert within((now == was).mean(), n, 0.1 + 0.1 / VOCAB)
    for other in (0, 3, 17, VOCAB - 1):  # a random word is any of them
        assert within((now[was != other] == other).mean(), (was != other).sum(), 0.1 / VOCAB)
    # neighbours are drawn apart
    assert within((chosen[:, 1:] & chosen[:, :-1]).mean(), token[:, 1:].size / 2, 0.15**2)


def test_special_tokens_and_padding_are_never_masked(key):
    token = np.random.default_rng(0).integers(0, 10, (200, 50)).astype(np.int32)
    lengths = np.random.default_rng(1).integers(1, 51, 200).astype(np.int32)
    batch = {"token": token, "length": lengths, "other": 3}
    out = mask_words(batch, key, MASK, VOCAB, SPECIAL, rate=1.0)
    wanted = (token >= 5) & (np.arange(50) < lengths[:, None])
    np.testing.assert_array_equal(np.asarray(out["weight"]), wanted.astype(np.float32))
    assert (np.asarray(out["token"])[~wanted] == token[~wanted]).all() and out["other"] == 3
    row = mask_words({"token": token[0], "length": 3}, key, MASK, VOCAB, SPECIAL, rate=1.0)
    np.testing.assert_array_equal(np.asarray(row["weight"]), (token[0] >= 5) & (np.arange(50) < 3))


def test_places_are_so_many_of_each_row_and_drawn_alike(key):
    token = np.random.default_rng(0).integers(5, VOCAB, (4000, 30)).astype(np.int32)
    token[:, 0] = 2
    lengths = np.tile([30, 21, 3, 1], 1000).astype(np.int32)
    batch = {"token": token, "length": lengths}
    out = jax.jit(partial(mask_places, mask=MASK, vocab=VOCAB, places=5, special=SPECIAL, rate=0.2))(batch, key)
    now, place, label, weight = (np.asarray(out[name]) for name in ("token", "place", "label", "weight"))
    # 0.2 of the 29, 20, 2 and 0 tokens that may be chosen, rounded; but at least 1, and no more than there are places
    np.testing.assert_array_equal(weight.sum(1), np.tile([5, 4, 1, 0], 1000))
    np.testing.assert_array_equal(label, np.take_along_axis(token, place, 1))
    assert (np.diff(np.sort(place, 1)) > 0).all()  # no place twice
    asked = np.zeros(token.shape, bool)
    np.put_along_axis(asked, place, weight > 0, 1)
    assert not asked[:, 0].any() and not asked[np.arange(30) >= lengths[:, None]].any()
    np.testing.assert_array_equal(now[~asked], token[~asked])
    for begin, often in ((0, 5 / 29), (1, 4 / 20), (2, 1 / 2)):  # each word equally often
        share = asked[begin::4, 1 : lengths[begin]].mean(0)
        assert all(within(each, 1000, often) for each in share)
    with pytest.raises(ValueError, match="places=31 are more than the 30 tokens"):
        mask_places(batch, key, MASK, VOCAB, 31)
    n = asked.sum()
    assert within((now[asked] == MASK).mean(), n, 0.8 + 0.1 / VOCAB)
    assert within((now[asked] == token[asked]).mean(), n, 0.1 + 0.1 / VOCAB)


def test_each_epoch_is_masked_anew_and_each_step_always_alike(key):
    token = np.arange(5, 45, dtype=np.int32).reshape(2, 20)
    masked = partial(mask_words, mask=MASK, vocab=VOCAB, special=SPECIAL)
    drawn = batches({"token": token}, 2, key, transform=masked, shuffle=False)
    first, second = drawn(0), drawn(1)
    assert (np.asarray(first["label"]) == np.asarray(second["label"])).all()
    assert (np.asarray(first["weight"]) != np.asarray(second["weight"])).any()
    np.testing.assert_array_equal(np.asarray(drawn(1)["token"]), np.asarray(second["token"]))
    with pytest.raises(ValueError, match="drawn with a key"):
        masked({"token": token}, None)


def put_together(inputs, targets, sentinels):
    """What was corrupted: each sentinel of the inputs replaced by what follows it in the targets."""
    parts = np.split(targets, np.flatnonzero(np.isin(targets, sentinels)))[1:]
    spans = {part[0]: part[1:] for part in parts}
    return np.concatenate([spans.get(token, [token]) for token in inputs])


@pytest.mark.parametrize("time", [2, 3, 10, 100, 512])
def test_spans_put_back_give_the_text(time):
    random, sentinels = np.random.default_rng(0), range(999, 899, -1)
    tokens = random.integers(0, 500, time)
    for _ in range(20):
        inputs, targets = corrupt_spans(tokens, random, sentinels)
        np.testing.assert_array_equal(put_together(inputs, targets, list(sentinels)), tokens)
        missing = max(1, round(0.15 * time))
        spans = max(1, round(missing / 3))
        for array, size in ((inputs, time - missing + spans), (targets, missing + spans)):
            assert len(array) == size and array.dtype == np.int32
            marks = array[array >= 500]
            assert marks.tolist() == list(sentinels)[:spans]  # in order, descending
        assert inputs[0] == tokens[0] and targets[0] == 999


def test_a_span_begins_everywhere_and_has_the_published_mean():
    random, lengths, cut = np.random.default_rng(0), [], np.zeros(100)
    for _ in range(4000):
        inputs, targets = corrupt_spans(np.arange(100), random, range(999, 899, -1))
        lengths += np.diff(np.append(np.flatnonzero(targets > 500), len(targets))).tolist()
        cut[np.setdiff1d(targets, np.arange(900, 1000))] += 1
    assert np.mean(lengths) - 1 == 3  # 15 tokens in 5 spans, always
    assert abs(cut[1:].sum() / 4000 - 15) < 1e-9 and cut[0] == 0
    assert (cut[10:90] / 4000 > 0.1).all() and (cut[10:90] / 4000 < 0.2).all()
    # of 15 in 5 parts, each sum equally likely: the first part is 1 with probability C(13, 3) / C(14, 4)
    assert within((np.array(lengths) - 1 == 1).mean(), len(lengths) / 5, 286 / 1001)


def test_what_cannot_be_corrupted_is_named():
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="a single token"):
        corrupt_spans([1], random, range(9, 5, -1))
    for options in ({"rate": 15}, {"rate": -1}, {"rate": float("nan")}, {"mean": 0}):
        with pytest.raises(ValueError, match="rate=.* is a share of the tokens|mean=0: spans are at least one token"):
            corrupt_spans(range(20), random, range(9, 5, -1), **options)
    with pytest.raises(ValueError, match="rate=15 is a share of the tokens"):
        mask_words({"token": np.ones((1, 3), int)}, jax.random.key(0), MASK, VOCAB, rate=15)
    with pytest.raises(ValueError, match="the text is empty"):
        corrupt_spans([], random, range(9, 5, -1))
    with pytest.raises(ValueError, match="200 tokens need 10 sentinels, there are 4"):
        corrupt_spans(range(200), random, range(9, 5, -1))
