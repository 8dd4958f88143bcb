"""Where the files of datasets are found, and whether they are what they should be."""

import gzip
import hashlib
import logging
import os
import zlib
from pathlib import Path


class DataError(ValueError):
    """A dataset's file is not what it should be."""


class MissingData(FileNotFoundError):
    """A dataset's file is in no place that was looked at and could not be fetched."""


def places() -> list[Path]:
    """The folders that datasets are looked for in, in order: JANN_DATA where it is set, and the cache."""
    import pooch

    given = os.environ.get("JANN_DATA")
    return [*([Path(given)] if given else []), Path(pooch.os_cache("jann"))]


def find(relative: str, url: str | None = None, known_hash: str | None = None, source: str = "") -> Path:
    """The path of a dataset's file, such as "mnist/train-images-idx3-ubyte.gz".

    Looked for in the folder JANN_DATA, then in the cache, then fetched from `url` into the cache. Raises
    MissingData where it is nowhere, with the places to put it, and without `url` what its `source` is;
    DataError where what was fetched has another hash.
    """
    for folder in places():
        if (folder / relative).is_file():
            return folder / relative
    if url is None:
        source = source and f" ({source})"
        raise MissingData(f"{relative} is missing and cannot be downloaded{source}: {where_to_put(relative)}")

    import pooch

    target = places()[-1] / relative
    level = pooch.get_logger().level
    pooch.get_logger().setLevel(logging.WARNING)  # it advises its caller on hashes, which are checked here
    try:
        return Path(pooch.retrieve(url, known_hash, fname=target.name, path=target.parent))
    except OSError as error:
        advice = f"download it by hand, and {where_to_put(relative)}"
        raise MissingData(f"{relative} is missing and {url} cannot be reached: {advice}") from error
    except ValueError as error:
        raise DataError(f"{url} is not the file expected, or was cut short: try again ({error})") from error
    finally:
        pooch.get_logger().setLevel(level)


def where_to_put(relative: str) -> str:
    """What to do about a missing file: the two places, in words."""
    *given, cache = places()
    data = f"{given[0] / relative}" if given else f"$JANN_DATA/{relative} (JANN_DATA is not set)"
    return f"put it at {data} or at {cache / relative}"


def unpacked(path: Path, sha256: str) -> bytes:
    """The contents of a gzip file whose unpacked sha256 is given, for the packed bytes differ by mirror.

    Raises DataError where it cannot be unpacked or holds something else.
    """
    try:
        contents = gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise altered(path, f"cannot be unpacked ({error})", f"contents of sha256 {sha256}") from error
    found = hashlib.sha256(contents).hexdigest()
    if found != sha256:
        raise altered(path, f"has contents of sha256 {found}", sha256)
    return contents


def altered(path: Path, found: str, expected: str) -> DataError:
    """The error for a file that is there but wrong: "<path> <found>, expected <expected>" and what to do."""
    return DataError(
        f"{path} {found}, expected {expected}: it is truncated or altered. "
        "Delete it, and it is fetched again where it can be, or copy it again."
    )
