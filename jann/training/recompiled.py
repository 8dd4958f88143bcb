"""A program that is compiled again in the middle of a run costs minutes and says nothing: this says so, and why."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.tree_util import tree_flatten_with_path

from jann.trees import path_name


class Recompiled:
    """Warns, once, when one of the jitted `functions` is compiled again because its arguments have changed.

    To be called after each call of them. A chunk of another length is no change: it is a program of its own.
    """

    def __init__(self, *functions: Callable):
        self.functions = functions
        self.programs: int | None = None
        self.arguments: dict[str, tuple[str, str]] = {}
        self.warned = False

    def __call__(self, batches: Any, given: Any, returned: Any, steps: int) -> None:
        """batches[chunk, ...] and the train state given to `steps` steps, and the one that they returned."""
        programs = sum(function._cache_size() for function in self.functions)
        if programs == self.programs or self.warned:
            return
        arguments = _described("the batch", batches, 1) | _described("the train state", given, 0)
        changes = _changes(self.arguments, arguments)
        if self.programs is not None and changes:
            step = int(np.ravel(returned.step)[0]) - steps
            more = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
            mend = "keep shapes the same (pad or drop the last batch)"
            if not changes[0].startswith("the batch"):
                mend = "start from a state such as a step returns (of these types, all of it on these devices)"
            warnings.warn(
                f"the step was compiled again at step {step}: {', '.join(changes[:3])}{more}; {mend}", stacklevel=3
            )
            self.warned = True
        self.programs, self.arguments = programs, arguments


def _described(owner: str, tree: Any, skipped: int) -> dict[str, tuple[str, str]]:
    """{"the batch's 'token'": ("int32[32,128]", "on the host"), ...}, without the first axes"""

    def kind(leaf):
        weak = " of weak type" if getattr(leaf, "weak_type", False) else ""
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        return f"{dtype}[{','.join(map(str, np.shape(leaf)[skipped:]))}]{weak}"

    leaves = tree_flatten_with_path(tree)[0]
    return {f"{owner}'s {path_name(path)!r}" if path else owner: (kind(leaf), _place(leaf)) for path, leaf in leaves}


def _place(leaf: Any) -> str:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        return "on the host"
    if not leaf.committed:
        return "not bound to a device"
    devices = len(sharding.device_set)
    split = f" as {spec}" if (spec := getattr(sharding, "spec", None)) is not None else ""
    return f"bound to {devices} device{'s' * (devices > 1)}{split}"


def _changes(before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> list[str]:
    nothing = ("nothing", "")
    changes = []
    for name in {**before, **after}:
        (kind, place), (new_kind, new_place) = before.get(name, nothing), after.get(name, nothing)
        if kind != new_kind:
            changes.append(f"{name} changed from {kind} to {new_kind}")
        elif place != new_place:
            changes.append(f"{name} was {place}, is {new_place}")
    return changes
