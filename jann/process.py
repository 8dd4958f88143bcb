"""What jann sets for the whole process when it is imported, each of which can be turned off.

Memory:    on Linux, memory that JAX frees on a CPU is kept for its next program, as on a GPU. The C library would hand
           it back, and the next step would ask the system for each of its pages again: the gradient of an LSTM (128
           steps, 256 units, 130 MB) takes 180 ms in place of 225 on two cores. For that the thread that calls a program
           runs it, so that its memory comes from the heap that can be kept, and steps do not pile up with memory each
           (ten of a GPT's ahead of time: 3 GB in place of 0.8). Then Python's part of a step does not overlap with the
           last one: about 170 microseconds in place of 120 for a small MLP's step called from Python, though a scan of
           them loses nothing. `jann.cpu_devices()`, after which programs run side by side, takes it back. It is for up
           to four cores, where it was measured; JANN_KEEP_MEMORY=0 turns it off, 1 on with any number.
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
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
CORES = 4
ASYNCHRONOUS = "jax_cpu_enable_async_dispatch"
LIBRARY = "xla_cpu_experimental_ynn_fusion_type"


def keep_memory() -> bool:
    """Keeps freed memory in the process, and returns whether that could be set.

    Of the main thread's heap nothing is mapped apart and nothing is handed back, and programs take their memory there.
    """
    kept = _wants_kept_memory() and _set_malloc({MMAP_MAX: 0, TRIM_THRESHOLD: -1})
    if kept and ASYNCHRONOUS.upper() not in os.environ:
        jax.config.update(ASYNCHRONOUS, False)
    return kept


def run_side_by_side() -> bool:
    """Takes `keep_memory` back before JAX starts: threads that serve several devices have heaps of their own."""
    changed = _wants_kept_memory() and _set_malloc({MMAP_MAX: 65536, MMAP_THRESHOLD: 1 << 25, TRIM_THRESHOLD: 1 << 26})
    if changed and ASYNCHRONOUS.upper() not in os.environ:
        jax.config.update(ASYNCHRONOUS, True)
    return changed


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
