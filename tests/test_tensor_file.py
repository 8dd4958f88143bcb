"""Safetensors read tensor by tensor: what the library wrote, to the byte, and a clear error where it is not whole."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import save_file
from safetensors.numpy import save_file as save_numpy

import jann
from jann.tensor_file import TensorFile, TensorFileError


def test_every_dtype_and_shape_is_what_the_library_wrote(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        str(np.dtype(dtype)): random.integers(0, 2, (3, 2)).astype(dtype)
        for dtype in (np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_)
    }
    arrays["complex64"] = (arrays["float32"] + 1j).astype(np.complex64)
    arrays |= {"scalar": np.array(3.5, np.float32), "nothing": np.zeros((0, 4), np.float32)}
    save_numpy(arrays, tmp_path / "a.safetensors", {"format": "pt"})
    eight = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
    half = {name: jnp.asarray(random.uniform(1, 9, (5, 7)), name) for name in ("bfloat16", *eight)}
    save_file(half, tmp_path / "b.safetensors")
    for name, wanted in (("a", arrays), ("b", half)):
        with TensorFile(tmp_path / f"{name}.safetensors") as file:
            assert set(file.keys()) == set(wanted)
            for key, array in wanted.items():
                found = file.read(key)
                assert found.dtype == array.dtype and found.shape == array.shape
                assert found.tobytes() == np.asarray(array).tobytes()


def test_what_is_not_whole_is_said_before_anything_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    save_numpy({"x": np.arange(6, dtype=np.float32)}, path)
    whole = path.read_bytes()
    damaged = {
        "x would end at": whole[:-1],
        "of which the header would be": whole[:5],
        "the header would be": b"\xff" * 8 + whole[8:],
        "Expecting": whole[:8] + b"?" * (len(whole) - 8),
        "dtype Q32": whole.replace(b"F32", b"Q32"),
        "has 24 bytes, not 20": whole.replace(b"[6]", b"[5]"),
    }
    for message, contents in damaged.items():
        path.write_bytes(contents)
        with pytest.raises(TensorFileError, match=message):
            TensorFile(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's own peak of memory")
@pytest.mark.parametrize(("save", "load"), [("save", "load"), ("save_pretrained", "from_pretrained")])
def test_loading_takes_little_more_memory_than_the_model(tmp_path, save, load):
    """In a process of its own: what it holds at the most, beside what it held before."""
    model = jann.models.Llama(vocab=2000, embed=512, layers=12, heads=8, hidden=1536, key_value_heads=8)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    getattr(jann, save)(tmp_path, model, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
    code = """
import re, sys, jax, jann, jann.pretrained
def most():  # not the peak of `resource`, which begins at that of the process that started this one
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
jax.block_until_ready(jax.numpy.ones(3) + 1)
before = most()
_, params = getattr(jann, sys.argv[2])(sys.argv[1])
jax.block_until_ready(params)
print((most() - before) / sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path, load], capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < 1.2


def test_what_is_read_may_be_donated(tmp_path):
    """JAX takes the memory as it is; a program that overwrites its arguments must not be misled."""
    save_numpy({"x": np.arange(600, dtype=np.float32)}, tmp_path / "x.safetensors")
    with TensorFile(tmp_path / "x.safetensors") as file:
        found = file.read("x")
    given = jax.device_put(found)
    assert given.unsafe_buffer_pointer() == found.ctypes.data or jax.default_backend() != "cpu"
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(given)
    np.testing.assert_array_equal(doubled, 2 * np.arange(600))
    np.testing.assert_array_equal(found, np.arange(600))
