"""Going through depth, and looking inside while doing so.

`apply_blocks` is the one way through a stack of blocks; `tap` names a value inside a model; `observe` hands the named
values out, or changes them on the way.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from jann.core import ShapeError
from jann.drawing import checked_key
from jann.trees import flatten, stacked

# What is observed is part of the key of JAX's caches: a function that was compiled while observed (and so perhaps
# edited) is never used by a plain call, nor the other way round. The value is None or the edits, which compare equal
# from call to call.
_observed = jax.make_user_context(None)
_local = threading.local()


class TapError(RuntimeError):
    """A tap cannot be observed where it stands."""


@dataclasses.dataclass
class _Frame:
    """Values met so far at one level of tracing."""

    trace: Any
    layer: tuple
    values: dict[str, Any] = dataclasses.field(default_factory=dict)


def observe(function: Callable, edits: dict[str, Callable] | None = None) -> Callable:
    """function(...) -> output becomes observe(function)(...) -> (output, values by tap name).

    `function` is a model, or anything that calls models. Values met inside `apply_blocks` come stacked over depth.
    `edits` maps a name to `edit(value, layer) -> value`, applied where the value is met; `layer` is None outside
    `apply_blocks`, the index inside, a tuple of indices where blocks are nested. Composes with jit, vmap and grad from
    the outside: `jit(observe(model))`, not `observe(jit(model))`.

    Raises TapError if a tap stands in an inner jit, scan, vmap or checkpoint, if two taps share a name, or if an edit's
    name was not met.
    """
    edits = dict(edits or {})

    def observed(*args, **kwargs):
        with _observed(tuple(sorted(edits.items(), key=lambda item: item[0]))), _frame(()) as frame:
            output = function(*args, **kwargs)
        unmet = [name for name in edits if name not in frame.values]
        if unmet:
            raise TapError(f"no tap is named {', '.join(unmet)}; met were: {', '.join(frame.values) or 'none'}")
        return output, frame.values

    return observed


def observing() -> bool:
    """Whether a caller observes: then a layer that would not otherwise form a value may form it for `tap`."""
    return _observed.value is not None


def tap(name: str, value: Any) -> Any:
    """The identity on `value`, unless the caller observes: then it is recorded (and edited) under `name`."""
    if _observed.value is None:
        return value
    frame = _local.frames[-1]
    name = "/".join([*getattr(_local, "scopes", ()), name])
    edit = dict(_observed.value).get(name)
    if edit is not None:
        layer = frame.layer
        value = edit(value, None if not layer else layer[0] if len(layer) == 1 else layer)
    _record(frame, name, value)
    return value


@contextlib.contextmanager
def scope(name: str):
    """Taps inside are named "name/...": what a model that calls others puts around each, so that names stay apart."""
    outer = getattr(_local, "scopes", ())
    _local.scopes = (*outer, name)
    try:
        yield
    finally:
        _local.scopes = outer


def apply_blocks(
    block: Callable,
    x: Any,
    blocks: Any,
    *slots: Any,
    remat: bool | Callable | None = None,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """x through every block in turn: `block(x, p, *slot) -> (x, out)`; returns (x, outs).

    blocks:  a stacked tree is scanned (compile time flat in depth; outs come stacked); a list is unrolled (blocks may
             differ; outs come as a list).
    slots:   further values per block (keys, caches, window sizes, rates), each None, stacked, or a list.
    remat:   what the backward pass does again: True, each block; False, nothing; a policy of
             `jax.checkpoint_policies` says what is kept. None is False for a list and `keep_products` for a stacked
             tree, for which everything kept is copied into an array over depth.
    unroll:  how many blocks of a scanned stack are written out at a time.

    Raises ValueError when a slot has not one entry a block.
    """
    listed = isinstance(blocks, (list, tuple))
    n = len(blocks) if listed else _depth(blocks)
    for i, slot in enumerate(slots):
        if slot is not None and _depth(slot) != n:
            raise ValueError(f"slot {i} has {_depth(slot)} entries for {n} blocks")
    observing = _observed.value is not None
    outer = _local.frames[-1] if observing else None

    def run(x, p, slot, layer):
        with _frame((*outer.layer, layer)) if observing else contextlib.nullcontext() as frame:
            try:
                x, out = block(x, p, *slot)
            except ShapeError as error:
                path = next((path for path, leaf in flatten(p).items() if leaf is error.array), None)
                raise ShapeError(f"block parameter {path}: {error}") if path and not listed else error from None
        return x, out, frame.values if observing else {}

    remat = (False if listed else keep_products) if remat is None else remat
    if remat:
        run = jax.checkpoint(run, policy=None if remat is True else remat, prevent_cse=listed)

    if listed:
        outs, taps = [], []
        for i, p in enumerate(blocks):
            slot = [s[i] if isinstance(s, (list, tuple)) else jax.tree.map(itemgetter(i), s) for s in slots]
            x, out, values = run(x, p, slot, i)
            outs.append(out)
            taps.append(values)
        for name in {name: None for values in taps for name in values}:
            _record(outer, name, _over_depth([values[name] for values in taps if name in values]))
        return x, outs

    def body(x, scanned):
        p, slot, layer = scanned
        x, out, values = run(x, p, slot, layer)
        return x, (out, values)

    slots = [stacked(list(map(_arrays, s))) if isinstance(s, (list, tuple)) else s for s in slots]
    layers = jnp.arange(n) if observing else None
    x, (outs, values) = jax.lax.scan(body, x, (blocks, slots, layers), unroll=unroll)
    for name, value in values.items():
        _record(outer, name, value)
    return x, outs


def keep_products(primitive: Any, *_: Any, **__: Any) -> bool:
    """A policy of `jax.checkpoint`: keeps products, random bits and the like.

    The rest, which is elementwise or a short sum, takes less time to do again than to write and read: on two CPU cores
    the gradient of GPT-2 (3 layers, 384 wide, 2,048 tokens) took 633 ms and 232 MB in place of 727 ms and 521 MB.
    """
    return primitive.name in KEPT


PRODUCTS = ("dot_general", "half_matmul", "conv_general_dilated", "ragged_dot_general")
KEPT = (*PRODUCTS, "random_bits", "custom_call", "sort", "top_k")


def depth_keys(key: jax.Array | None, n: int) -> jax.Array | None:
    """Keys for n blocks, folded by index; no key gives no keys."""
    return None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(checked_key(key), jnp.arange(n))


def _depth(blocks: Any) -> int:
    return len(blocks) if isinstance(blocks, (list, tuple)) else jax.tree.leaves(blocks)[0].shape[0]


def _arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


def _over_depth(values: Sequence[Any]) -> Any:
    shapes = {tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(value)) for value in values}
    return stacked(list(values)) if len(shapes) == 1 else list(values)


def _record(frame: _Frame, name: str, value: Any) -> None:
    if get_opaque_trace_state() != frame.trace:
        raise TapError(
            f"tap {name!r} stands inside an inner jit, scan, vmap, grad or checkpoint, from which its value cannot "
            f"come out: observe first and transform after, jit(observe(model)), and go through depth with apply_blocks"
        )
    if name in frame.values:
        raise TapError(f"two taps are named {name!r}: give one another name, or put a scope around each model")
    frame.values[name] = value


@contextlib.contextmanager
def _frame(layer: tuple):
    frames = _local.__dict__.setdefault("frames", [])
    frames.append(_Frame(get_opaque_trace_state(), layer))
    try:
        yield frames[-1]
    finally:
        frames.pop()
