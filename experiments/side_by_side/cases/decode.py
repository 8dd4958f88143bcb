"""Decoding one sequence with a small GPT, where the time goes into reading the weights and the cache.

Greedy, from prompts of 8 tokens to the model's 256 positions; checked are the tokens. `reading` is the limit: it reads
as many bytes as the weights and all rows' caches so far have, once for each token, and does nothing else.
"""

from functools import partial

import numpy as np

from experiments.side_by_side.cases import decoders, gpt
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

PROMPT = 8
NEW = gpt.SIZES.time - PROMPT


def start(rows: int, times: float = 3) -> Arrays:
    """Weights so many times as large, tables ten times, so that what is likeliest is far from what is next, and
    prompts[rows, time]"""
    prompts = np.random.default_rng(0).integers(0, gpt.SIZES.vocab, (rows, PROMPT))
    weights = decoders.start(gpt.SIZES)
    return {"prompts": prompts, **{path: leaf * (10 if "table" in path else times) for path, leaf in weights.items()}}


def jann(start: Arrays, dtype: str = "float32") -> Advance:
    import jax.numpy as jnp

    import jann

    prompts, model = start.pop("prompts"), decoders.jann_model(gpt.SIZES)
    params = jann.unflatten({path: jnp.asarray(leaf, dtype) for path, leaf in start.items()})
    if len(prompts) == 1:  # with many rows its products are no faster
        params = jann.generation.for_decoding(model, params)

    def advance(portions):
        for _ in range(portions):
            tokens = np.asarray(jann.generation.generate(model, params, prompts, NEW, dtype=dtype).tokens)
        return tokens.tolist()

    return advance


def transformers(start: Arrays, dtype: str = "float32") -> Advance:
    import tempfile

    import jax.numpy as jnp
    import torch
    from transformers import GPT2LMHeadModel

    import jann

    prompts, model = torch.from_numpy(start.pop("prompts")), decoders.jann_model(gpt.SIZES)
    params = jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()})
    with tempfile.TemporaryDirectory() as folder:
        jann.save_pretrained(folder, model, params)
        theirs = GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval()
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}

    def advance(portions):
        with torch.inference_mode():
            for _ in range(portions):
                made = theirs.generate(prompts, attention_mask=torch.ones_like(prompts), eos_token_id=None, **options)
        return made[:, PROMPT:].tolist()

    return advance


def reading(start: Arrays, dtype: str = "float32") -> Advance:
    """The limit: as many bytes as a token of all rows needs, the mean over the sequence, summed in one pass."""
    import jax
    import jax.numpy as jnp

    rows = len(start.pop("prompts"))
    tables = ("tokens/table", "positions/table")  # of the first all rows are read, for the logits; of the second one
    numbers = sum(leaf.size for path, leaf in start.items() if path not in tables) + start["tokens/table"].size
    numbers += rows * 2 * gpt.SIZES.layers * gpt.SIZES.embed * (PROMPT + NEW // 2)
    numbers //= 4 // jnp.dtype(dtype).itemsize  # as bytes, in float32
    values = jnp.ones((numbers // 1024, 1024))
    read = jax.jit(lambda values, x: values @ x)
    x = jnp.ones(1024)

    def advance(portions):
        for _ in range(portions * NEW):
            y = read(values, x)
        jax.block_until_ready(y)
        return []

    return advance


def decoding(name: str, rows: int, bars: tuple[Bar, ...], dtype: str = "float32", times: float = 3) -> Case:
    """The case of so many rows at once."""
    sequences = "one sequence" if rows == 1 else f"{rows} sequences at once"
    return Case(
        name=name,
        work=f"greedy decoding of {sequences}, {NEW} tokens, by a GPT of {gpt.SIZES.layers} layers, {gpt.SIZES.embed} "
        f"wide, {dtype}",
        unit="tokens/s",
        portion=rows * NEW,
        start=partial(start, rows, times),
        rivals={rival.__name__: partial(rival, dtype=dtype) for rival in (jann, transformers, reading)},
        reference="jann",
        bars=bars,
        checked=NEW,
    )


CASE = decoding("decode", 1, (Bar("jann", "transformers", times=3), Bar("jann", "reading", times=0.8)))
