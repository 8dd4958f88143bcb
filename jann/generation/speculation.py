"""Speculative decoding (Leviathan et al. 2022, arXiv:2211.17192): a small model guesses, the large one checks."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.generation.checks import Prompts, cache_dtype, checked_options, checked_room, ids_of, packed, ready, whole
from jann.generation.choice import warped
from jann.generation.decoding import Generated
from jann.trees import Tree, flatten


def speculate(
    model: Model,
    params: Tree,
    draft: Model,
    draft_params: Tree,
    prompts: Prompts,
    new: int,
    *,
    guesses: int = 4,
    key: jax.Array | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    stop: int | Sequence[int] = (),
    pad: int = 0,
    dtype: Any = jnp.float32,
) -> tuple[Generated, jax.Array]:
    """What `generate` makes, in fewer passes of the model: -> (made, passes)

    The draft guesses `guesses` tokens one by one; the model looks at all of them in one pass, and keeps each with the
    probability that makes the result distributed exactly as without a draft (without a key: the same tokens). `passes`
    says how often the model ran; close to new / (guesses + 1) if the draft is good.

    Options and errors are those of `generate`. Raises ValueError also where the vocabularies differ, or one of the two
    is no decoder but reads its inputs apart, such as T5, or its state cannot be taken back, such as Mamba's.
    """
    if other := next((each for each in (model, draft) if hasattr(each, "begin")), None):
        raise ValueError(f"{other} begins from inputs: speculation is for decoders, GPT2 and Llama, use generate")
    if draft.vocab != model.vocab:
        raise ValueError(f"the draft has {draft.vocab} tokens and the model {model.vocab}: they must share them")
    whole(new=new, guesses=guesses, pad=pad)
    if new < 1 or guesses < 1:
        raise ValueError(f"new={new}, guesses={guesses}: both must be at least 1")
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    checked_options(sampling, key, None, None)
    params, draft_params = ready(model, params), ready(draft, draft_params)
    tokens, lengths = packed(prompts, model.vocab)
    room = min(checked_room(each, tokens, lengths, new) for each in (model, draft))
    for each in (model, draft):
        if any("mixers" in path for path in flatten(jax.eval_shape(lambda each=each: each.cache((1,), room)))):
            raise ValueError(f"{each} has a state that cannot be taken back where a guess does not stand: use generate")
    numbers = {name: sampling[name] for name in ("temperature", "top_p", "min_p")}
    return _speculated(
        (model, draft), (params, draft_params), tokens, lengths, key, numbers,
        new=new, room=room, guesses=guesses, top_k=top_k, stop=ids_of("stop", stop), pad=pad, dtype=cache_dtype(dtype),
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("models", "new", "room", "guesses", "top_k", "stop", "pad", "dtype"))
def _speculated(models, params, tokens, lengths, key, numbers, *, new, room, guesses, top_k, stop, pad, dtype):
    (model, draft), (params, draft_params) = models, params
    rows = tokens.shape[0]
    states = [each.cache((rows,), room, dtype) for each in models]

    def probabilities(logits):
        """[..., vocab]: what is sampled from; without a key, all on the likeliest token"""
        if key is None:
            return jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])
        return jax.nn.softmax(warped(logits, top_k=top_k, **numbers))

    def drawn(weights, keys):
        logits = jnp.log(jnp.maximum(weights, 1e-30))
        return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

    def keys_at(i, name):
        base = jax.random.key(0) if key is None else key
        at = jax.random.fold_in(jax.random.fold_in(base, i), name)
        return jax.vmap(jax.random.fold_in, (None, 0))(at, jnp.arange(rows))

    def advance(each, params, tokens, lengths, state):
        x, state = each.features(params, tokens, lengths=lengths, state=state)
        return x, state

    # All of a prompt but its last token is read; the last one begins the first round.
    known = jnp.asarray(lengths, jnp.int32) - 1
    last = jnp.take_along_axis(jnp.asarray(tokens), known[:, None], 1)[:, 0]
    states = [
        advance(each, p, tokens, known, state)[1]
        for each, p, state in zip(models, (params, draft_params), states, strict=True)
    ]
    made = jnp.full((rows, new + guesses + 1), pad, jnp.int32)

    def one(carry):
        i, last, count, done, made, state, draft_state = carry
        awake = (~done).astype(jnp.int32)
        begin, draft_begin = state["length"], draft_state["length"]
        # Of the guesses only so many are read as are still to be made: beyond them there may be no place.
        left = awake * (new - count)

        def guess(carry, j):
            token, draft_state = carry
            x, draft_state = advance(draft, draft_params, token[:, None], (j < left).astype(jnp.int32), draft_state)
            weights = probabilities(draft.logits(draft_params, x)[:, 0])
            token = drawn(weights, keys_at(i, 2 * j))
            return (token, draft_state), (token, weights)

        (ending, draft_state), (guessed, expected) = jax.lax.scan(guess, (last, draft_state), jnp.arange(guesses))
        guessed, expected = guessed.T, jnp.moveaxis(expected, 0, 1)
        # The draft reads its last guess too, for the next round may need it.
        _, draft_state = advance(draft, draft_params, ending[:, None], (guesses < left).astype(jnp.int32), draft_state)
        shown = jnp.concatenate([last[:, None], guessed], 1)
        x, state = advance(model, params, shown, jnp.minimum(guesses + 1, left), state)
        wanted = probabilities(model.logits(params, x))  # [rows, guesses + 1, vocab]

        each = guessed[:, :, None]
        ratio = jnp.take_along_axis(wanted[:, :-1], each, 2) / jnp.take_along_axis(expected, each, 2)
        chance = jax.vmap(lambda key: jax.random.uniform(key, (guesses,)))(keys_at(i, 2 * guesses + 1))
        accepted = jnp.cumprod(chance < ratio[:, :, 0], axis=1).sum(1, dtype=jnp.int32)  # how many of the first stand
        # Where one was refused, the difference of the two is drawn from; after the last guess, the model's own.
        none = jnp.zeros_like(wanted[:, :1])
        rest = jnp.maximum(wanted - jnp.concatenate([expected, none], 1), 0)
        rest = jnp.take_along_axis(rest, accepted[:, None, None], 1)[:, 0]
        own = jnp.take_along_axis(wanted, accepted[:, None, None], 1)[:, 0]
        rest = jnp.where(rest.sum(-1, keepdims=True) > 0, rest, own)
        corrected = drawn(rest / rest.sum(-1, keepdims=True), keys_at(i, 2 * guesses + 3))

        places = jnp.arange(guesses + 1)[None, :]
        found = jnp.where(places < accepted[:, None], jnp.pad(guessed, ((0, 0), (0, 1))), corrected[:, None])
        found = jnp.where(places <= accepted[:, None], found, pad)
        stops = jnp.isin(found, jnp.array(stop, jnp.int32)) & (places <= accepted[:, None])
        fresh = jnp.where(stops.any(1), stops.argmax(1) + 1, accepted + 1) * awake
        fresh = jnp.minimum(fresh, new - count).astype(jnp.int32)
        kept = places < fresh[:, None]
        put = jax.vmap(lambda row, at, values: row.at[at].set(values, mode="drop"))
        made = put(made, jnp.where(kept, count[:, None] + places, made.shape[1]), found)
        count = count + fresh
        done = done | stops.any(1) | (count >= new)
        last = jnp.where(awake == 1, corrected, last)
        # Both caches hold guesses that did not stand; what comes next lies over them.
        stand = awake * (accepted + 1)
        state, draft_state = {**state, "length": begin + stand}, {**draft_state, "length": draft_begin + stand}
        return i + 1, last, count, done, made, state, draft_state

    start = (0, last, jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool), made, *states)
    passes, _, count, _, made, _, _ = jax.lax.while_loop(lambda carry: ~carry[3].all(), one, start)
    return Generated(made[:, :new], count, None), passes
