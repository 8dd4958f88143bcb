"""Ratings: the published counts of MovieLens, a synthetic set whose noise is what it says, folds, damaged files."""

import zipfile

import numpy as np
import pytest

import jann.data
from jann.data import DataError, MissingData, Ratings


def test_movielens_has_its_published_counts(real_data):
    ratings = jann.data.load("movielens_100k")
    assert np.bincount(ratings.rating.astype(int)).tolist() == [0, 6110, 11370, 27145, 34174, 21201]
    assert ratings.users == 943 and len(ratings.titles) == 1682 and ratings.titles[0] == "Toy Story (1995)"
    first = ratings.user[0], ratings.item[0], ratings.rating[0]
    assert first == (195, 241, 3) and ratings.titles[241] == "Kolya (1996)"
    assert np.unique(np.stack([ratings.user, ratings.item]), axis=1).shape == (2, 100_000)


def test_synthetic_ratings_are_a_sum_of_tastes_and_noise():
    ratings = jann.data.load("synthetic_ratings")
    assert repr(ratings).startswith("synthetic_ratings: 12,000 ratings of 150 items by 200 users (40.0% of all pairs)")
    # In the best three directions and the means, the ratings that are there leave about the noise.
    user, item, rating = ratings.user, ratings.item, ratings.rating
    filled = np.full((200, 150), rating.mean())
    for _ in range(200):  # hard imputation
        filled[user, item] = rating
        mean = filled.mean(1, keepdims=True) + filled.mean(0) - filled.mean()
        u, s, v = np.linalg.svd(filled - mean, full_matrices=False)
        filled = mean + (u[:, :3] * s[:3]) @ v[:3]
    left = np.sqrt(np.mean((filled[user, item] - rating) ** 2))
    assert 0.4 < left < ratings.noise


def test_folds_are_of_equal_size_and_of_a_seed():
    ratings = jann.data.load("synthetic_ratings")
    folds = ratings.folds(7, seed=3)
    assert set(np.bincount(folds)) == {1714, 1715}
    np.testing.assert_array_equal(folds, ratings.folds(7, seed=3))
    assert (folds != ratings.folds(7, seed=4)).any()
    with pytest.raises(ValueError, match="n=1: give from 2 to 12000 folds"):
        ratings.folds(1)


def test_missing_and_damaged_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    with pytest.raises(MissingData, match=r"recsys/ml-100k.zip is missing and cannot be downloaded \(MovieLens 100K"):
        jann.data.load("movielens_100k")
    path = tmp_path / "recsys/ml-100k.zip"
    path.parent.mkdir()
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="ml-100k.zip cannot be unpacked"):
        jann.data.load("movielens_100k")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("ml-100k/u.data", "1\t2\t3\t4\n")
        packed.writestr("ml-100k/u.item", "1|A film\n")
    with pytest.raises(DataError, match="ml-100k.zip has a u.data of sha256"):
        jann.data.load("movielens_100k")
    one = np.zeros(1, np.int32)
    with pytest.raises(DataError, match="mine: item 0 is none of the 0"):
        Ratings("mine", one, one, one.astype(np.float32), 1, (), 1.0, 5.0)
