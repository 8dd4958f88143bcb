"""Beam search: the likeliest whole sequences, rather than the likeliest next token."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.generation.checks import (
    Prompts,
    cache_dtype,
    checked_options,
    checked_room,
    ids_of,
    inputs_of,
    processor_of,
    ready,
    whole,
)
from jann.generation.choice import LOWEST
from jann.generation.decoding import Generated, first, processed, step
from jann.generation.growing import first_places, while_growing
from jann.layers.dtypes import wide_dtype
from jann.trees import Tree


def beam_search(
    model: Model,
    params: Tree,
    prompts: Prompts,
    new: int,
    *,
    beams: int = 4,
    results: int = 1,
    length_penalty: float = 1.0,
    stop: int | Sequence[int] = (),
    least: int = 0,
    never: int | Sequence[int] = (),
    never_first: int | Sequence[int] = (),
    begin_with: int | None = None,
    end_with: int | None = None,
    early: bool | str = False,
    repetition_penalty: float | None = None,
    no_repeat: int | None = None,
    logits_processor: Callable | None = None,
    pad: int = 0,
    dtype: Any = jnp.float32,
) -> tuple[Generated, jax.Array]:
    """The best `results` sequences of up to `new` tokens after each prompt, best first: -> (made, scores)

    Rows are those of one prompt after another, `results` each. scores[rows]: the sum of a sequence's log-probabilities
    divided by its length ** length_penalty. Where fewer sequences exist, the rows after the last have length 0.

    beams:  sequences that are followed at once for each prompt
    early:  end a prompt as soon as it has `beams` finished sequences; else when no open one can still become better
            than the worst of them, judged at its present length; "never" judges it at the length that suits it best,
            which for a length_penalty above 0 is `new`

    prompts and the other options: as in `generate`, whose errors these raise too; what is processed are
    log-probabilities. The rules are those of transformers' `generate`, so that published models give the same
    sequences.
    """
    whole(new=new, beams=beams, results=results, pad=pad)
    if early not in (True, False, "never"):
        raise TypeError(f"early={early!r}: give True, False or 'never'")
    early = early if early == "never" else bool(early)
    if not isinstance(length_penalty, jax.core.Tracer) and not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty={length_penalty}: give a finite number, 1 for the mean")
    if new < 1 or beams < 1 or not 1 <= results <= beams:
        raise ValueError(f"new={new}, beams={beams}, results={results}: all at least 1, and results at most beams")
    checked_options({}, None, repetition_penalty, no_repeat)
    stops, params = ids_of("stop", stop), ready(model, params)
    tokens, lengths = inputs_of(model, prompts)
    room = checked_room(model, tokens, lengths, new)
    processor = processor_of(
        logits_processor, model, lengths.repeat(beams), new, stops, least=least, never=never, never_first=never_first,
        begin_with=begin_with, end_with=end_with,
    )  # fmt: skip
    return _searched(
        model, params, tokens, lengths, length_penalty, repetition_penalty, processor,
        new=new, room=room, beams=beams, results=results, stop=stops, early=early, no_repeat=no_repeat,
        pad=pad, dtype=cache_dtype(dtype),
    )  # fmt: skip


@functools.partial(
    jax.jit,
    static_argnames=("model", "new", "room", "beams", "results", "stop", "early", "no_repeat", "pad", "dtype"),
)
def _searched(
    model, params, tokens, lengths, length_penalty, penalty, processor,
    *, new, room, beams, results, stop, early, no_repeat, pad, dtype,
):  # fmt: skip
    prompts = tokens.shape[0]
    places = first_places(model, params, tokens, room, dtype, beams)
    logits, state, seen, seen_lengths = first(model, params, tokens, lengths, new, places, dtype)

    def repeated(x):
        return jnp.repeat(x, beams, axis=0)

    logits, state, seen, seen_lengths = jax.tree.map(repeated, (logits, state, seen, seen_lengths))
    begin = seen_lengths
    vocab = logits.shape[-1]
    # All beams of a prompt are the same at first, so only the first counts.
    running = jnp.tile(jnp.where(jnp.arange(beams) == 0, 0.0, LOWEST)[None, :], (prompts, 1))
    finished = {
        "seen": jnp.zeros((prompts, beams, seen.shape[1]), jnp.int32),
        "lengths": jnp.zeros((prompts, beams), jnp.int32),
        "scores": jnp.full((prompts, beams), LOWEST),
        "done": jnp.zeros((prompts, beams), bool),
    }
    several = beams * max(2, 1 + len(stop))

    def going(carry):
        i, running, finished, hopeful, ended, _ = carry
        full = (early is True) & finished["done"].all()
        return (i < new) & hopeful.any() & ~full & ~ended

    def one(carry):
        i, running, finished, hopeful, _, (logits, state, seen, seen_lengths) = carry
        scores = jax.nn.log_softmax(logits.astype(wide_dtype(logits)))
        scores = processed(scores, seen, seen_lengths, penalty, no_repeat, processor)
        total = (running[:, :, None] + scores.reshape(prompts, beams, vocab)).reshape(prompts, -1)
        best, which = jax.lax.top_k(total, min(several, beams * vocab))
        parent, token = which // vocab, (which % vocab).astype(jnp.int32)
        rows = (jnp.arange(prompts)[:, None] * beams + parent).reshape(-1)
        at = seen_lengths[rows].reshape(parent.shape)
        put = jax.vmap(lambda row, at, token: row.at[at].set(token))
        longer = put(seen[rows], at.reshape(-1), token.reshape(-1)).reshape(*parent.shape, -1)
        ends = jnp.isin(token, jnp.array(stop, jnp.int32)) | (i + 1 == new)

        # The open beams: the best that do not end.
        running, chosen = jax.lax.top_k(jnp.where(ends, LOWEST, best), beams)
        rows = jnp.take_along_axis(rows.reshape(parent.shape), chosen, 1).reshape(-1)
        following = jnp.take_along_axis(token, chosen, 1).reshape(-1)

        # The finished ones: of the best `beams` candidates those that end, if they can still be among the best.
        allowed = ends & (jnp.arange(best.shape[1]) < beams)[None, :] & hopeful[:, None]
        allowed = allowed & ~((early is True) & finished["done"].all(1, keepdims=True))
        scored = jnp.where(allowed, best / (i + 1.0) ** length_penalty, LOWEST)
        candidates = {"seen": longer, "lengths": at + 1, "scores": scored, "done": allowed}
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), finished, candidates)
        _, kept = jax.lax.top_k(both["scores"], beams)
        finished = jax.tree.map(
            lambda x: jnp.take_along_axis(x, kept.reshape(*kept.shape, *(1,) * (x.ndim - 2)), 1), both
        )

        seen = put(seen[rows], seen_lengths[rows], following)
        # What was made of the inputs is the same for all beams of a prompt.
        moved = {name: part for name, part in state.items() if name not in ("cross", "sources")}
        state = {**state, **jax.tree.map(lambda x: x[rows], moved)}
        logits, state = step(model, params, following[:, None], jnp.ones(len(rows), jnp.int32), state)
        longest = jnp.where((early == "never") & (length_penalty > 0), new, i + 1.0)
        possible = running[:, 0] / longest**length_penalty
        worst = jnp.where(finished["done"], finished["scores"], LOWEST).min(1)
        hopeful = hopeful & (possible > worst)
        return i + 1, running, finished, hopeful, ends.all(), (logits, state, seen, seen_lengths[rows] + 1)

    start = (0, running, finished, jnp.ones(prompts, bool), jnp.zeros((), bool), (logits, state, seen, seen_lengths))
    finished = while_growing(going, one, start, places, room)[2]
    best = jax.tree.map(lambda x: x[:, :results].reshape(-1, *x.shape[2:]), finished)
    begin = begin.reshape(prompts, beams)[:, :results].reshape(-1)
    count = jnp.maximum(best["lengths"] - begin, 0)
    places = jnp.arange(new)[None, :]
    made = jnp.take_along_axis(best["seen"], jnp.minimum(begin[:, None] + places, seen.shape[1] - 1), 1)
    made = jnp.where(places < count[:, None], made, pad)
    return Generated(made, count, None), best["scores"]
