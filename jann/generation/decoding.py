"""Token after token, from many prompts at once, as one compiled program."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import tree_map_with_path

from jann.core import Model, as_spec, in_form_of, listed
from jann.generation.checks import (
    HELD,
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
from jann.generation.choice import LOWEST, choose, no_repeated_ngrams, repetition_penalised
from jann.generation.growing import first_places, while_growing
from jann.layers import Turned
from jann.layers.dtypes import wide_dtype
from jann.layers.products import fast_halves
from jann.trees import Node, Tree, flatten, path_name


class Generated(NamedTuple):
    """What was made for each prompt.

    tokens:            int32[rows, new], after a row's end filled with `pad`
    lengths:           int32[rows], how many of them were made, a stop token among them
    log_probabilities: float32[rows, new], of each under the model, before anything changed its logits; 0 after the end.
                       None from `beam_search`, which gives scores, and `speculate`
    """

    tokens: jax.Array
    lengths: jax.Array
    log_probabilities: jax.Array | None


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
    logits_processor: Callable | None = None,
    stop: int | Sequence[int] = (),
    least: int = 0,
    never: int | Sequence[int] = (),
    never_first: int | Sequence[int] = (),
    begin_with: int | None = None,
    end_with: int | None = None,
    pad: int = 0,
    samples: int = 1,
    dtype: Any = jnp.float32,
) -> Generated:
    """Up to `new` tokens after each prompt: the likeliest each time, or sampled if there is a key.

    prompts:   lists of token ids of any lengths, or an array [rows, time]; for an encoder-decoder, its inputs
    key:       for sampling; a row's draws depend on the key and the row's number alone
    temperature, top_k, top_p, min_p:  see `warped`; they need a key
    repetition_penalty, no_repeat:     see `repetition_penalised`, and `no_repeated_ngrams` of that size
    logits_processor:  a function of one's own, called as those two are, after them and before the sampling's options;
               tokens[rows, places] hold the prompts too, of an encoder-decoder what its decoder made:

                   def never(logits, tokens, lengths):  # neither of two tokens
                       return logits.at[:, jnp.array([5, 7])].set(-jnp.inf)

               A program is compiled for each function; jax.tree_util.Partial(function, ...) holds arrays that change
    stop:      token ids that end a row
    least:     so many tokens of a row come before a stop token may
    never, never_first:    token ids that are not made at all, or not as a row's first (behind `begin_with`)
    begin_with, end_with:  the first token that is made of every row, such as the language to translate into; the last
               one of a row that gets as far as `new`
    samples:   so many rows for each prompt, one after another
    dtype:     of the cache

    The rows of a batch do not influence each other: prompts of different lengths give what each gives alone. Compiles
    once for each shape of prompts (padded to a multiple of 16) and choice of options; numbers may change freely.
    For many calls, with one row each, on a CPU: `for_decoding` first.

    Raises ValueError for a model that is no decoder, a prompt that is empty or no list of ids, a token id that the
    model does not have, more tokens than it has positions for, and options that contradict each other; TypeError for
    options of another kind; ShapeError, which lists them, for parameters that are not the model's.
    """
    whole(new=new, samples=samples, pad=pad)
    if new < 1:
        raise ValueError(f"new={new}: generate makes at least one token")
    if samples < 1 or (samples > 1 and key is None):
        raise ValueError(f"samples={samples}: several of a prompt differ only by sampling, which needs a key")
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    checked_options(sampling, key, repetition_penalty, no_repeat)
    stops, params = ids_of("stop", stop), ready(model, params)
    tokens, lengths = inputs_of(model, prompts)
    room = checked_room(model, tokens, lengths, new)
    tokens, lengths = tokens.repeat(samples, 0), lengths.repeat(samples, 0)
    processor = processor_of(
        logits_processor, model, lengths, new, stops, least=least, never=never, never_first=never_first,
        begin_with=begin_with, end_with=end_with,
    )  # fmt: skip
    numbers = {name: sampling[name] for name in ("temperature", "top_p", "min_p")}
    return _generated(
        model, params, tokens, lengths, key, numbers, repetition_penalty, processor,
        new=new, room=room, top_k=top_k, no_repeat=no_repeat, stop=stops, pad=pad, dtype=cache_dtype(dtype),
    )  # fmt: skip


def stream(
    model: Model, params: Tree, prompt: Sequence[int], new: int, *, stop: int | Sequence[int] = (), **options: Any
) -> Iterator[int]:
    """The tokens after one prompt as they are made; `options` are those of `generate`, but for `pad` and `samples`.

    Raises what `generate` does when it is called, before the first token is asked for; TypeError for another option.
    """
    whole(new=new)
    if new < 1:
        raise ValueError(f"new={new}: stream makes at least one token")
    key = options.pop("key", None)
    sampling = {name: options.pop(name, None) for name in ("temperature", "top_k", "top_p", "min_p")}
    penalty, no_repeat = options.pop("repetition_penalty", None), options.pop("no_repeat", None)
    processor = options.pop("logits_processor", None)
    held = {name: options.pop(name) for name in HELD if name in options}
    dtype = cache_dtype(options.pop("dtype", "float32"))
    if options:
        raise TypeError(f"stream has no option {', '.join(options)}")
    checked_options(sampling, key, penalty, no_repeat)
    stops, params = ids_of("stop", stop), ready(model, params)
    tokens, lengths = inputs_of(model, [prompt])
    room, top_k = checked_room(model, tokens, lengths, new), sampling.pop("top_k")
    processor = processor_of(processor, model, lengths, new, stops, **held)

    def made():
        logits, state, seen, seen_lengths = _begun(model, params, tokens, lengths, new=new, room=room, dtype=dtype)
        for _ in range(new):
            token, _, logits, state, seen, seen_lengths = _advanced(
                model, params, logits, state, seen, seen_lengths, key, sampling, penalty, processor, top_k=top_k,
                no_repeat=no_repeat,
            )  # fmt: skip
            yield int(token[0])
            if int(token[0]) in stops:
                return

    return made()


def for_decoding(model: Model, params: Tree) -> Tree:
    """Parameters -> the same, laid out so that one row is decoded fastest on a CPU: about 15 % faster.

    Blocks are listed, and kernels with fewer outputs than inputs are `Turned`; all are, of bfloat16 on a CPU with AMX.
    What takes parameters takes these too; with many rows at once their products in float32 are slower.
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
        return _turned(leaf, inputs) if narrow or fast_halves(leaf) else leaf

    return tree_map_with_path(turned, params, is_leaf=lambda leaf: isinstance(leaf, Node))


