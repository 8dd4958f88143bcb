"""Models made of models: one after another, around a shortcut, side by side.

A part is a model or a plain function x -> x without parameters. Parameters and state are lists with an entry for each
part: `{}` and None where it has none. Each part draws noise from a key of its own, folded from its index.
"""

import functools
import operator
from collections.abc import Callable

import jax.numpy as jnp

from jann.core import Model
from jann.depth import scope
from jann.drawing import fold

Part = Model | Callable


def chain(*parts: Part) -> "Chain":
    """chain(f, g, h)(params, x) = h(g(f(x))): `chain(Linear(4, 8), jax.nn.relu, Linear(8, 2))`"""
    return Chain(parts)


def residual(part: Part) -> "Residual":
    """residual(f)(params, x) = x + f(x)"""
    return Residual(part)


def parallel(*parts: Part, join: str = "concatenate") -> "Parallel":
    """parallel(f, g)(params, x): f(x) and g(x) concatenated over features, or joined by "add" or "multiply\""""
    if not parts:
        raise ValueError("parallel() has no parts: give at least one")
    return Parallel(parts, join)


class Chain(Model):
    """Each part's output is the next one's input. The first takes all inputs."""

    parts: tuple[Part, ...]

    def spec(self):
        return [_spec(part) for part in self.parts]

    def apply(self, params, *inputs, state=None, key=None):
        states = []
        for i, part in enumerate(self.parts):
            output, new = _apply_part(part, i, params, inputs, state, key)
            inputs = (output,)
            states.append(new)
        return inputs[0], states


class Residual(Model):
    """x[...] -> x + part(x), He et al. 2016. The parameters are a list of the one part's."""

    part: Part

    def spec(self):
        return [_spec(self.part)]

    def apply(self, params, x, *inputs, state=None, key=None):
        y, new = _apply_part(self.part, 0, params, (x, *inputs), state, key)
        if y.shape != x.shape:
            raise ValueError(f"{self!r} cannot add its input {list(x.shape)} to its part's output {list(y.shape)}")
        return x + y, [new]


class Parallel(Model):
    """Every part takes the same inputs; their outputs are joined."""

    parts: tuple[Part, ...]
    join: str = "concatenate"

    def __post_init__(self):
        if self.join not in JOINS:
            raise ValueError(f"Parallel.join must be one of {', '.join(JOINS)}, got {self.join!r}")

    def spec(self):
        return [_spec(part) for part in self.parts]

    def apply(self, params, *inputs, state=None, key=None):
        results = [_apply_part(part, i, params, inputs, state, key) for i, part in enumerate(self.parts)]
        outputs, states = zip(*results, strict=True)
        shared = slice(None, -1) if self.join == "concatenate" else slice(None)
        if len({output.shape[shared] for output in outputs}) > 1:
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise ValueError(f"{self!r} cannot {self.join} outputs of shapes {shapes}")
        return JOINS[self.join](outputs), list(states)


JOINS = {
    "concatenate": lambda outputs: jnp.concatenate(outputs, -1),
    "add": lambda outputs: functools.reduce(operator.add, outputs),
    "multiply": lambda outputs: functools.reduce(operator.mul, outputs),
}


def _spec(part: Part):
    return part.spec() if isinstance(part, Model) else {}


def _apply_part(part, i, params, inputs, state, key):
    if not isinstance(part, Model):
        return part(*inputs), None
    with scope(str(i)):
        return part.apply(params[i], *inputs, state=None if state is None else state[i], key=fold(key, str(i)))
