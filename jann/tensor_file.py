"""A safetensors file, read tensor by tensor.

The library's own reader maps the whole file into memory, where it counts beside what is made of it: so a model would
need twice its size to be loaded. This reads the bytes of one tensor after another (https://huggingface.co/docs/safetensors,
"Format": the length of a header, the header in JSON, the bytes).
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

DTYPES = {
    "C64": np.complex64, "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
HEADER = 100_000_000  # bytes at most, as the library allows
ALIGNMENT = 64  # bytes, of XLA's buffers


class TensorFileError(ValueError):
    """A file that is no safetensors file, or not a whole one."""


class TensorFile:
    """names, and `read(name) -> array` of a file; to be closed, or used in a `with`.

    Raises TensorFileError for a file that is damaged or truncated, before anything is read from it.
    """

    def __init__(self, path: Path):
        self.file: BinaryIO = path.open("rb", buffering=0)
        try:
            self.entries, self.begin = self._header(path.stat().st_size)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.file.close()
            raise TensorFileError(str(error)) from None

    def _header(self, size: int) -> tuple[dict, int]:
        length = int.from_bytes(self.file.read(8), "little")
        if not 2 <= length <= min(HEADER, size - 8):
            raise ValueError(f"{size} bytes, of which the header would be {length}")
        entries = json.loads(self.file.read(length).decode("utf-8"))
        entries.pop("__metadata__", None)
        begin = 8 + length
        for name, entry in entries.items():
            first, last = entry["data_offsets"]
            if entry["dtype"] not in DTYPES:
                raise ValueError(f"{name} is of dtype {entry['dtype']}; known are {', '.join(DTYPES)}")
            wanted = int(np.prod(entry["shape"], dtype=np.int64)) * np.dtype(DTYPES[entry["dtype"]]).itemsize
            if last - first != wanted or first < 0:
                raise ValueError(f"{name} {entry['shape']} has {last - first} bytes, not {wanted}")
            if begin + last > size:
                raise ValueError(f"{size} bytes, and {name} would end at {begin + last}")
        return entries, begin

    def keys(self) -> list[str]:
        return list(self.entries)

    def read(self, name: str) -> np.ndarray:
        """The tensor of that name; KeyError without it."""
        entry = self.entries[name]
        self.file.seek(self.begin + entry["data_offsets"][0])
        array = aligned(entry["shape"], DTYPES[entry["dtype"]])
        view, done = array.reshape(-1).view(np.uint8).data if array.size else b"", 0
        while done < len(view):
            got = self.file.readinto(view[done:])
            if not got:
                raise TensorFileError(f"{name} ends after {done} of {len(view)} bytes")
            done += got
        return array

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def aligned(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array to be filled that `jax.device_put` then takes as it is: on a CPU, JAX copies what begins elsewhere."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    return room[begin : begin + size].view(dtype).reshape(shape)
