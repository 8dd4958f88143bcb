"""The training step of `gpt` in mixed precision: the pass in bfloat16, weights and their update in float32.

Each in its library's way: `make_step(dtype=jnp.bfloat16)`, a cast by hand, `torch.autocast`. Checked are the first two
losses, to what bfloat16 leaves of them. On processors without instructions for bfloat16 it is no gain for any.
"""

from functools import partial

from experiments.side_by_side.cases import decoders, gpt
from experiments.side_by_side.harness import Advance, Arrays, Bar

HALF = "bfloat16"


def jann(start: Arrays) -> Advance:
    return gpt.looped(gpt.jann_run(start, half=True))


def raw(start: Arrays) -> Advance:
    return gpt.looped(gpt.optax_run(start, decoders.raw, "weight", half=True))


RIVALS = {
    "jann": jann,
    "jann_float32": gpt.jann,
    "raw": raw,
    "torch": partial(gpt.torch, half=True),
    "torch_compile": partial(gpt.torch, compiled=True, half=True),
    "products": partial(gpt.products, dtype=HALF),
}
CASE = gpt.training(
    "gpt_bf16", gpt.SIZES, gpt.BATCH, RIVALS,
    (Bar("jann", "torch", times=1.0), Bar("jann", "torch_compile", times=1.0)), HALF, 2e-2,
)  # fmt: skip
