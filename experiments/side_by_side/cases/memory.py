"""Peak memory of the training step of the case `gpt`, as XLA plans it: arguments, results and what is between.

`arrays` is the limit, the sum of the arrays that a step cannot do without: parameters, Adam's two moments, gradients,
logits, and of each block the input and what its products with weights and attention give, from which the rest is
quickly computed again (`jann.depth.keep_products`). That some are not alive at the same time is not counted.
"""

from collections.abc import Callable
from functools import partial

from experiments.side_by_side.cases import decoders, gpt
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case, Measured


def planned(run: Callable, start: Arrays) -> Advance:
    step, state, batch = run(start)
    compiled = step.lower(state, batch).compile()
    sizes = compiled.memory_analysis()
    held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes

    def advance(portions):
        nonlocal state
        for _ in range(portions):
            state, loss = compiled(state, batch)
        return Measured([float(loss)], megabytes=(held + sizes.temp_size_in_bytes) / 1e6)

    return advance


def jann(start: Arrays) -> Advance:
    return planned(gpt.jann_run, start)


def raw(start: Arrays) -> Advance:
    return planned(gpt.raw_run, start)


def linen(start: Arrays) -> Advance:
    return planned(gpt.linen_run, start)


def arrays(start: Arrays) -> Advance:
    """The limit."""
    vocab, time, embed, layers, _ = decoders.sizes_of(start)
    tokens = len(start["tokens"]) * time
    # input, queries with keys and values, attention, its projection, and the wide layer before its activation
    block = tokens * embed * (1 + 3 + 1 + 1 + 4)
    parameters = sum(leaf.size for name, leaf in start.items() if name != "tokens")
    numbers = 4 * parameters + layers * block + tokens * vocab
    return lambda portions: Measured([], megabytes=4 * numbers / 1e6)


CASE = Case(
    name="memory",
    work=f"peak memory of a training step of a GPT, {gpt.SIZES.layers} layers, {gpt.SIZES.embed} wide, batch "
    f"{gpt.BATCH} × {gpt.SIZES.time}, float32, AdamW",
    unit="MB",
    portion=1,
    start=partial(gpt.start, gpt.SIZES, gpt.BATCH),
    rivals={"jann": jann, "raw": raw, "linen": linen, "arrays": arrays},
    reference="jann",
    bars=(Bar("jann", "arrays", memory=1.3), Bar("jann", "raw", memory=1.0)),
)
