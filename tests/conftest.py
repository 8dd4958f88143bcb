"""What every test starts from: strict JAX, an own cache for compiled programs, data and goldens where they are set.

Programs are small here and there are thousands of them, so that XLA's optimisations would take most of the time: they
are off, in the processes that tests start too; tests that ask for `optimised` have the cheapest of LLVM's.
JANN_TEST_OPTIMISED=1 has every program compiled as users have it (on two cores, where none is in the cache yet: 48
minutes in place of 20).
"""

import gc
import os
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

LEVEL, CHEAP = "JAX_DISABLE_MOST_OPTIMIZATIONS", "--xla_backend_optimization_level=1"
if version("jaxlib").startswith("0.10."):  # later ones may not know the flags, which would end the process
    CHEAP += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if os.environ.get("JANN_TEST_OPTIMISED", "0") == "0":  # before JAX starts
    os.environ.setdefault(LEVEL, "1")
    if CHEAP not in (flags := os.environ.get("XLA_FLAGS", "")):  # pytest's processes see what its first one set
        os.environ["XLA_FLAGS"] = f"{flags} {CHEAP}".strip()

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

gc.set_threshold(200_000, 20, 20)  # tracing makes many objects and few cycles
CACHE = Path(tempfile.gettempdir()) / f"jann-test-cache-{os.getuid()}"

jax.config.update("jax_debug_nans", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Programs are forgotten after each file: each keeps pieces of memory, and a process may have 65,530 of them."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def optimised():
    """Programs are compiled with LLVM's cheap optimisations: for tests that compare bits or compute for long."""
    before = os.environ.get(LEVEL, "0") != "0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LEVEL, "0")
        jax.config.update(LEVEL.lower(), False)
        yield
        jax.config.update(LEVEL.lower(), before)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def in_two_processes():
    """run(code, *arguments) -> the lines that each of two JAX processes printed, which found jax, number, arguments."""
    start = """if True:
        import sys, jax
        port, number, *arguments = sys.argv[1:]
        number = int(number)
        jax.distributed.initialize(f"localhost:{port}", 2, number, cluster_detection_method="deactivate",
                                   initialization_timeout=60)
    """

    def run(code: str, *arguments: object) -> list[list[str]]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command, rest = [sys.executable, "-c", start + code, port], list(map(str, arguments))
        both = [subprocess.Popen([*command, str(number), *rest], **pipes) for number in range(2)]
        try:
            printed = [process.communicate(timeout=120) for process in both]
        finally:
            for process in both:
                process.kill()
        assert [process.returncode for process in both] == [0, 0], printed
        return [out.splitlines() for out, _ in printed]

    return run


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no process waits for another in the end."""
    first = ("test_notebooks.py", "test_kill.py")
    items.sort(key=lambda item: item.path.name not in first)


def _folder(variable: str, what: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: it names the folder of {what}")
    return Path(os.environ[variable])


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of golden models."""
    return _folder("JANN_GOLDENS", "golden models")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real datasets."""
    return _folder("JANN_DATA", "datasets")


@pytest.fixture(scope="session")
def drawn():
    """model -> parameters away from where they start, drawn by NumPy: compiling every `init` would take most time."""

    def draw(path, leaf):
        random = np.random.default_rng(len(leaf.shape) + leaf.size)
        if path[-1].key in ("scale", "variance"):
            return np.float32(random.uniform(0.5, 1.5, leaf.shape))
        return np.float32(random.normal(size=leaf.shape) / np.sqrt(max(1, np.prod(leaf.shape[:-1]))))

    return lambda model: jax.tree_util.tree_map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0)))
