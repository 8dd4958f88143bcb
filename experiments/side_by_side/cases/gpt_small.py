"""The training step of `gpt` in nanoGPT's configuration for a CPU, where what is around the products shows."""

from experiments.side_by_side.cases import gpt
from experiments.side_by_side.cases.decoders import Sizes
from experiments.side_by_side.harness import Bar

SIZES, BATCH = Sizes(vocab=65, time=64, embed=128, layers=4, heads=4), 12

CASE = gpt.training(
    "gpt_small", SIZES, BATCH, {**gpt.RIVALS, "linen": gpt.linen},
    (Bar("jann", "torch", times=1.0), Bar("jann", "torch_compile", times=1.0)),
)  # fmt: skip
