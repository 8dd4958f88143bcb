"""A weight table says how another library names and orders the arrays of a family of models.

Each row is (their name, our path, axes). In the names `*` stands for a number, and `+` for one that they count from 1
and we from 0; the first of theirs is the first of ours, and so on. `axes` are those of theirs in our order, None where
both agree.
"""

import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from jann.core import Model, in_form_of
from jann.trees import Tree, flatten, unflatten

Table = tuple[tuple[str, str, tuple[int, ...] | None], ...]


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
            flat[path] = jnp.asarray(tensor if axes is None else np.transpose(tensor, axes))
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
            leaf = np.asarray(leaf)
            tensors[name] = np.ascontiguousarray(leaf if axes is None else np.transpose(leaf, np.argsort(axes)))
    if unknown:
        raise WeightsError("the weight table has no name for " + ", ".join(unknown))
    return tensors


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
