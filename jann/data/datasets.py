"""Datasets by name. Each kind of source is a file of its own (images.py); this one only finds them."""

import difflib
from typing import Any

from jann.data import cells, corpora, detection, faces, images, music, ratings, recordings, text, time_series

DATASETS = {
    "digits": images.digits,
    "mnist": images.mnist,
    "fashion_mnist": images.fashion_mnist,
    "cifar10": images.cifar10,
    "cifar10_subset": images.cifar10_subset,
    "synthetic_cells": cells.synthetic_cells,
    "isbi2012": cells.isbi2012,
    "scattered_digits": detection.scattered_digits,
    "bccd": detection.bccd,
    "python_topics": text.python_topics,
    "tiny_shakespeare": text.tiny_shakespeare,
    "python_sources": corpora.python_sources,
    "wikitext2": corpora.wikitext2,
    "multi30k": corpora.multi30k,
    "sst2": corpora.sst2,
    "dialogsum": corpora.dialogsum,
    "mbpp": corpora.mbpp,
    "synthetic_tones": recordings.synthetic_tones,
    "spoken_digits": recordings.spoken_digits,
    "synthetic_faces": faces.synthetic_faces,
    "olivetti": faces.olivetti,
    "synthetic_canons": music.synthetic_canons,
    "jsb_chorales": music.jsb_chorales,
    "etth1": time_series.etth1,
    "sp500": time_series.sp500,
    "apple": time_series.apple,
    "google": time_series.google,
    "seasonal": time_series.seasonal,
    "synthetic_ratings": ratings.synthetic_ratings,
    "movielens_100k": ratings.movielens_100k,
}


def load(name: str) -> Any:
    """The dataset called `name`, from its files in the folder JANN_DATA, in the cache, or downloaded.

        dataset = jann.data.load("mnist")
        batches = jann.data.batches(dataset.train, 128, key, transform=dataset.standardise)

    Images come as a `Dataset`, with boxes as `Boxes`, people's as `Faces`, text as `Text` (characters) or `Corpus`
    (strings), sound as `Recordings`, music as `PianoRolls`, time series as `Series`, ratings as `Ratings`.

    Raises ValueError for an unknown name, MissingData (a FileNotFoundError) where files are missing and
    cannot be downloaded, DataError where they are truncated or altered.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name.lower(), DATASETS, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no dataset is called {name!r}.{guess} There are: {', '.join(DATASETS)}")
    return DATASETS[name]()
