"""From one task to another: what stays frozen, and a trained body under a new head."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.tree_util import Partial, tree_map_with_path

from jann.core import Model, Param, in_form_of, init, is_param
from jann.trees import Tree, combine, flatten, partition, path_name

Loss = Callable[..., tuple[jax.Array, tuple[dict, object]]]


def frozen(loss: Loss, rest: Tree) -> Loss:
    """A loss of all parameters -> the loss of those that train, the rest staying what it is.

        train, rest = jann.partition(params, "^head/|^pooler/")
        step = jann.make_step(jann.adapt.frozen(loss, rest), optimizer)
        state = jann.TrainState.start(key, train, optimizer)
        state, history = jann.fit(step, batches, state, 1000)
        params = jann.combine(rest, state.params)

    Gradients and optimiser state exist for `train` alone. The rest is an argument of the compiled program, there once,
    neither a constant in it nor part of the state that is copied and saved. `make_step(dtype=...)` does not cast it: a
    frozen part that may be bfloat16 is best loaded so.
    """

    def with_rest(rest, params, batch, key, extra=None):
        return loss(combine(rest, params), batch, key, extra)

    return Partial(with_rest, rest)


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
