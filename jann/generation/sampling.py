"""Sequences drawn from a model, one element at a time, as one compiled scan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Step = Callable[[jax.Array, Any], tuple[jax.Array, Any]]


def sample(
    step: Step, prompt: jax.Array, n: int, key: jax.Array, temperature: float | jax.Array = 1.0, state: Any = None
) -> jax.Array:
    """prompt[..., time] integers -> n more of them, [..., n], each drawn from softmax(logits / temperature)

    step:   `step(tokens[..., time], state) -> (logits[..., time, vocab], state)`, where the logits at a place foretell
            the next token: `lambda tokens, state: model.apply(params, tokens, state=state)` of a model with a state.
            It reads the prompt at once, then one token at a time; temperature 0 takes the likeliest. A step that needs
            the last token only, such as a table of pairs, returns () as its state.

    Put it under `jax.jit` as a whole. Raises ValueError for an empty prompt, n < 1, or a step that keeps no state: of
    a transformer without a cache, each token would follow from the one before alone. For those there is `generate`.
    """
    if n < 1 or prompt.shape[-1] < 1:
        raise ValueError(f"n={n} and a prompt of {prompt.shape[-1]} tokens: both must be at least 1")

    def draw(logits, i):
        logits = logits[..., -1, :].astype(jnp.float32)
        warm = jax.random.categorical(jax.random.fold_in(key, i), logits / jnp.maximum(temperature, 1e-6))
        return jnp.where(temperature > 0, warm, logits.argmax(-1)).astype(prompt.dtype)

    logits, state = step(prompt, state)
    if state is None and n > 1:
        raise ValueError(
            "the step returned None as its state, so each token would be drawn without those before the last: GPT2, "
            "Llama and others with a cache go with jann.generation.generate; a step that needs no state returns ()"
        )

    def one(carry, i):
        token, state = carry
        logits, state = step(token[..., None], state)
        token = draw(logits, i)
        return (token, state), token

    first = draw(logits, 0)
    _, rest = jax.lax.scan(one, (first, state), jnp.arange(1, n))
    return jnp.concatenate([first[..., None], jnp.moveaxis(rest, 0, -1)], -1)
