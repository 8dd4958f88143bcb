"""Trees of parameters: nested dicts and lists, with a path for each leaf."""

import dataclasses
import functools
import itertools
import operator
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr

Tree = Any  # nested dicts and lists of arrays


class Node:
    """A leaf made of several arrays, such as a low-rank kernel: a dataclass that JAX knows as a pytree.

    `flatten` gives it whole. `partition` takes it apart: chosen parts come as a dict of them, and the node stays with
    None in their places, until `combine` puts them back.
    """

    def parts(self) -> dict[str, Any]:
        """Its arrays by name; those that were taken out are missing."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: part for name, part in fields.items() if part is not None}

    def declared(self, param: Any) -> "Node":
        """The `jann.Param` of the array that it stands for -> the same node with a Param in the place of each part."""
        raise NotImplementedError(f"{type(self).__name__} must define declared(param)")


def path_name(path: tuple) -> str:
    """JAX key path -> "blocks/0/weight"."""
    return keystr(path, simple=True, separator="/")


def flatten(tree: Tree) -> dict[str, Any]:
    """Nested dicts and lists -> {"blocks/0/weight": leaf, ...}, in the order in which they were written."""

    def walk(node, path):
        if isinstance(node, dict):
            children = node.items()
        elif isinstance(node, (list, tuple)):
            children = enumerate(node)
        else:
            return {} if node is None else {"/".join(path): node}
        return {name: leaf for k, child in children for name, leaf in walk(child, (*path, str(k))).items()}

    return walk(tree, ())


def unflatten(flat: dict[str, Any], like: Tree = None) -> Tree:
    """{"blocks/0/weight": leaf, ...} -> nested dicts, with a list wherever the names are 0, 1, 2, ...

    like:  a tree with a dict wherever such names shall stay those of a dict

    Inverse of `flatten` for trees without empty containers.
    """
    if "" in flat:
        return flat[""]
    children: dict[str, dict] = {}
    for path, leaf in flat.items():
        head, _, rest = path.partition("/")
        children.setdefault(head, {})[rest] = leaf
    parts = like.items() if isinstance(like, dict) else enumerate(like if isinstance(like, (list, tuple)) else ())
    inside = {str(name): part for name, part in parts}  # what is not there is a block of what is declared as one
    nested = {name: unflatten(below, inside.get(name, like)) for name, below in children.items()}
    of_dict = isinstance(like, dict) and nested.keys() <= like.keys()
    if nested and not of_dict and set(nested) == {str(i) for i in range(len(nested))}:
        return [nested[str(i)] for i in range(len(nested))]
    return nested


def partition(tree: Tree, chosen: str | Callable[[str, Any], bool]) -> tuple[Tree, Tree]:
    """tree -> (chosen leaves, the other leaves), both with the tree's containers; `combine` puts them together.

    `chosen` is a regular expression searched in the path ("blocks/.*/bias") or a function of (path, leaf). A leaf that
    goes to the other side is missing from its dict (None in a list). What training shall change is one side, what stays
    frozen the other: differentiate only the first, and neither gradients nor optimiser state are spent on the rest
    (see `jann.adapt.frozen`).

    Raises ValueError if the expression matches nothing.
    """
    if isinstance(chosen, str):
        pattern = re.compile(chosen)
        paths = [
            f"{path}/{part}" if part else path
            for path, leaf in flatten(tree).items()
            for part in (leaf.parts() if isinstance(leaf, Node) else [""])
        ]
        if not any(map(pattern.search, paths)):
            raise ValueError(f"no parameter path matches {chosen!r}; the paths are: {', '.join(paths)}")

        def choose(path, leaf):
            return bool(pattern.search(path))
    else:
        choose = chosen

    def walk(node, path):
        if isinstance(node, dict):
            sides = {name: walk(child, (*path, str(name))) for name, child in node.items()}
            return tuple({k: s[i] for k, s in sides.items() if s[i] is not None} for i in (0, 1))
        if isinstance(node, (list, tuple)):
            sides = [walk(child, (*path, str(i))) for i, child in enumerate(node)]
            return [s[0] for s in sides], [s[1] for s in sides]
        if isinstance(node, Node):
            parts = node.parts()
            taken = {name: part for name, part in parts.items() if choose("/".join((*path, name)), part)}
            if len(taken) in (0, len(parts)):
                return (node, None) if taken else (None, node)
            return taken, dataclasses.replace(node, **dict.fromkeys(taken))
        return (node, None) if choose("/".join(path), node) else (None, node)

    return walk(tree, ())


def combine(*trees: Tree) -> Tree:
    """Puts together what `partition` took apart; where two trees hold the same leaf, the later one wins."""

    def join(a, b):
        if isinstance(a, Node) and isinstance(b, dict):
            return dataclasses.replace(a, **b)
        if isinstance(a, dict) and isinstance(b, Node):
            return dataclasses.replace(b, **{**a, **b.parts()})
        if isinstance(a, dict) and isinstance(b, dict):
            return {name: join(a.get(name), b.get(name)) for name in {**a, **b}}
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            return [join(x, y) for x, y in itertools.zip_longest(a, b)]
        return a if b is None else b

    return functools.reduce(join, trees)


def stacked(blocks: list[Tree]) -> Tree:
    """A list of equal blocks -> one tree with a leading axis: the form that is scanned."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)


def unstacked(blocks: Tree) -> list[Tree]:
    """One tree with a leading axis -> the list of blocks: the form that is unrolled."""
    n = jax.tree.leaves(blocks)[0].shape[0]
    return [jax.tree.map(operator.itemgetter(i), blocks) for i in range(n)]


def copied(tree: Tree) -> Tree:
    """The same arrays in memory of their own, where they are; unlike `jnp.copy`, without a program for each shape."""

    def copy(leaf):
        concrete = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
        if not concrete or not leaf.is_fully_addressable:  # device_put would keep NumPy's memory
            return jnp.copy(leaf)
        return jax.device_put(leaf, leaf.sharding if leaf.committed else None, may_alias=False)

    return jax.tree.map(copy, tree)
