"""Token after token, from many prompts at once, as one compiled program."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map_with_path

from jann.core import Model, as_spec, check, in_form_of, listed
from jann.drawing import checked_key
from jann.generation.choice import choose, no_repeated_ngrams, repetition_penalised
from jann.layers import Turned
from jann.trees import Node, Tree, flatten, path_name

Prompts = Sequence[Sequence[int]] | np.ndarray | jax.Array
# Caches grow as they fill where they take so many bytes, such a part of the weights' bytes, and are by so many places
# shorter at first.
LARGE, SHARE, MANY = 1 << 22, 0.1, 64


class Generated(NamedTuple):
    """What was made for each prompt.

    tokens:            int32[rows, new], after a row's end filled with `pad`
    lengths:           int32[rows], how many of them were made, a stop token among them
    log_probabilities: float32[rows, new], of each under the model, before anything changed its logits; 0 after the end
    """

    tokens: jax.Array
    lengths: jax.Array
    log_probabilities: jax.Array


def generate(
    model: Model,
    params: Tree,
    prompts: Prompts,
    new: int,
    *,
    key: jax.Array | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    no_repeat: int | None = None,
    stop: int | Sequence[int] = (),
    pad: int = 0,
    samples: int = 1,
    dtype: Any = jnp.float32,
) -> Generated:
    """Up to `new` tokens after each prompt: the likeliest each time, or sampled if there is a key.

    prompts:   lists of token ids of any lengths, or an array [rows, time]; for an encoder-decoder, its inputs
    key:       for sampling; a row's draws depend on the key and the row's number alone
    temperature, top_k, top_p, min_p:  see `warped`; they need a key
    repetition_penalty, no_repeat:     see `repetition_penalised`, and `no_repeated_ngrams` of that size
    stop:      token ids that end a row
    samples:   so many rows for each prompt, one after another
    dtype:     of the cache

    The rows of a batch do not influence each other: prompts of different lengths give what each gives alone. Compiles
    once for each shape of prompts (padded to a multiple of 16) and choice of options; numbers may change freely.
    For many calls, with one row each, on a CPU: `for_decoding` first.

    Raises ValueError for a model that is no decoder, a prompt that is empty or no list of ids, a token id that the
    model does not have, more tokens than it has positions for, and options that contradict each other; ShapeError,
    which lists them, for parameters that are not the model's.
    """
    if new < 1:
        raise ValueError(f"new={new}: generate makes at least one token")
    if samples < 1 or (samples > 1 and key is None):
        raise ValueError(f"samples={samples}: several of a prompt differ only by sampling, which needs a key")
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    checked_options(sampling, key, repetition_penalty, no_repeat)
    params = ready(model, params)
    tokens, lengths = packed(prompts, model.vocab)
    room = checked_room(model, tokens, lengths, new)
    tokens, lengths = np.repeat(tokens, samples, 0), np.repeat(lengths, samples, 0)
    numbers = {name: sampling[name] for name in ("temperature", "top_p", "min_p")}
    return _generated(
        model, params, tokens, lengths, key, numbers, repetition_penalty,
        new=new, room=room, top_k=top_k, no_repeat=no_repeat, stop=stop_ids(stop), pad=pad, dtype=jnp.dtype(dtype),
    )  # fmt: skip


def stream(
    model: Model, params: Tree, prompt: Sequence[int], new: int, *, stop: int | Sequence[int] = (), **options: Any
) -> Iterator[int]:
    """The tokens after one prompt as they are made; `options` are those of `generate`, of which it is the same.

    Raises what `generate` does when it is called, before the first token is asked for; TypeError for another option.
    """
    if new < 1:
        raise ValueError(f"new={new}: stream makes at least one token")
    key = options.pop("key", None)
    sampling = {name: options.pop(name, None) for name in ("temperature", "top_k", "top_p", "min_p")}
    penalty, no_repeat = options.pop("repetition_penalty", None), options.pop("no_repeat", None)
    if options:
        raise TypeError(f"stream has no option {', '.join(options)}")
    checked_options(sampling, key, penalty, no_repeat)
    stops, params = stop_ids(stop), ready(model, params)
    tokens, lengths = packed([prompt], model.vocab)
    room, top_k = checked_room(model, tokens, lengths, new), sampling.pop("top_k")

    def made():
        logits, state, seen, seen_lengths = _begun(
            model, params, tokens, lengths, new=new, room=room, dtype=jnp.dtype("float32")
        )
        for _ in range(new):
            token, _, logits, state, seen, seen_lengths = _advanced(
                model, params, logits, state, seen, seen_lengths, key, sampling, penalty, top_k=top_k,
                no_repeat=no_repeat,
            )  # fmt: skip
            yield int(token[0])
            if int(token[0]) in stops:
                return

    return made()


def for_decoding(model: Model, params: Tree) -> Tree:
    """Parameters -> the same, laid out so that one row is decoded fastest on a CPU: about 15 % faster.

    Blocks are listed, and kernels with fewer outputs than inputs are `Turned`. What takes parameters takes these too;
    with many rows at once their products are slower.
    """
    params = listed(model, params)
    declared = flatten(in_form_of(as_spec(model), params))

    def turned(path, leaf):
        path = path_name(path)
        param = declared[path]
        if isinstance(leaf, Node) or not path.endswith("weight") or not param.into or param.stacked:
            return leaf
        inputs = len(param.into)
        narrow = math.prod(leaf.shape[:inputs]) >= 2 * math.prod(leaf.shape[inputs:])
        return _turned(leaf, inputs) if narrow else leaf

    return tree_map_with_path(turned, params, is_leaf=lambda leaf: isinstance(leaf, Node))


_turned = jax.jit(Turned.of, static_argnums=1)


@functools.partial(jax.jit, static_argnames=("model", "new", "room", "top_k", "no_repeat", "stop", "pad", "dtype"))
def _generated(
    model, params, tokens, lengths, key, numbers, penalty, *, new, room, top_k, no_repeat, stop, pad, dtype
) -> Generated:
    rows = tokens.shape[0]
    places = first_places(model, params, tokens, room, dtype)
    begun = first(model, params, tokens, lengths, new, places, dtype)
    made = jnp.full((rows, new), pad, jnp.int32)
    scores = jnp.zeros((rows, new), jnp.float32)

    def unfinished(carry):
        i, done = carry[0], carry[1]
        return (i < new) & ~done.all()

    def one(carry):
        i, done, count, made, scores, (logits, state, seen, seen_lengths) = carry
        token, score, seen, seen_lengths = chosen(
            logits, seen, seen_lengths, key, numbers, penalty, top_k, no_repeat, ~done
        )
        made = made.at[:, i].set(jnp.where(done, pad, token))
        scores = scores.at[:, i].set(jnp.where(done, 0.0, score))
        count = count + ~done
        done = done | jnp.isin(token, jnp.array(stop, jnp.int32))
        logits, state = step(model, params, token[:, None], (~done).astype(jnp.int32), state)
        return i + 1, done, count, made, scores, (logits, state, seen, seen_lengths)

    nothing = jnp.zeros(rows, bool), jnp.zeros(rows, jnp.int32)
    _, _, count, made, scores, _ = while_growing(unfinished, one, (0, *nothing, made, scores, begun), places, room)
    return Generated(made, count, scores)


def while_growing(unfinished: Callable, one: Callable, carry: tuple, places: int, room: int) -> tuple:
    """While unfinished(carry): carry = one(carry); the caches have so many `places` at first and `room` at last.

    carry: its last is (logits, a decoder's state, ...)
    """

    def with_state(carry, form):
        *before, (logits, state, *rest) = carry
        return *before, (logits, form(state), *rest)

    def loop(carry, size):
        shapes = jax.tree.map(jnp.shape, carry[-1][1])

        def plain(carry):
            return with_state(carry, lambda state: reshaped(state, shapes))

        def going(carry):
            more = unfinished(carry)
            return more if size == room else more & (carry[-1][1]["length"].max() < size)

        def body(carry):
            return with_state(one(plain(carry)), matrices)

        return plain(jax.lax.while_loop(going, body, with_state(carry, matrices)))

    for size in cache_sizes(places, room):
        if size > places:
            carry = with_state(carry, functools.partial(with_room, places=size))
        carry = loop(carry, size)
    return carry


def first_places(model: Model, params: Tree, tokens: jax.Array, room: int, dtype: Any, beams: int = 1) -> int:
    """How many places the caches have while prompts are read, of the `room` at last: all, if they do not grow

    A token reads caches whole, filled or not. Where they grow, 32 rows of 256 tokens by a GPT, 6 layers of 384, take
    3.3 s on two cores in place of 4.6, and one row 0.34 in place of 0.37. But each size is a loop to compile: so not
    where there are few places, or caches that are small, alone or beside the weights; nor where the state is not that
    of `jann.layers.decoder_cache`.
    """
    places = max(tokens.shape[1], MANY * -(-room // (4 * MANY)))
    if hasattr(model, "begin") or room - places < MANY:
        return room
    caches = jax.eval_shape(lambda: model.cache((beams * len(tokens),), room, dtype))
    if "blocks" not in caches:
        return room
    held, weights = (sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) for tree in (caches, params))
    return places if held >= max(LARGE, SHARE * weights) else room


def cache_sizes(places: int, room: int) -> list[int]:
    """How many places the caches have, one size after another: doubled, the last step up to threefold"""
    sizes = [places]
    while 3 * sizes[-1] <= room:
        sizes.append(2 * sizes[-1])
    return sizes if places == room else [*sizes, room]


def with_room(state: Tree, places: int) -> Tree:
    """A decoder's state whose blocks' caches have so many places, not fewer than before"""

    def grown(x):
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, places - x.shape[-2]), (0, 0)])

    return {**state, "blocks": jax.tree.map(grown, state["blocks"])}


def matrices(state: Tree) -> Tree:
    """The state with its caches [..., places, head] as [n, places, head], as products take them.

    Carried in another shape, XLA's CPU backend copies each cache several times a token.
    """
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[-2:]) if x.ndim > 3 else x, state)


def reshaped(state: Tree, shapes: Tree) -> Tree:
    """The state again from `matrices` of it."""
    return jax.tree.map(lambda x, shape: x.reshape(shape), state, shapes)


@functools.partial(jax.jit, static_argnames=("model", "new", "room", "dtype"))
def _begun(model, params, tokens, lengths, *, new, room, dtype):
    return first(model, params, tokens, lengths, new, room, dtype)


@functools.partial(jax.jit, static_argnames=("model", "top_k", "no_repeat"), donate_argnames=("state", "seen"))
def _advanced(model, params, logits, state, seen, seen_lengths, key, numbers, penalty, *, top_k, no_repeat):
    awake = jnp.ones(logits.shape[0], bool)
    token, score, seen, seen_lengths = chosen(
        logits, seen, seen_lengths, key, numbers, penalty, top_k, no_repeat, awake
    )
    logits, state = step(model, params, token[:, None], awake.astype(jnp.int32), state)
    return token, score, logits, state, seen, seen_lengths


def first(model: Model, params: Tree, tokens: jax.Array, lengths: jax.Array, new: int, room: int, dtype: Any):
    """Prompts read: -> (logits[rows, vocab] of the next token, state, all tokens so far, how many)"""
    if hasattr(model, "begin"):
        tokens, state = model.begin(params, tokens, lengths, room, dtype)
        lengths = jnp.full(tokens.shape[0], tokens.shape[1], jnp.int32)
    else:
        state = model.cache(tokens.shape[:1], room, dtype)
    logits, state = step(model, params, tokens, lengths, state)
    return logits, state, jnp.pad(tokens, ((0, 0), (0, new))), jnp.asarray(lengths, jnp.int32)


def step(model: Model, params: Tree, tokens: jax.Array, lengths: jax.Array, state: Tree):
    """tokens[rows, time], of which lengths[rows] are there -> (logits[rows, vocab] after the last of them, state)"""
    x, state = model.features(params, tokens, lengths=lengths, state=state)
    last = jnp.maximum(lengths - 1, 0)[:, None, None]
    return model.logits(params, jnp.take_along_axis(x, last, axis=1)[:, 0]), state


def chosen(logits, seen, lengths, key, numbers, penalty, top_k, no_repeat, awake):
    """The next token of each row, its log-probability, and the tokens so far with it (in rows that are awake)."""
    score = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    logits = processed(logits, seen, lengths, penalty, no_repeat)
    keys = None
    if key is not None:
        rows = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(lengths)))
        keys = jax.vmap(jax.random.fold_in)(rows, lengths)
    token = choose(logits, keys, top_k=top_k, **numbers)
    put = jax.vmap(lambda row, at, token: row.at[at].set(token, mode="drop"))
    seen = put(seen, jnp.where(awake, lengths, seen.shape[1]), token)
    return token, jnp.take_along_axis(score, token[:, None], 1)[:, 0], seen, lengths + awake


def processed(logits, seen, lengths, penalty, no_repeat):
    """logits[rows, vocab] after what depends on the tokens so far"""
    if penalty is not None:
        logits = repetition_penalised(logits, seen, lengths, penalty)
    if no_repeat is not None:
        logits = no_repeated_ngrams(logits, seen, lengths, no_repeat)
    return logits


def ready(model: Model, params: Tree) -> Tree:
    """The model's parameters in the form for decoding, blocks listed.

    Raises ValueError where the model does not tell the next token, ShapeError where the parameters are not its own:
    the compiled programs call its `features`, which look at neither, and of another model's make NaN or nonsense.
    """
    if not (hasattr(model, "begin") or hasattr(model, "cache")):
        raise ValueError(f"{model} is no decoder: only one that tells the next token, such as GPT2 or T5, generates")
    if getattr(model, "labels", 0):
        raise ValueError(f"{model} tells {model.labels} labels, not tokens: load or make it with labels=0 to generate")
    check(model, params)
    return listed(model, params)


def packed(prompts: Prompts, vocab: int, multiple: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids -> (tokens[rows, time], lengths[rows]), filled with zeros to a multiple, so that few shapes compile.

    Raises ValueError naming the prompt that is empty, no list of integers, or has an id that is not in 0 .. vocab - 1.
    """
    rows = [np.asarray(prompt) for prompt in prompts]
    if not rows:
        raise ValueError("there is no prompt: give a list of lists of token ids")
    for i, row in enumerate(rows):
        if not row.ndim:
            raise ValueError(f"prompt {i} is {row.item()!r}, no list of token ids: a single prompt is given as [ids]")
        if not row.size:
            raise ValueError(f"prompt {i} is empty: begin with at least one token, such as the start token")
        if row.ndim > 1 or row.dtype.kind not in "iu":
            kind = f"an array {list(row.shape)} of {row.dtype}"
            raise ValueError(f"prompt {i} is {kind}: give a list of token ids, such as tokenizer.encode(text).ids")
        if row.min() < 0 or row.max() >= vocab:
            wrong = row.min() if row.min() < 0 else row.max()
            raise ValueError(f"prompt {i} has token {wrong}: ids are 0 .. {vocab - 1}")
    lengths = np.array([len(row) for row in rows], np.int32)
    tokens = np.zeros((len(rows), -(-lengths.max() // multiple) * multiple), np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return tokens, lengths


def checked_room(model: Model, tokens: np.ndarray, lengths: np.ndarray, new: int) -> int:
    """How many tokens the cache is made for.

    Raises ValueError where the model has fewer positions.
    """
    if hasattr(model, "begin"):
        return new + 1
    limit = getattr(model, "limit", None)
    if limit is not None and lengths.max() + new > limit:
        beside = f" beside its {model.places} vectors" if hasattr(model, "places") else ""
        raise ValueError(
            f"a prompt of {lengths.max()} tokens and {new} new ones are more than the model's {limit} positions"
            f"{beside}: shorten the prompt or ask for fewer"
        )
    room = tokens.shape[1] + new
    return room if limit is None else min(room, limit)


def stop_ids(stop: int | Sequence[int]) -> tuple[int, ...]:
    """One id, or several in whatever holds them. Raises TypeError for what is no integer."""
    ids = np.atleast_1d(np.asarray(stop))
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"stop={stop!r}: give ids of tokens, such as tokenizer.token_to_id('</s>')")
    return tuple(ids.ravel().tolist())


def checked_options(sampling: dict, key: Any, penalty: float | None, no_repeat: int | None) -> None:
    """Raises ValueError for options that make no sense, or that need a key; TypeError for a number as one."""
    checked_key(key)
    given = [name for name, value in sampling.items() if value is not None]
    if given and key is None:
        raise ValueError(f"{', '.join(given)}: sampling needs a key; without one the likeliest token is taken")
    limits = {"temperature": (0, np.inf), "top_k": (0, np.inf), "top_p": (0, 1), "min_p": (0, 1)}
    for name in given:
        if isinstance(sampling[name], jax.core.Tracer):
            continue
        low, high = limits[name]
        if not low < sampling[name] <= high:
            most = f" and at most {high}" if high == 1 else ""
            raise ValueError(f"{name}={sampling[name]} must be above {low}{most}")
    if penalty is not None and not penalty > 0:
        raise ValueError(f"repetition_penalty={penalty} must be above 0; 1 changes nothing")
    if no_repeat is not None and no_repeat < 1:
        raise ValueError(f"no_repeat={no_repeat} is the size of an n-gram: at least 1")
