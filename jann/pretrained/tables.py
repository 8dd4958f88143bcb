"""A weight table says how another library names and orders the arrays of a family of models.

Each row is (their name, our path, axes). In the names `*` stands for a number, and `+` for one that they count from 1
and we from 0; the first of theirs is the first of ours, and so on. `axes` are those of theirs in our order, None where
both agree, or a pattern of einops where axes are merged: "(heads head) embed -> embed heads head".
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import einops
import jax.numpy as jnp
import numpy as np
from einops import EinopsError
from jax.tree_util import tree_map_with_path

from jann.core import Model, Param, in_form_of, is_param
from jann.drawing import block_names
from jann.tensor_file import aligned
from jann.trees import Tree, flatten, path_name, unflatten

WORKERS = 2  # that copy while the next tensor is read
ROWS = 16  # of a source, in a part of a copy

Axes = tuple[int, ...] | str | None
Table = tuple[tuple[str, str, Axes], ...]


class WeightsError(ValueError):
    """Tensors do not fit the table or the model."""


def read(table: Table, tensors: Mapping[str, np.ndarray], model: Model | None = None, ignored: str = "(?!)") -> Tree:
    """Their tensors by name -> our parameters.

    model:    what the parameters are for: then tensors that it lacks or does not have are reported as well
    ignored:  a regular expression of their names that have no place in ours

    Raises WeightsError listing the tensors that are missing or unexpected, by their names.
    """
    flat, names = {}, {}
    unexpected = []
    for name, tensor in tensors.items():
        if re.search(ignored, name):
            continue
        path, axes = _translated(name, table, -1)
        if path is None:
            unexpected.append(name)
        else:
            names[path] = name
            flat[path] = jnp.asarray(in_our_order(tensor, axes))
    missing = []
    if model is not None:
        wanted = flatten(in_form_of(model.spec(), unflatten(flat)))  # equal blocks are a list to them
        unexpected += [name for path, name in names.items() if path not in wanted]
        missing = [_their_name(table, path)[0] or path for path in wanted if path not in flat]
    if missing or unexpected:
        lines = [f"{name}: missing" for name in missing] + [f"{name}: unexpected" for name in unexpected]
        raise WeightsError(f"the tensors do not fit {model or 'the weight table'}:\n  " + "\n  ".join(lines))
    return unflatten(flat)


def write(table: Table, params: Tree) -> dict[str, np.ndarray]:
    """Our parameters -> their tensors by name; the inverse of `read`.

    Raises WeightsError listing the parameters that the table does not name.
    """
    tensors, unknown = {}, []
    for path, leaf in flatten(params).items():
        name, axes = _their_name(table, path)
        if name is None:
            unknown.append(path)
        else:
            tensors[name] = in_their_order(np.asarray(leaf), axes)
    if unknown:
        raise WeightsError("the weight table has no name for " + ", ".join(unknown))
    return tensors


def load(
    table: Table,
    names: Iterable[str],
    tensor: Callable[[str], np.ndarray],
    model: Model,
    place: Callable[[np.ndarray, str], Any],
    ignored: str = "(?!)",
) -> Tree:
    """Their tensors -> our parameters as the model declares them, one leaf at a time; stacked blocks are gathered.

    names:    of all their tensors; tensor(name) reads one
    place:    place(array, path) -> the leaf, in its dtype and on its devices
    ignored:  a regular expression of their names that need no place in ours

    Raises WeightsError listing the tensors that are missing or of another shape, by their names; warns of those that
    are not used, as published files often carry another head.
    """
    spec, names = model.spec(), set(names)
    wanted = {path: sources_of(table, path, param) for path, param in flatten(spec).items()}
    needed = [name for sources in wanted.values() for name, _ in sources]
    if missing := [f"{name}: missing" for name in needed if name not in names]:
        raise WeightsError(f"the tensors do not fit {model}:\n  " + "\n  ".join(_first(missing)))
    if unexpected := sorted(name for name in names.difference(needed) if not re.search(ignored, name)):
        warnings.warn(f"not used, for {model} has no place for them: {', '.join(_first(unexpected))}", stacklevel=3)

    def part_of(name, axes, shape):
        try:
            part = in_our_order(tensor(name), axes, shape)
        except (EinopsError, ValueError) as error:
            raise WeightsError(f"{name} does not fit {model}: {error}") from None
        if part.shape != shape:
            raise WeightsError(f"{name}: got {list(part.shape)}, wanted {list(shape)} for {model}")
        return part

    def leaf(path, param):
        depth, sources = len(param.stacked), wanted[path_name(path)]
        whole, copies = None, []
        for i, (name, axes) in enumerate(sources):
            part = part_of(name, axes, param.shape[depth:])
            if len(sources) == 1 and part.flags.c_contiguous:
                whole = part
                break
            if whole is None:
                whole = aligned((len(sources), *part.shape), part.dtype)
            if len(copies) >= WORKERS:  # so that no more tensors than that are held
                copies[-WORKERS].result()
            copies.append(pool.submit(_copy, whole[i], part))
        for copy in copies:
            copy.result()
        return place(whole.reshape(param.shape), path_name(path))

    with ThreadPoolExecutor(WORKERS) as pool:  # NumPy copies without Python's lock
        return tree_map_with_path(leaf, spec, is_leaf=is_param)


def _copy(target: np.ndarray, source: np.ndarray) -> None:
    """target[...] = source, some rows of a transposed source at a time: 2.5 times as fast, as they stay in the cache"""
    axis = int(np.argmax(source.strides)) if source.ndim else 0
    for first in range(0, source.shape[axis], ROWS) if axis else ():
        rows = (slice(None),) * axis + (slice(first, first + ROWS),)
        target[rows] = source[rows]
    if not axis:
        target[...] = source


def _first(lines: list[str], most: int = 20) -> list[str]:
    return lines[:most] + ([f"... and {len(lines) - most} more"] if len(lines) > most else [])


def unload(table: Table, params: Tree, model: Model) -> dict[str, np.ndarray]:
    """Our parameters -> their tensors by name; the inverse of `load`. Blocks may be stacked or listed."""
    tensors = {}
    leaves = flatten(params)
    for path, param in flatten(in_form_of(model.spec(), params)).items():
        sources = sources_of(table, path, param)
        whole = np.asarray(leaves[path])
        for (name, axes), part in zip(sources, whole.reshape(-1, *whole.shape[len(param.stacked) :]), strict=True):
            tensors[name] = in_their_order(part, axes)
    return tensors


def sources_of(table: Table, path: str, param: Param) -> list[tuple[str, Axes]]:
    """Their (name, axes) for each block of a parameter, in order; for one that isn't stacked, of the parameter."""
    paths = block_names(path, param.stacked, param.shape[: len(param.stacked)]) if param.stacked else [path]
    sources = [_their_name(table, path) for path in paths]
    if sources[0][0] is None:
        raise WeightsError(f"the weight table has no name for {path}")
    return sources


