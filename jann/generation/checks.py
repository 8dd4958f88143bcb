"""What is asked of a model that makes tokens, checked before anything is compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jann.core import Model, check, listed
from jann.drawing import checked_key
from jann.generation.choice import restricted
from jann.trees import Tree

HELD = "least", "never", "never_first", "begin_with", "end_with"
Prompts = Sequence[Sequence[int]] | np.ndarray | jax.Array


def ready(model: Model, params: Tree) -> Tree:
    """The model's parameters in the form for decoding, blocks listed.

    Raises TypeError for what is no model, ValueError where it does not tell the next token, ShapeError where the
    parameters are not its own: the compiled programs call its `features`, which look at neither, and of another model's
    make NaN or nonsense.
    """
    if not isinstance(model, Model):
        raise TypeError(f"a model comes first, then its parameters: got {type(model).__name__} in the model's place")
    if not (hasattr(model, "begin") or hasattr(model, "cache")):
        raise ValueError(f"{model} is no decoder: only one that tells the next token, such as GPT2 or T5, generates")
    if getattr(model, "labels", 0):
        raise ValueError(f"{model} tells {model.labels} labels, not tokens: load or make it with labels=0 to generate")
    check(model, params)
    return listed(model, params)


def inputs_of(model: Model, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
    """Prompts -> (inputs[rows, time, ...], lengths[rows]): what the model says that it reads, or else ids of tokens

    Raises ValueError naming the prompt that does not fit.
    """
    return model.inputs(prompts) if hasattr(model, "inputs") else packed(prompts, model.vocab)


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


def begun_with(model: Model) -> int:
    """How many tokens an encoder-decoder's own begin with."""
    return len(getattr(model, "begin_tokens", (0,)))


def checked_room(model: Model, tokens: np.ndarray, lengths: np.ndarray, new: int) -> int:
    """How many tokens the cache is made for.

    Raises ValueError where the model has fewer positions.
    """
    limit = getattr(model, "limit", None)
    if hasattr(model, "begin"):
        if limit is not None and lengths.max() > limit:
            raise ValueError(f"a prompt of {lengths.max()} tokens is more than the model's {limit} positions: cut it")
        first = begun_with(model)
        if limit is not None and new + first > limit:
            raise ValueError(
                f"{new} new tokens behind the first, {first}, are more than the {limit} positions: ask for fewer"
            )
        return new + first
    if limit is not None and lengths.max() + new > limit:
        beside = f" beside its {model.places} vectors" if hasattr(model, "places") else ""
        raise ValueError(
            f"a prompt of {lengths.max()} tokens and {new} new ones are more than the model's {limit} positions"
            f"{beside}: shorten the prompt or ask for fewer"
        )
    room = tokens.shape[1] + new
    return room if limit is None else min(room, limit)


def cache_dtype(dtype: Any) -> np.dtype:
    """Raises TypeError for what is no floating dtype: keys and values as integers would all be 0."""
    if not jnp.issubdtype(dtype := jnp.dtype(dtype), jnp.floating):
        raise TypeError(f"dtype={dtype.name}: a cache holds floating numbers, such as float32 or bfloat16")
    return dtype


def ids_of(name: str, given: int | Sequence[int]) -> tuple[int, ...]:
    """One id, or several in whatever holds them. Raises TypeError for what is no integer."""
    ids = np.atleast_1d(np.asarray(given))
    if ids.size and ids.dtype.kind not in "iu":
        raise TypeError(f"{name}={given!r}: give ids of tokens, such as tokenizer.token_to_id('</s>')")
    return tuple(ids.ravel().tolist())


def whole(**numbers: Any) -> None:
    """Raises TypeError naming a number that is none, or not a whole one."""
    for name, number in numbers.items():
        if not isinstance(number, int | np.integer):
            raise TypeError(f"{name}={number!r}: give a whole number")


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
    counts = {"top_k": sampling.get("top_k"), "no_repeat": no_repeat}
    whole(**{name: number for name, number in counts.items() if number is not None})
    if penalty is not None and not penalty > 0:
        raise ValueError(f"repetition_penalty={penalty} must be above 0; 1 changes nothing")
    if no_repeat is not None and no_repeat < 1:
        raise ValueError(f"no_repeat={no_repeat} is the size of an n-gram: at least 1")


def processor_of(
    processor: Callable | None,
    model: Model,
    lengths: np.ndarray,
    new: int,
    stop: tuple[int, ...],
    *,
    least: int = 0,
    never: int | Sequence[int] = (),
    never_first: int | Sequence[int] = (),
    begin_with: int | None = None,
    end_with: int | None = None,
) -> Partial | None:
    """A function as a pytree, which compiled programs take for an argument, behind one that keeps the options HELD.

    lengths:  of each row's prompt

    Raises TypeError for what is no function or no id, ValueError for an id that the model does not have, or where
    `least` is not among 0 .. new.
    """
    if not (processor is None or callable(processor)):
        raise TypeError(f"logits_processor={processor!r}: give a function of (logits, tokens, lengths)")
    whole(least=least)
    if not 0 <= least <= new:
        raise ValueError(f"least={least}: at most new={new} tokens are made, so give 0 to {new}")
    given = {"never": never, "never_first": never_first, "begin_with": begin_with, "end_with": end_with}
    ids = {name: ids_of(name, () if said is None else said) for name, said in given.items()}
    for name, said in ids.items():
        if wrong := [number for number in said if not 0 <= number < model.vocab]:
            raise ValueError(f"{name}: there is no token {wrong[0]}, ids are 0 .. {model.vocab - 1}")
    if processor is not None and not isinstance(processor, Partial):
        processor = Partial(processor)
    begin = np.full_like(lengths, begun_with(model)) if hasattr(model, "begin") else lengths
    free = begin + len(ids["begin_with"])
    without = [(begin, begin + new, ids["never"]), (free, free + 1, ids["never_first"]), (begin, begin + least, stop)]
    without = [(start, end, np.array(held)) for start, end, held in without if held and (start != end).any()]
    only = [(begin, begin_with)] if ids["begin_with"] else []
    only += [(begin + new - 1, end_with)] if ids["end_with"] else []
    return Partial(restricted, without, only, processor) if without or only else processor
