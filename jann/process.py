"""What jann sets for the whole process when it is imported, each of which can be turned off.

Memory:    on Linux, memory that JAX frees on a CPU is kept for its next program, as on a GPU. The C library would hand
           it back, and the next step would ask the system for each of its pages again: the gradient of an LSTM (128
           steps, 256 units, 130 MB) takes 150 ms in place of 185 on two cores, a step of ResNet-20 310 in place of 410.
           Memory once used stays with the process, and all threads share one heap, for which they wait where steps are
           tiny: 140 microseconds in place of 105 for a small MLP's step called from Python (a scan of them loses
           nothing). So it is for up to four cores, and `jann.cpu_devices()`, after which programs run side by side,
           takes it back. Off: JANN_KEEP_MEMORY=0; on with any number of cores: 1. Where Python's start is in one's
           hands, GLIBC_TUNABLES=glibc.malloc.hugetlb=1 brings as much, and nobody waits; set it with the 0.
Programs:  those that took a twentieth of a second to compile are kept on disk, in `jann/compiled` of the user's cache
           (~/.cache on Linux), a folder for each machine, and found again by the next process. Off:
           JAX_ENABLE_COMPILATION_CACHE=0; another folder: JAX_COMPILATION_CACHE_DIR. The folder may be deleted.
Convolutions: jaxlib 0.10 gives them on a CPU to a library of kernels that takes nearly twice the time of its own (6 for
           3.3 ms at 16 x 16 x 32, 10 for 6.8 the kernel's gradient; 0.11 has better ones), so its own are asked for
           in XLA_FLAGS. Off: name xla_cpu_experimental_ynn_fusion_type there, or start JAX before importing jann.
"""

import ctypes
import os
import platform
import sys

import jax
import jaxlib
from platformdirs import user_cache_path

# parameters of mallopt(3)
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
CORES = 4  # up to which threads hardly wait for the one heap
LIBRARY = "xla_cpu_experimental_ynn_fusion_type"


def keep_memory() -> bool:
    """Keeps freed memory in the process, and returns whether that could be set.

    One heap, from which all threads take, of which nothing is mapped apart and nothing is handed back.
    """
    return _wants_kept_memory() and _set_malloc({ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: -1})


def heaps_for_devices(n: int) -> bool:
    """Takes `keep_memory` back before JAX starts: heaps for the threads that will serve n devices of a CPU."""
    default = {ARENA_MAX: 8 * n, MMAP_MAX: 65536, MMAP_THRESHOLD: 1 << 25, TRIM_THRESHOLD: 1 << 26}
    return _wants_kept_memory() and _set_malloc(default)


def _wants_kept_memory() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    few = len(os.sched_getaffinity(0)) <= CORES
    return os.environ.get("JANN_KEEP_MEMORY", "1" if few else "0") != "0"


def _set_malloc(options: dict[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # a C library other than GNU's
        return False
    return all([mallopt(option, value) for option, value in options.items()])


def own_convolutions() -> None:
    """Asks XLA for its own convolutions on a CPU, where the library that it would call is known to be slower."""
    flags = os.environ.get("XLA_FLAGS", "")
    if jaxlib.__version__.startswith("0.10.") and LIBRARY not in flags:  # an unknown flag would end the process
        os.environ["XLA_FLAGS"] = f"{flags} --{LIBRARY}=-individual_convolution".strip()


def keep_programs() -> None:
    """Names a folder for compiled programs, where the user has named none and it can be made."""
    if jax.config.jax_compilation_cache_dir:
        return
    folder = user_cache_path("jann") / "compiled" / (platform.node() or "machine")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)  # JAX's second leaves out a model's start
