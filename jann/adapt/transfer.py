"""From one task to another: what stays frozen, and a trained body under a new head."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial, tree_map_with_path

from jann.core import Model, Param, in_form_of, init, is_param
from jann.drawing import fold
from jann.layers import LowRank
from jann.trees import Node, Tree, combine, flatten, partition, path_name

Loss = Callable[..., tuple[jax.Array, tuple[dict, object]]]


def frozen(loss: Loss, rest: Tree, low_rank_dropout: float | jax.Array | None = None) -> Loss:
    """A loss of all parameters -> the loss of those that train, the rest staying what it is.

        train, rest = jann.partition(params, "^head/|^pooler/")
        step = jann.make_step(jann.adapt.frozen(loss, rest), optimizer)
        state = jann.TrainState.start(key, train, optimizer)
        state, history = jann.fit(step, batches, state, 1000)
        params = jann.combine(rest, state.params)

    Gradients and optimiser state exist for `train` alone. The rest is an argument of the compiled program, there once,
    neither a constant in it nor part of the state that is copied and saved. `make_step(dtype=...)` does not cast it: a
    frozen part that may be bfloat16 is best loaded so.

    low_rank_dropout:  rate of dropout on what the corrections of `LowRank` kernels see, a mask for each (PEFT's
                       lora_dropout; 0.05 to 0.1 is usual); it is for training only, where there is a key

    Raises ValueError for such a rate beyond 0 to 1, or where no kernel is of low rank.
    """
    known = low_rank_dropout is not None and not isinstance(low_rank_dropout, jax.core.Tracer)
    if known and not 0 <= low_rank_dropout <= 1:
        raise ValueError(f"low_rank_dropout={low_rank_dropout} is a share of what is dropped: give 0 to 1")
    if low_rank_dropout is not None and not any(isinstance(leaf, LowRank) for leaf in flatten(rest).values()):
        raise ValueError(f"low_rank_dropout={low_rank_dropout}: no kernel is of low rank, see jann.adapt.low_rank")

    def with_rest(rest, rate, params, batch, key, extra=None):
        params = combine(rest, params)
        if rate is not None and key is not None:
            key, noise = jax.random.split(key)
            params = noisy(params, rate, noise)
        return loss(params, batch, key, extra)

    return Partial(with_rest, rest, low_rank_dropout)


def noisy(params: Tree, rate: jax.Array, key: jax.Array) -> Tree:
    """params with dropout of that rate on what the corrections of their low-rank kernels see."""

    def one(path, leaf):
        if not isinstance(leaf, LowRank):
            return leaf
        lead = leaf.scale.shape
        keys = jax.random.split(fold(key, path_name(path)), lead)
        return dataclasses.replace(leaf, key=keys, rate=jnp.full(lead, rate, jnp.float32))

    return tree_map_with_path(one, params, is_leaf=lambda node: isinstance(node, Node))


class Transplanted(NamedTuple):
    """What `transplant` made.

    params:  for the new model
    taken:   paths of the leaves that were taken over
    drawn:   paths of those that were drawn: there was nothing at their path, or of another shape
    left:    paths of what the new model has no place for
    """

    params: Tree
    taken: tuple[str, ...]
    drawn: tuple[str, ...]
    left: tuple[str, ...]

    def __repr__(self) -> str:
        lines = (f"{name} {len(paths)}: {', '.join(paths) or '-'}" for name, paths in zip(
            self._fields[1:], self[1:], strict=True))  # fmt: skip
        return "Transplanted(\n  " + "\n  ".join(lines) + "\n)"


def transplant(model: Model, key: jax.Array, params: Tree) -> Transplanted:
    """Parameters of another model -> those of `model`: leaves of the same path and shape taken over, the others drawn.

        encoder, params = jann.from_pretrained(folder)  # BERT(head="words")
        model = dataclasses.replace(encoder, head="sentence", labels=3)
        made = jann.adapt.transplant(model, key, params)  # made.drawn: head/weight, head/bias, pooler/...

    A leaf is drawn as `model.init(key)` would draw it. Print the result to see what came from where. Raises ValueError
    where no leaf fits.
    """
    spec, given = in_form_of(model.spec(), params), flatten(params)
    wanted = flatten(spec)

    def fits(path: str, param: Param) -> bool:
        return path in given and tuple(given[path].shape) == param.shape

    taken = {path: given[path] for path, param in wanted.items() if fits(path, param)}
    if not taken:
        raise ValueError(f"no leaf fits {model}: it wants {', '.join(wanted)}; given were {', '.join(given)}")
    drawn = flatten(init(partition(spec, lambda path, _: path not in taken)[0], key))
    leaves = {**drawn, **taken}
    made = tree_map_with_path(lambda path, _: leaves[path_name(path)], spec, is_leaf=is_param)
    return Transplanted(made, tuple(taken), tuple(drawn), tuple(path for path in given if path not in wanted))
