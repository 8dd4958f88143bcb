"""Low-rank adaptation: frozen kernels with a small trained correction (Hu et al. 2021, LoRA, arXiv:2106.09685)."""

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import tree_map_with_path

from jann.core import Model, Param, Spec, in_form_of, init
from jann.layers import LowRank, Turned, linear_spec, zeros
from jann.layers.low_rank import kernel_axes
from jann.trees import Node, Tree, flatten, partition, path_name, unflatten

uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # within 1 / sqrt(inputs), as PEFT draws


def low_rank(
    model: Model,
    params: Tree,
    *,
    key: jax.Array,
    rank: int = 8,
    targets: str = "blocks/",
    alpha: float = 16.0,
    rank_stabilised: bool = False,
) -> Tree:
    """params -> the same with kernels W replaced by `LowRank` ones, W + alpha / rank · down · up

        params = jann.adapt.low_rank(model, params, rank=8, targets="query|value", key=key)
        train, rest = jann.adapt.trainable(params)
        step = jann.make_step(jann.adapt.frozen(loss, rest), optimizer)
        state = jann.TrainState.start(key, train, optimizer)
        ...
        params = jann.combine(rest, state.params)

    `down` is drawn, `up` starts at zero: so does the correction, and the model computes what it did. Blocks may be
    stacked or a list, and start the same.

    targets:          a regular expression searched in the paths of the kernels ("blocks/query/weight"), by default all
                      of the blocks
    alpha:            the correction counts alpha / rank, so that the learning rate need not follow the rank
    rank_stabilised:  alpha / sqrt(rank), with which higher ranks keep learning (Kalajdzievski 2023, arXiv:2312.03732)

    Dropout on what a correction sees, for training: `jann.adapt.frozen(loss, rest, low_rank_dropout=0.05)`.

    Raises ValueError where the expression finds no kernel, or one that is of low rank already.
    """
    if rank < 1:
        raise ValueError(f"rank={rank}: a correction has at least rank 1")
    kernels = {path: param for path, param in flatten(in_form_of(model.spec(), params)).items() if is_kernel(param)}
    chosen = {path: param for path, param in kernels.items() if re.search(targets, path)}
    if not chosen:
        raise ValueError(f"no kernel's path matches {targets!r}; the kernels are: {', '.join(kernels)}")
    bases = plain_kernels(flatten(params), chosen)
    drawn = flatten(init(unflatten({path: factors_spec(param, rank) for path, param in chosen.items()}), key))
    scale = alpha / (math.sqrt(rank) if rank_stabilised else rank)

    def node(path, param):
        lead = param.shape[: len(param.stacked)]
        return LowRank(bases[path], drawn[f"{path}/down"], drawn[f"{path}/up"], jnp.full(lead, scale, jnp.float32))

    return replaced(params, {path: node(path, param) for path, param in chosen.items()})


def plain_kernels(leaves: dict[str, Any], paths: Iterable[str]) -> dict[str, jax.Array]:
    """The leaves at these paths as arrays, those of `for_decoding` turned back: training has many rows at once.

    Raises ValueError for those that are of low rank already.
    """
    paths = sorted(paths)
    if taken := [path for path in paths if is_low_rank(leaves[path])]:
        raise ValueError(f"{', '.join(taken)} is of low rank already: jann.adapt.merge(params) first, or choose others")
    return {path: jnp.asarray(leaf) if isinstance(leaf := leaves[path], Turned) else leaf for path in paths}


def is_kernel(param: Param) -> bool:
    """Whether a parameter is a matrix [*inputs, *outputs] that its input is multiplied by."""
    axes = list(param.axes)[len(param.stacked) :]
    return bool(param.into) and tuple(axes[: len(param.into)]) == tuple(param.into) and len(axes) > len(param.into)


def factors_spec(param: Param, rank: int) -> Spec:
    """A kernel [*lead, *inputs, *outputs] -> what its correction is made of: down[*lead, *inputs, rank] and up."""
    lead, inputs, outputs = kernel_axes(param)
    spec = {
        "down": linear_spec(inputs, {"rank": rank}, bias=False, init=uniform)["weight"],
        "up": linear_spec({"rank": rank}, outputs, bias=False, init=zeros)["weight"],
    }
    below = tuple(parts + 1 for parts in param.stacked)
    return {
        name: dataclasses.replace(factor, axes={**lead, **factor.axes}, stacked=below) for name, factor in spec.items()
    }


def trainable(params: Tree, also: str | None = None) -> tuple[Tree, Tree]:
    """params with low-rank kernels -> (their factors, everything else); `jann.combine` gives both back.

    The first are plain dicts, {"blocks": {"query": {"weight": {"down": ..., "up": ...}}}}.

    also:  a regular expression of the paths of what else is to be trained, such as a new head's

    Raises ValueError where there is nothing to train.
    """
    factors = {
        f"{path}/{name}"
        for path, leaf in flatten(params).items()
        if isinstance(leaf, LowRank)
        for name in ("down", "up")
    }
    train, rest = partition(params, lambda path, _: path in factors or bool(also and re.search(also, path)))
    if not jax.tree.leaves(train):
        raise ValueError("there is no low-rank kernel: make them with jann.adapt.low_rank, or name others in also=...")
    return train, rest


def merge(params: Tree) -> Tree:
    """params with each low-rank kernel as the one array that computes the same, for use without any extra cost."""
    return jax.tree.map(lambda leaf: leaf.merged() if is_low_rank(leaf) else leaf, params, is_leaf=is_low_rank)


def is_low_rank(node: Any) -> bool:
    return isinstance(node, LowRank)


def replaced(params: Tree, leaves: dict[str, Any]) -> Tree:
    """params with other leaves at these paths."""
    return tree_map_with_path(
        lambda path, leaf: leaves.get(path_name(path), leaf), params, is_leaf=lambda node: isinstance(node, Node)
    )
