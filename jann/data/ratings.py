"""What people think of things: ratings, MovieLens and synthetic."""

import hashlib
import io
import zipfile
from dataclasses import dataclass

import numpy as np

from jann.data.files import DataError, altered, find

MOVIELENS_SOURCE = "MovieLens 100K, grouplens.org/datasets/movielens/100k, whose licence forbids passing it on"
MOVIELENS_SHA256 = {
    "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
}


@dataclass(frozen=True, eq=False, repr=False)
class Ratings:
    """Who gave what to what: user[n], item[n] and rating[n], in no order that matters.

    users:   how many there are, numbered from 0
    titles:  of the items
    lowest, highest:  a rating lies between them
    noise:   the standard deviation that no forecast can go below, where it is known

    Raises DataError for numbers of users or items that are not there.
    """

    name: str
    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    users: int
    titles: tuple[str, ...]
    lowest: float
    highest: float
    noise: float | None = None

    def __post_init__(self):
        for what, numbers, count in (("user", self.user, self.users), ("item", self.item, len(self.titles))):
            if numbers.min() < 0 or numbers.max() >= count:
                raise DataError(f"{self.name}: {what} {numbers.max()} is none of the {count}, numbered from 0")

    def __repr__(self):
        share = len(self.rating) / (self.users * len(self.titles))
        return (
            f"{self.name}: {len(self.rating):,} ratings of {len(self.titles):,} items by {self.users:,} users "
            f"({share:.1%} of all pairs), {self.rating.mean():.2f} on average"
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """{"user", "item", "rating"}: each [n]"""
        return {"user": self.user, "item": self.item, "rating": self.rating}

    def folds(self, n: int, seed: int = 0) -> np.ndarray:
        """Which of n parts of equal size each rating is in, drawn at random: [ratings], from 0"""
        if not 2 <= n <= len(self.rating):
            raise ValueError(f"n={n}: give from 2 to {len(self.rating)} folds")
        return np.random.default_rng(seed).permutation(len(self.rating)).astype(np.int32) % n


def movielens_100k() -> Ratings:
    """100,000 ratings of 1,682 films by 943 users, 1 to 5. Harper and Konstan 2015, ACM TiiS 5(4).

    Read from recsys/ml-100k.zip, or any zip file that has ml-100k/u.data and u.item; not downloaded.
    """
    path = find("recsys/ml-100k.zip", source=MOVIELENS_SOURCE)
    try:
        with zipfile.ZipFile(path) as packed:
            contents = {name: packed.read(f"ml-100k/{name}") for name in MOVIELENS_SHA256}
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise altered(path, f"cannot be unpacked ({error})", "a zip file of ml-100k/u.data and u.item") from error
    for name, expected in MOVIELENS_SHA256.items():
        if (found := hashlib.sha256(contents[name]).hexdigest()) != expected:
            raise altered(path, f"has a {name} of sha256 {found}", expected)
    rows = np.loadtxt(io.BytesIO(contents["u.data"]), dtype=np.int32, delimiter="\t")
    titles = tuple(line.split("|")[1] for line in contents["u.item"].decode("latin-1").splitlines())
    user, item, rating = rows[:, 0] - 1, rows[:, 1] - 1, rows[:, 2].astype(np.float32)
    return Ratings("movielens_100k", user, item, rating, 943, titles, 1.0, 5.0)


def synthetic_ratings(seed: int = 0) -> Ratings:
    """12,000 ratings of 150 items by 200 users: each has a taste in three traits, and noise of deviation 0.5 is added.

    No forecast has a root mean squared error below the noise, 0.5.
    """
    random, users, items, traits, noise = np.random.default_rng(seed), 200, 150, 3, 0.5
    tastes, having = random.normal(size=(users, traits)), random.normal(size=(items, traits))
    kindness, quality = 0.4 * random.normal(size=users), 0.4 * random.normal(size=items)
    likes = 3 + kindness[:, None] + quality + 0.5 * tastes @ having.T
    pairs = random.permutation(users * items)[:12_000]
    user, item = (numbers.astype(np.int32) for numbers in np.divmod(pairs, items))
    rating = (likes[user, item] + noise * random.normal(size=len(pairs))).astype(np.float32)
    titles = tuple(f"item {i}" for i in range(items))
    limits = float(rating.min()), float(rating.max())
    return Ratings("synthetic_ratings", user, item, rating, users, titles, *limits, noise)
