"""Decoding one sequence with a small GPT, where the time goes into reading the weights and the cache.

Greedy, from a prompt of 8 tokens to the model's 256 positions; checked are the tokens. `reading` is the limit: it reads
as many bytes as the weights and the cache so far have, once for each token, and does nothing else.
"""

import numpy as np

from experiments.side_by_side.cases import decoders, gpt
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

PROMPT = 8
NEW = gpt.SIZES.time - PROMPT
PORTION = NEW


def start() -> Arrays:
    """Weights drawn ten times as large, so that what is likeliest is far from what is next, and a prompt."""
    arrays = gpt.start()
    tokens = arrays.pop("tokens")[0, :PROMPT]
    return {"prompt": tokens, **{path: leaf * (10 if "table" in path else 3) for path, leaf in arrays.items()}}


def jann(start: Arrays) -> Advance:
    import jax.numpy as jnp

    import jann

    prompt, model = start.pop("prompt").tolist(), decoders.jann_model(gpt.SIZES)
    params = jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()})
    params = jann.generation.for_decoding(model, params)

    def advance(portions):
        for _ in range(portions):
            made = jann.generation.generate(model, params, [prompt], NEW)
            tokens = np.asarray(made.tokens[0])
        return tokens.tolist()

    return advance


def transformers(start: Arrays) -> Advance:
    import tempfile

    import jax.numpy as jnp
    import torch
    from transformers import GPT2LMHeadModel

    import jann

    prompt, model = torch.from_numpy(start.pop("prompt")).long()[None], decoders.jann_model(gpt.SIZES)
    params = jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()})
    with tempfile.TemporaryDirectory() as folder:
        jann.save_pretrained(folder, model, params)
        theirs = GPT2LMHeadModel.from_pretrained(folder).eval()
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}

    def advance(portions):
        with torch.inference_mode():
            for _ in range(portions):
                made = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), eos_token_id=None, **options)
        return made[0, PROMPT:].tolist()

    return advance


def reading(start: Arrays) -> Advance:
    """The limit: as many bytes as a token needs, the mean over the sequence, summed in one pass from memory."""
    import jax
    import jax.numpy as jnp

    start.pop("prompt")
    tables = ("tokens/table", "positions/table")  # of the first all rows are read, for the logits; of the second one
    numbers = sum(leaf.size for path, leaf in start.items() if path not in tables) + start["tokens/table"].size
    numbers += 2 * gpt.SIZES.layers * gpt.SIZES.embed * (PROMPT + NEW // 2)
    values = jnp.ones((numbers // 1024, 1024))
    read = jax.jit(lambda values, x: values @ x)
    x = jnp.ones(1024)

    def advance(portions):
        for _ in range(portions * NEW):
            y = read(values, x)
        jax.block_until_ready(y)
        return []

    return advance


CASE = Case(
    name="decode",
    work=f"greedy decoding of one sequence, {NEW} tokens, by a GPT of {gpt.SIZES.layers} layers, {gpt.SIZES.embed} "
    f"wide, float32",
    unit="tokens/s",
    portion=PORTION,
    start=start,
    rivals={"jann": jann, "transformers": transformers, "reading": reading},
    reference="jann",
    bars=(Bar("jann", "transformers", times=3), Bar("jann", "reading", times=0.8)),
    checked=NEW,
)
