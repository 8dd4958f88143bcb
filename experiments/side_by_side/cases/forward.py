"""The forward pass of a deep and narrow GPT for one short sequence, where what is around the arithmetic shows.

Each pass is waited for, so that its figure is one over the latency. Checked are the last token's logits. `empty` is
the limit: a compiled function that takes the same arrays and does nothing.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from experiments.side_by_side.cases import decoders
from experiments.side_by_side.cases.decoders import Sizes
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

SIZES = Sizes(vocab=65, time=32, embed=64, layers=24, heads=4)
PORTION = 50


def start() -> Arrays:
    """Weights, the tables ten times as large, so that logits are of the order of 1, and tokens[1, time]."""
    weights = {path: leaf * (10 if "table" in path else 1) for path, leaf in decoders.start(SIZES).items()}
    tokens = np.random.default_rng(0).integers(0, SIZES.vocab, (1, SIZES.time)).astype(np.int32)
    return {"tokens": tokens, **weights}


def repeated(forward: Callable) -> Advance:
    """`forward() -> logits[1, time, vocab]`, there when it returns"""

    def advance(portions):
        for _ in range(portions * PORTION):
            logits = forward()
        return np.asarray(logits)[0, -1]

    return advance


def of_jax(start: Arrays, build: Callable, compiled: Callable) -> Advance:
    import jax
    import jax.numpy as jnp

    tokens = jnp.asarray(start.pop("tokens"))
    forward, params = build(SIZES, start)
    forward = compiled(forward)
    return repeated(lambda: jax.block_until_ready(forward(params, tokens)))


def jitted(build: Callable, start: Arrays) -> Advance:
    import jax

    return of_jax(start, build, jax.jit)


def jann_list(start: Arrays) -> Advance:
    """Its blocks in a list, as for decoding: nothing is scanned, but there are more arrays."""
    import jax

    import jann

    def build(sizes, weights):
        model, params = decoders.jann(sizes, weights)
        return model, jann.core.listed(model, params)

    return of_jax(start, build, jax.jit)


def nnx(start: Arrays, cached: bool = False) -> Advance:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    tokens = jnp.asarray(start.pop("tokens"))
    forward, decoder = decoders.nnx(SIZES, start)
    forward = nnx.jit(forward)
    forward = nnx.cached_partial(forward, decoder) if cached else partial(forward, decoder)
    return repeated(lambda: jax.block_until_ready(forward(tokens)))


def equinox(start: Arrays) -> Advance:
    import equinox as eqx

    return of_jax(start, decoders.equinox, eqx.filter_jit)


def torch(start: Arrays, compiled: bool = False) -> Advance:
    import torch

    tokens = torch.from_numpy(start.pop("tokens")).long()
    _, decoder = decoders.torch(SIZES, start)
    decoder = torch.compile(decoder.eval()) if compiled else decoder.eval()

    def advance(portions):
        with torch.inference_mode():
            return repeated(lambda: decoder(tokens))(portions)

    return advance


def empty(start: Arrays) -> Advance:
    """The limit: the dispatch of a compiled function of jann's arrays that does nothing."""
    import jax
    import jax.numpy as jnp

    tokens = jnp.asarray(start.pop("tokens"))
    _, params = decoders.jann(SIZES, start)
    nothing = jax.jit(lambda params, tokens: jnp.zeros((1, 1, 1)), keep_unused=True)
    advance = repeated(lambda: jax.block_until_ready(nothing(params, tokens)))
    return lambda portions: advance(portions)[:0]


CASE = Case(
    name="forward",
    work=f"forward passes of a GPT, {SIZES.layers} layers, {SIZES.embed} wide, one sequence of {SIZES.time}, one after "
    f"another",
    unit="passes/s",
    portion=PORTION,
    start=start,
    rivals={
        "jann": partial(jitted, decoders.jann),
        "jann_list": jann_list,
        "raw": partial(jitted, decoders.raw),
        "linen": partial(jitted, decoders.linen),
        "nnx": nnx,
        "nnx_cached": partial(nnx, cached=True),
        "equinox": equinox,
        "haiku": partial(jitted, decoders.haiku),
        "keras": partial(jitted, decoders.keras),
        "torch": torch,
        "torch_compile": partial(torch, compiled=True),
        "empty": empty,
    },
    reference="jann",
    bars=(Bar("jann", "raw", times=0.95),),
    checked=SIZES.vocab,
)