def in_our_order(tensor: np.ndarray, axes: Axes, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Their tensor with our axes; `shape` is ours, where axes are to be taken apart."""
    if isinstance(axes, str):
        sizes = zip(axes.partition("->")[2].split(), shape, strict=True)
        return einops.rearrange(tensor, axes, **{name: size for name, size in sizes if name != "1"})
    return tensor if axes is None else np.transpose(tensor, axes)


def in_their_order(leaf: np.ndarray, axes: Axes) -> np.ndarray:
    """The inverse of `in_our_order`."""
    if isinstance(axes, str):
        theirs, _, ours = axes.partition("->")
        leaf = einops.rearrange(leaf, f"{ours} -> {theirs}")
    elif axes is not None:
        leaf = np.transpose(leaf, np.argsort(axes))
    return np.asarray(leaf, order="C")  # and not ascontiguousarray, which makes one number a list of one


def _their_name(table, path):
    return _translated(path, [(ours, theirs, axes) for theirs, ours, axes in table], 1)


def _translated(name, rows, shift):
    """The name by the first row that fits, and that row's axes; numbers marked `+` on either side are shifted."""
    for source, target, axes in rows:
        found = re.fullmatch(re.sub(r"\\[*+]", r"(\\d+)", re.escape(source)), name)
        if found:
            marks = zip(re.findall(r"[*+]", source), re.findall(r"[*+]", target), strict=True)
            for number, pair in zip(found.groups(), marks, strict=True):
                target = re.sub(r"[*+]", str(int(number) + shift * ("+" in pair)), target, count=1)
            return target, axes
    return None, None
