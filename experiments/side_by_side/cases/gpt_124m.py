"""The training step of `gpt` with GPT-2's 124 million parameters, where the vocabulary and the optimiser weigh too.

A step takes seconds, and each rival's process about 3 GB.
"""

from experiments.side_by_side.cases import gpt
from experiments.side_by_side.cases.decoders import Sizes
from experiments.side_by_side.harness import Bar

SIZES, BATCH = Sizes(vocab=50_257, time=256, embed=768, layers=12, heads=12), 2

CASE = gpt.training(
    "gpt_124m", SIZES, BATCH, gpt.RIVALS,
    (Bar("jann", "torch", times=1.0), Bar("jann", "torch_compile", times=1.0)),
)  # fmt: skip