_turned = jax.jit(Turned.of, static_argnums=1)


@functools.partial(jax.jit, static_argnames=("model", "new", "room", "top_k", "no_repeat", "stop", "pad", "dtype"))
def _generated(
    model, params, tokens, lengths, key, numbers, penalty, processor, *, new, room, top_k, no_repeat, stop, pad, dtype
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
            logits, seen, seen_lengths, key, numbers, penalty, top_k, no_repeat, processor, ~done
        )
        made = made.at[:, i].set(jnp.where(done, pad, token))
        scores = scores.at[:, i].set(jnp.where(done, 0.0, score))
        count = count + (~done).astype(count.dtype)
        done = done | jnp.isin(token, jnp.array(stop, jnp.int32))
        logits, state = step(model, params, token[:, None], (~done).astype(jnp.int32), state)
        return i + 1, done, count, made, scores, (logits, state, seen, seen_lengths)

    nothing = jnp.zeros(rows, bool), jnp.zeros(rows, jnp.int32)
    _, _, count, made, scores, _ = while_growing(unfinished, one, (0, *nothing, made, scores, begun), places, room)
    return Generated(made, count, scores)


@functools.partial(jax.jit, static_argnames=("model", "new", "room", "dtype"))
def _begun(model, params, tokens, lengths, *, new, room, dtype):
    return first(model, params, tokens, lengths, new, room, dtype)


@functools.partial(jax.jit, static_argnames=("model", "top_k", "no_repeat"), donate_argnames=("state", "seen"))
def _advanced(model, params, logits, state, seen, seen_lengths, key, numbers, penalty, processor, *, top_k, no_repeat):
    awake = jnp.ones(logits.shape[0], bool)
    token, score, seen, seen_lengths = chosen(
        logits, seen, seen_lengths, key, numbers, penalty, top_k, no_repeat, processor, awake
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


def chosen(logits, seen, lengths, key, numbers, penalty, top_k, no_repeat, processor, awake):
    """The next token of each row, its log-probability, and the tokens so far with it (in rows that are awake)."""
    score = jax.nn.log_softmax(logits.astype(wide_dtype(logits)))
    logits = processed(logits, seen, lengths, penalty, no_repeat, processor)
    keys = None
    if key is not None:
        rows = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(lengths)))
        keys = jax.vmap(jax.random.fold_in)(rows, lengths)
    token = choose(logits, keys, top_k=top_k, **numbers)
    put = jax.vmap(lambda row, at, token: row.at[at].set(token, mode="drop"))
    seen = put(seen, jnp.where(awake, lengths, seen.shape[1]), token)
    return token, jnp.take_along_axis(score, token[:, None], 1)[:, 0], seen, lengths + awake.astype(lengths.dtype)


def processed(logits, seen, lengths, penalty, no_repeat, processor):
    """logits[rows, vocab] after what depends on the tokens so far"""
    if penalty is not None:
        logits = repetition_penalised(logits, seen, lengths, penalty)
    if no_repeat is not None:
        logits = no_repeated_ngrams(logits, seen, lengths, no_repeat)
    if processor is None:
        return logits
    made = processor(logits, seen, lengths)
    if jnp.shape(made) != logits.shape:
        raise ValueError(
            f"logits_processor gave {list(jnp.shape(made))} for logits {list(logits.shape)}: it must keep the shape"
        )
    return jnp.maximum(made, LOWEST).astype(logits.dtype)
