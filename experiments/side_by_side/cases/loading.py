"""Loading a model of about 1 GB from a folder as published, a Llama with drawn weights, its file in the page cache.

A model counts as loaded when each of its pages was touched, since a mapped file is only read then. The peak memory is
that of the process above what it had before the first load. `reading` is the limit: the file's bytes, in one go.
PyTorch's transformers is beyond it, for it maps the file and copies nothing.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, Bar, Case, Measured

VOCAB, EMBED, LAYERS, HEADS, HIDDEN = 8192, 1024, 15, 16, 4096
PAGE = 1024  # float32 numbers in a page of memory


def numbers() -> int:
    """How many the model has."""
    return 2 * VOCAB * EMBED + LAYERS * (4 * EMBED**2 + 3 * EMBED * HIDDEN + 2 * EMBED) + EMBED


def files(folder: Path) -> None:
    import jax

    import jann

    model = jann.models.Llama(VOCAB, EMBED, LAYERS, HEADS, HIDDEN)
    jann.save_pretrained(folder / "model", model, jax.jit(model.init)(jax.random.key(0)))


def repeated(load: Callable[[], Iterable[np.ndarray]]) -> Advance:
    """`load() -> its arrays`, each time after the last ones are gone; the sum of all numbers, taken once"""
    before, total, peak = memory("VmRSS"), [], None

    def advance(portions):
        nonlocal peak
        for _ in range(portions):
            arrays = list(load())
            for array in arrays:
                array.ravel(order="K")[::PAGE].sum()
            peak = None if before is None else memory("VmHWM") - before
            if not total:
                total.append(sum(array.sum(dtype=np.float64) for array in arrays))
            del arrays
        return Measured(total, megabytes=peak)

    return advance


def memory(name: str) -> float | None:
    """Megabytes that this process has in memory ("VmRSS") or had at most ("VmHWM"), where the system tells."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status.read_text().splitlines() if line.startswith(name))


def jann(start: Arrays) -> Advance:
    import jax

    import jann

    return repeated(lambda: map(np.asarray, jax.tree.leaves(jann.from_pretrained(start["folder"] / "model")[1])))


def transformers(start: Arrays) -> Advance:
    from transformers import LlamaForCausalLM

    def load():
        return [p.detach().numpy() for p in LlamaForCausalLM.from_pretrained(start["folder"] / "model").parameters()]

    return repeated(load)


def safetensors(start: Arrays) -> Advance:
    from safetensors.numpy import load_file

    return repeated(lambda: load_file(start["folder"] / "model" / "model.safetensors").values())


def reading(start: Arrays) -> Advance:
    file = start["folder"] / "model" / "model.safetensors"
    advance = repeated(lambda: [np.frombuffer(file.read_bytes(), np.uint8)])

    def limit(portions):
        return Measured([], megabytes=advance(portions).megabytes)

    return limit


MEGABYTES = round(numbers() * 4 / 1e6)
CASE = Case(
    name="loading",
    work=f"loading a Llama of {MEGABYTES:,} MB in float32 from a folder, with the peak of memory",
    unit="MB/s",
    portion=MEGABYTES,
    start=dict,
    rivals={"jann": jann, "transformers": transformers, "safetensors": safetensors, "reading": reading},
    reference="jann",
    bars=(Bar("jann", "reading", times=0.6), Bar("jann", "reading", memory=1.3)),
    files=files,
)
