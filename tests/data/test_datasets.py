"""Datasets: their published counts and statistics, and errors that say which file and what to do."""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import jax
import numpy as np
import pooch
import pytest

import jann.data
from jann.data import files, images

GIVEN = os.environ.get("JANN_DATA", "")
needs_files = pytest.mark.skipif(not GIVEN, reason="JANN_DATA is not set")

# Computed once, with scikit-learn 1.9: a split that moves makes results of different days incomparable.
DIGITS_TEST_SHA256 = "3cc232bd25364446c8646cd9434a26e35ea92e20045d395b2fdd2232a75c9b8f"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """JANN_DATA and the cache as two empty folders, and no network."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    monkeypatch.setenv("JANN_DATA", str(data))
    monkeypatch.setattr(pooch, "os_cache", lambda name: cache)

    def unreachable(*arguments, **named):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", unreachable)
    return data, cache


def counts(split):
    return np.bincount(split["label"], minlength=10).tolist()


def write(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)


def test_importing_loads_nothing_heavy():
    heavy = {"sklearn", "pooch", "grain", "requests"}
    program = f"import sys, jann.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_digits_are_scikit_learns_split_evenly_and_always_alike():
    from sklearn.datasets import load_digits

    dataset = jann.data.load("digits")
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [len(split["label"]) for split in splits] == [1257, 180, 360]
    for split in splits:
        assert split["image"].dtype == np.uint8 and split["image"].shape[1:] == (8, 8, 1)
        assert split["label"].dtype == np.int32
    whole = np.concatenate([split["image"].reshape(-1, 64) for split in splits])
    labels = np.concatenate([split["label"] for split in splits])
    given = load_digits()
    order, wanted = np.lexsort([labels, *whole.T]), np.lexsort([given.target, *given.data.T])
    np.testing.assert_array_equal(whole[order], given.data[wanted])
    np.testing.assert_array_equal(labels[order], given.target[wanted])
    overall = np.bincount(given.target) / 1797
    for split in splits:
        assert np.abs(np.array(counts(split)) - overall * len(split["label"])).max() <= 1
    assert hashlib.sha256(dataset.test["image"].tobytes()).hexdigest() == DIGITS_TEST_SHA256
    assert dataset.train["image"].max() / dataset.scale == 1


def test_standardised_training_images_have_mean_0_and_variance_1():
    dataset = jann.data.load("digits")
    with jax.numpy_rank_promotion("raise"):
        batch = dataset.standardise(dataset.train)
    assert batch["image"].dtype == np.float32 and batch["label"] is dataset.train["label"]
    np.testing.assert_allclose([batch["image"].mean(), batch["image"].std()], [0, 1], atol=1e-5)
    pixels = dataset.train["image"] / 16
    np.testing.assert_allclose(dataset.mean, [pixels.mean()], rtol=1e-12)
    np.testing.assert_allclose(dataset.deviation, [pixels.std()], rtol=1e-12)


def test_standardise_is_by_channel_and_equal_numbers_are_an_equal_transform():
    standardise = images.Standardise((0.25, 0.5), (0.5, 2.0), 10.0)
    out = standardise({"image": np.array([[[[5, 25]]]], np.uint8)}, jax.random.key(0))["image"]
    np.testing.assert_allclose(out, [[[[(0.5 - 0.25) / 0.5, (2.5 - 0.5) / 2]]]])
    first, second = (jann.data.load("digits") for _ in range(2))
    assert first.standardise == second.standardise and hash(first.standardise) == hash(second.standardise)
    batches = jann.data.batches(first.train, 32, jax.random.key(0), transform=first.standardise)
    raw = jann.data.batches(first.train, 32, jax.random.key(0))(5)
    assert raw["image"].dtype == np.uint8
    np.testing.assert_allclose(batches(5)["image"], first.standardise(raw)["image"], atol=1e-6)


@needs_files
def test_mnist_is_the_published_one():
    dataset = jann.data.load("mnist")
    train, validation = counts(dataset.train), counts(dataset.validation)
    assert np.add(train, validation).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (sum(train), sum(validation)) == (55_000, 5_000)
    assert counts(dataset.test) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert dataset.train["label"][:5].tolist() == [
        5,
        0,
        4,
        1,
        9,
    ]  # the first rows of the file, as widely shown
    assert dataset.test["label"][:5].tolist() == [7, 2, 1, 0, 4]
    np.testing.assert_allclose([dataset.mean[0], dataset.deviation[0]], [0.1307, 0.3081], atol=2e-4)
    assert dataset.train["image"].shape == (55_000, 28, 28, 1) and dataset.train["image"].dtype == np.uint8


@needs_files
def test_fashion_mnist_is_the_published_one():
    dataset = jann.data.load("fashion_mnist")
    assert (np.add(counts(dataset.train), counts(dataset.validation)) == 6000).all()
    assert counts(dataset.test) == [1000] * 10
    assert [dataset.classes[i] for i in dataset.train["label"][:2]] == ["Ankle boot", "T-shirt/top"]
    np.testing.assert_allclose([dataset.mean[0], dataset.deviation[0]], [0.2860, 0.3530], atol=3e-4)


@needs_files
def test_cifar10_subset_is_balanced_and_in_colour():
    dataset = jann.data.load("cifar10_subset")
    assert (np.add(counts(dataset.train), counts(dataset.validation)) == 1000).all()
    assert (len(dataset.validation["label"]), counts(dataset.test)) == (1000, [200] * 10)
    np.testing.assert_allclose(dataset.mean, [0.4902, 0.4815, 0.4466], atol=2e-3)
    np.testing.assert_allclose(dataset.deviation, [0.2475, 0.2437, 0.2620], atol=2e-3)
    # Neighbouring pixels of a photograph are alike, which a wrong order of axes would undo.
    pixels = dataset.train["image"][:500].astype(np.float32) / 255
    assert np.abs(np.diff(pixels, axis=1)).mean() < 0.08 and np.abs(np.diff(pixels, axis=2)).mean() < 0.08


def cifar10_files(folder):
    """Six files of 10,000 records, labels in turn: red the file number, green the row, blue the column."""
    table = np.zeros((10_000, 3, 32, 32), np.uint8)
    table[:, 1], table[:, 2] = np.arange(32)[:, None], np.arange(32)
    labels = (np.arange(10_000) % 10).astype(np.uint8)[:, None]
    for number, name in enumerate(images.CIFAR10_FILES, start=1):
        table[:, 0] = number
        write(folder / name, np.concatenate([labels, table.reshape(10_000, 3072)], axis=1).tobytes())


def check_cifar10(dataset):
    """What `cifar10_files` wrote, in its place: five training files, validation last, then the test file."""
    assert (len(dataset.train["label"]), counts(dataset.test)) == (45_000, [1000] * 10)
    reds = dataset.train["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(reds, np.repeat([1, 2, 3, 4, 5], [10_000] * 4 + [5_000]))
    assert set(dataset.validation["image"][..., 0].flat) == {5}
    assert set(dataset.test["image"][..., 0].flat) == {6}
    np.testing.assert_array_equal(dataset.train["image"][123, :, :, 1], np.arange(32)[:, None] * np.ones(32))
    np.testing.assert_array_equal(dataset.train["image"][123, :, :, 2], np.arange(32) * np.ones((32, 1)))
    np.testing.assert_allclose(dataset.mean[1:], [15.5 / 255] * 2)
    assert dataset.train["label"][:12].tolist() == [*range(10), 0, 1]


def test_cifar10_from_extracted_files_and_from_the_archive(folders, monkeypatch):
    data, cache = folders
    extracted = data / "cifar10/cifar-10-batches-bin"
    cifar10_files(extracted)
    check_cifar10(jann.data.load("cifar10"))

    archive = cache / "cifar10/cifar-10-binary.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(extracted, "cifar-10-batches-bin")
    (extracted / "data_batch_2.bin").write_bytes(b"short")
    with pytest.raises(jann.data.DataError, match=r"data_batch_2.bin has 5 bytes, expected 30,730,000"):
        jann.data.load("cifar10")
    (extracted / "data_batch_2.bin").unlink()
    with pytest.raises(jann.data.MissingData, match=r"data_batch_2.bin is missing and cannot be downloaded"):
        jann.data.load("cifar10")
    shutil.rmtree(extracted)
    with pytest.raises(jann.data.DataError, match=f"tar.gz has md5 .*, expected {images.CIFAR10_MD5}"):
        jann.data.load("cifar10")
    monkeypatch.setattr(images, "CIFAR10_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    check_cifar10(jann.data.load("cifar10"))


def test_a_label_out_of_range_is_refused():
    record = np.zeros(3073, np.uint8)
    record[0] = 10
    with pytest.raises(jann.data.DataError, match="somewhere.bin has a label 10, expected labels 0 to 9"):
        images.records(record.tobytes(), Path("somewhere.bin"), 1)


def test_an_unknown_name_lists_the_known_and_guesses():
    with pytest.raises(
        ValueError, match="Did you mean 'fashion_mnist'.*digits, mnist, fashion_mnist, cifar10"
    ):
        jann.data.load("Fashion-MNIST")
    with pytest.raises(ValueError, match=r"no dataset is called 'xyzzy'\. There are: digits"):
        jann.data.load("xyzzy")


def test_without_network_the_error_says_which_file_from_where_and_where_to(folders):
    data, cache = folders
    with pytest.raises(FileNotFoundError) as caught:
        jann.data.load("mnist")
    message = str(caught.value)
    name = "mnist/train-images-idx3-ubyte.gz"
    assert f"https://ossci-datasets.s3.amazonaws.com/{name}" in message
    assert str(data / name) in message and str(cache / name) in message
    with pytest.raises(jann.data.MissingData, match="train10k.bin.gz is missing and cannot be .*cyizhuo/CIFAR-10-"):
        jann.data.load("cifar10_subset")
    with pytest.raises(jann.data.MissingData, match="https://raw.githubusercontent.com/edwardhdlu/q-trader/.*GSPC.csv"):
        jann.data.load("sp500")


def test_without_the_variable_the_error_names_it(folders, monkeypatch):
    monkeypatch.delenv("JANN_DATA")
    with pytest.raises(jann.data.MissingData, match=r"\$JANN_DATA/mnist/.* \(JANN_DATA is not set\)"):
        jann.data.load("mnist")


def test_files_are_found_in_the_given_folder_then_the_cache_then_fetched(folders, monkeypatch):
    data, cache = folders
    fetched = []

    def retrieve(url, known_hash, fname, path):
        fetched.append((url, known_hash))
        write(Path(path) / fname, b"fetched")
        return str(Path(path) / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert files.find("a/b.gz", "https://example.org/b.gz", "md5:0").read_bytes() == b"fetched"
    assert fetched == [("https://example.org/b.gz", "md5:0")]
    assert files.find("a/b.gz") == cache / "a/b.gz"
    write(data / "a/b.gz", b"given")
    assert files.find("a/b.gz") == data / "a/b.gz"
    assert len(fetched) == 1


def test_what_is_fetched_with_another_hash_is_not_used(folders, monkeypatch):
    def mismatch(*arguments, **named):
        raise ValueError("hash of downloaded file does not match")

    monkeypatch.setattr(pooch, "retrieve", mismatch)
    with pytest.raises(jann.data.DataError, match="https://example.org/b.gz is not the file expected"):
        files.find("a/b.gz", "https://example.org/b.gz", "md5:0")


def test_other_wrappers_are_accepted_and_other_contents_are_not(tmp_path):
    contents, path = bytes(range(256)) * 20, tmp_path / "numbers.gz"
    sha256 = hashlib.sha256(contents).hexdigest()
    for level in (1, 9):
        path.write_bytes(gzip.compress(contents, level))
        assert files.unpacked(path, sha256) == contents

    packed = path.read_bytes()
    flipped = io.BytesIO(packed)
    flipped.seek(len(packed) // 2)
    flipped.write(bytes([packed[len(packed) // 2] ^ 255]))
    for damaged in (packed[:-30], b"", b"not gzip", flipped.getvalue(), gzip.compress(contents[:-1])):
        path.write_bytes(damaged)
        with pytest.raises(jann.data.DataError, match=rf"numbers.gz .*expected .*{sha256}.*[Dd]elete it"):
            files.unpacked(path, sha256)


@needs_files
def test_a_truncated_mnist_is_named(folders, monkeypatch):
    data, _ = folders
    source = Path(GIVEN) / "mnist"
    for file in images.CONTENTS["mnist"]:
        write(data / "mnist" / file, (source / file).read_bytes())
    labels = data / "mnist/t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:2000])
    with pytest.raises(jann.data.DataError, match="t10k-labels-idx1-ubyte.gz cannot be unpacked"):
        jann.data.load("mnist")
