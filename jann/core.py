"""Parameters are declared once, models are values.

A model's `spec()` is a tree (dicts, lists) with a `Param` at each leaf. Initial values, counts, checks, shardings and
masks are derived from it, so shapes are written nowhere else.
"""

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, dataclass_transform

import jax
import numpy as np
from jax.tree_util import tree_flatten_with_path, tree_map_with_path

from jann.drawing import checked_key, drawn
from jann.functions import carried, function_name, portable
from jann.trees import Tree, flatten, partition, path_name, unstacked

Spec = Any  # the same nesting with Param leaves


@dataclasses.dataclass(frozen=True)
class Param:
    """One array of a model: its logical axes with their sizes, how it starts, what it contracts.

    axes:     names and sizes in order, e.g. `dict(embed=768, heads=12, head=64)`
    init:     `init(key, shape, dtype) -> array`, such as those of `jax.nn.initializers`
    into:     the axes that are summed over when the parameter meets its input; none for biases and norms
    trained:  False for running statistics, which training carries beside the parameters
    carried:  True for those of them that the model itself moves: it takes the last in training too, returns the next
    stacked:  set by `stack`: for each leading axis of equal blocks, how many path parts follow the block's index
    """

    axes: dict[str, int]
    init: Callable = jax.nn.initializers.zeros
    into: tuple[str, ...] = ()
    trained: bool = True
    carried: bool = False
    stacked: tuple[int, ...] = ()

    def __post_init__(self):
        if not isinstance(self.axes, Mapping):
            raise TypeError(f"Param takes axes by name, such as dict(inputs=8, outputs=2), got {self.axes!r}")
        if wrong := {name: size for name, size in self.axes.items() if not hasattr(size, "__index__")}:
            raise TypeError(f"the sizes of a Param are whole numbers, got {wrong}")
        object.__setattr__(self, "axes", {name: operator.index(size) for name, size in self.axes.items()})
        if empty := {name: size for name, size in self.axes.items() if size < 1}:
            raise ValueError(f"the sizes of a Param are at least 1, got {empty}")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.axes.values())

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def fan_in(self) -> int:
        """How many inputs each output sums over; 1 where nothing is contracted."""
        return math.prod(self.axes[name] for name in self.into)

    def __str__(self):
        return ", ".join(f"{name}={size}" for name, size in self.axes.items())


class ShapeError(ValueError):
    """An array does not fit a parameter. `array` is the parameter, from which the model finds its path."""

    def __init__(self, message: str, array: Any = None):
        super().__init__(message)
        self.array = array


# models


@dataclass_transform(frozen_default=True)
class Model:
    """Base of all models: a frozen dataclass with `spec()` and `apply(params, *inputs, state=None, key=None)`.

    Subclasses become dataclasses by being defined. Fields must be hashable (tuples, not lists), so that models compare
    by value, serve as static arguments of `jax.jit`, and can be rebuilt from JSON. NumPy's numbers become Python's.

    - `init(key) -> params` draws the parameters of `spec()`
    - `apply(params, *inputs, state=None, key=None) -> (output, state)`; without a key there is no noise
    - `model(params, *inputs, ...)` is `apply` without the state
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            raise TypeError(f"{cls.__name__} is a dataclass: in place of __init__ declare its fields, such as `n: int`")
        dataclasses.dataclass(frozen=True, repr=False)(cls)
        cls.__init__ = _checking_fields(cls.__init__)
        if "apply" in vars(cls):
            cls.apply = _checking_params(cls.apply)

    def spec(self) -> Spec:
        raise NotImplementedError(f"{type(self).__name__} must define spec(): a tree of Param")

    def apply(self, params: Tree, *inputs, state=None, key=None) -> tuple[Any, Any]:
        raise NotImplementedError(f"{type(self).__name__} must define apply(params, *inputs, state=None, key=None)")

    def init(self, key: jax.Array) -> Tree:
        """key -> parameters. Each leaf's key is folded from its path, so that a leaf does not depend on the others."""
        return init(as_spec(self), key)

    def __call__(self, params: Tree, *inputs, **options):
        return self.apply(params, *inputs, **options)[0]

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        names = [field.name for field in dataclasses.fields(self) if field.init]
        return _remade, (type(self), {name: portable(getattr(self, name)) for name in names})

    def __repr__(self):
        def shown(field):
            value = getattr(self, field.name)
            return f"{field.name}={_repr(value)}"

        fields = [f for f in dataclasses.fields(self) if not _is_default(f, getattr(self, f.name))]
        return f"{type(self).__name__}({', '.join(map(shown, fields))})"


def _remade(cls: type, fields: dict[str, Any]) -> Model:
    """The inverse of `Model.__reduce__`"""
    return cls(**{name: carried(value) for name, value in fields.items()})


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    return field.default is not dataclasses.MISSING and value == field.default


def _repr(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_repr, value))}{',' * (len(value) == 1)})"
    if isinstance(value, type) or (callable(value) and not isinstance(value, Model)):
        module, name = function_name(value)
        return f"{module}.{name}"
    return repr(value)


def _checking_fields(construct: Callable) -> Callable:
    @functools.wraps(construct)
    def checked(self, *args, **kwargs):
        construct(self, *args, **kwargs)
        for field in dataclasses.fields(self):
            value, where = _plain(getattr(self, field.name)), f"{type(self).__name__}.{field.name}"
            object.__setattr__(self, field.name, value)
            if isinstance(value, int) and str(field.type).startswith("tuple"):
                raise TypeError(f"{where} must be a tuple, got the number {value}: write ({value},)")
            try:
                hash(value)
            except TypeError:
                mend = "arrays belong in params"
                if isinstance(value, list):
                    mend = f"write the tuple {tuple(value)!r}"
                elif isinstance(value, dict):
                    mend = "write a tuple of pairs, or a Model"
                elif isinstance(value, jax.core.Tracer):
                    mend = f"it is traced, as in a sweep: jann.sweep(static=({field.name!r},)) makes it constant"
                raise TypeError(
                    f"{where} must be hashable, got {type(value).__name__} {_short(value)}: {mend}"
                ) from None

    return checked


def _plain(value: Any) -> Any:
    """NumPy's numbers, also those in tuples, as Python's, which are the same to JSON and to `isinstance`."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if type(value) is tuple else value


def _checking_params(apply: Callable) -> Callable:
    @functools.wraps(apply)
    def checked(self, params, *inputs, **options):
        if type(self).apply is not checked:  # called by a subclass's own apply, with parameters of its choice
            return apply(self, params, *inputs, **options)
        check(self, params)
        try:
            result = apply(self, params, *inputs, **options)
        except ShapeError as error:
            path = next((p for p, leaf in flatten(params).items() if leaf is error.array), None)
            if path is None:
                raise
            raise ShapeError(f"{type(self).__name__}, parameter {path}: {error}") from None
        if not isinstance(result, tuple) or len(result) != 2:
            name, got = type(self).__name__, _described(result)
            raise TypeError(f"{name}.apply must return (output, state), got {got}: write `return y, state`")
        return result

    return checked


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"an array of shape {list(value.shape)}" if hasattr(value, "shape") else type(value).__name__


def _short(value: Any, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


@functools.lru_cache(maxsize=512)
def _spec_of(model: Model) -> Spec:
    return _checked_spec(model.spec(), f"{type(model).__name__}.spec()")


def as_spec(model_or_spec: Model | Spec) -> Spec:
    """A model's spec, or the spec given. Raises TypeError or ValueError naming what cannot be in one."""
    return _spec_of(model_or_spec) if isinstance(model_or_spec, Model) else _checked_spec(model_or_spec, "the spec")


def _checked_spec(spec: Spec, owner: str) -> Spec:
    def walk(node, path):
        where = f"{owner}, {'/'.join(path)}" if path else owner
        if isinstance(node, dict):
            for name, below in node.items():
                if not isinstance(name, str):
                    raise TypeError(f"{where}: names are strings, got {name!r}: write {str(name)!r}, or a list")
                if "/" in name:
                    raise ValueError(f"{where}: the name {name!r} has a slash, as paths have: nest dicts, or rename it")
                walk(below, (*path, name))
        elif isinstance(node, (list, tuple)):
            for i, below in enumerate(node):
                walk(below, (*path, str(i)))
        elif not is_param(node):
            wanted = "wanted a Param, such as Param(dict(inputs=8, outputs=2))"
            raise TypeError(f"{where}: {wanted}, got {_described(node)}")

    walk(spec, ())
    return spec


def is_param(node: Any) -> bool:
    return isinstance(node, Param)


# derived from the spec


def init(spec: Spec, key: jax.Array) -> Tree:
    """Draws every Param of `spec` in float32; works under jit, vmap and eval_shape."""
    spec = as_spec(spec)
    if checked_key(key) is None:
        raise TypeError("parameters are drawn with a key, such as jax.random.key(0), got None")

    def draw(path, param):
        return drawn(param.init, param.shape, path_name(path), param.stacked, key)

    return tree_map_with_path(draw, spec, is_leaf=is_param)


def stack(block: Spec, **axis: int) -> Spec:
    """Declares `n` equal blocks as one: `stack(block, layers=12)` puts an axis `layers` before every Param's axes."""
    ((name, n),) = axis.items()

    def leaf(path, param):
        if name in param.axes:
            raise ValueError(f"axis {name!r} is already in {path_name(path)}: give the outer stack another name")
        return dataclasses.replace(param, axes={name: n, **param.axes}, stacked=(len(path), *param.stacked))

    return tree_map_with_path(leaf, block, is_leaf=is_param)


def _unstacked_spec(spec: Spec) -> list[Spec] | None:
    """The list form of a spec made by `stack`; None for any other spec."""
    leaves = tree_flatten_with_path(spec, is_leaf=is_param)[0]
    if not leaves or any(param.stacked[:1] != (len(path),) for path, param in leaves):
        return None

    def block(param):
        return dataclasses.replace(param, axes=dict(list(param.axes.items())[1:]), stacked=param.stacked[1:])

    return [jax.tree.map(block, spec, is_leaf=is_param)] * leaves[0][1].shape[0]


def in_form_of(spec: Spec, params: Tree) -> Spec:
    """The spec with its equal blocks stacked or listed as `params` has them, so that paths agree."""
    if isinstance(spec, dict) and isinstance(params, (list, tuple)):
        spec = _unstacked_spec(spec) or spec
    elif isinstance(spec, list) and isinstance(params, dict) and spec:
        spec = _stacked_spec(spec)
    if isinstance(spec, dict) and isinstance(params, dict):
        return {name: in_form_of(below, params.get(name)) for name, below in spec.items()}
    if isinstance(spec, list) and isinstance(params, (list, tuple)):
        given = itertools.chain(params, itertools.repeat(None))
        return [in_form_of(below, part) for below, part in zip(spec, given, strict=False)]
    return spec


def listed(model: Model, params: Tree) -> Tree:
    """params with every stack of equal blocks as a list of them, each with arrays of its own: the form for decoding."""

    def walk(spec, params):
        if isinstance(params, dict) and isinstance(spec, dict):
            if _unstacked_spec(spec) is not None:
                return unstacked(params)
            return {name: walk(spec[name], below) for name, below in params.items()}
        return params

    return walk(as_spec(model), params)


def _stacked_spec(blocks: list[Spec]) -> Spec:
    taken = {name for param in flatten(blocks[0]).values() for name in param.axes}
    name = next(name for n in itertools.count() if (name := "layers" + "'" * n) not in taken)
    return stack(blocks[0], **{name: len(blocks)})


def check(model_or_spec: Model | Spec, params: Tree) -> None:
    """Raises ShapeError listing every parameter that is missing, unexpected or of another shape than declared.

    Leaves that are not trained may be absent (training passes the trained ones). Equal blocks may come stacked or as a
    list. Anything with a `shape` counts as an array, so low-rank and quantised kernels answer with their logical one.
    """
    problems: list[str] = []

    def walk(want, got, path):
        name = "/".join(path) or "params"
        if is_param(want):
            if isinstance(got, (dict, list, tuple)) or not hasattr(got, "shape"):
                problems.append(f"{name}: wanted [{want}], got {type(got).__name__}")
            elif tuple(got.shape) != want.shape:
                problems.append(f"{name}: wanted [{want}], got {list(got.shape)}")
        elif isinstance(want, dict):
            if not isinstance(got, dict):
                problems.append(f"{name}: wanted a dict with {', '.join(want)}, got {type(got).__name__}")
                return
            for child in want:
                if child in got:
                    walk(want[child], got[child], (*path, child))
                else:
                    missing(want[child], (*path, child))
            problems.extend(f"{'/'.join((*path, str(child)))}: unexpected" for child in got if child not in want)
        else:
            if not isinstance(got, (list, tuple)) or len(got) != len(want):
                size = len(got) if isinstance(got, (list, tuple)) else type(got).__name__
                problems.append(f"{name}: wanted a list of {len(want)}, got {size}")
                return
            for i, (w, g) in enumerate(zip(want, got, strict=True)):
                walk(w, g, (*path, str(i)))

    def missing(want, path):
        for below, param in tree_flatten_with_path(want, is_leaf=is_param)[0]:
            if param.trained:
                name = "/".join(path) + ("/" + path_name(below) if below else "")
                problems.append(f"{name}: missing, wanted [{param}]")

    walk(in_form_of(as_spec(model_or_spec), params), params, ())
    if problems:
        owner = repr(model_or_spec) if isinstance(model_or_spec, Model) else "the spec"
        more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
        lines = "\n  ".join(problems[:20]) + more
        raise ShapeError(f"parameters do not fit {owner}:\n  {lines}\nmodel.init(key) makes parameters that fit")


def split(model: Model, params: Tree) -> tuple[Tree, Tree]:
    """params -> (what is trained, running statistics). Training takes the first, `combine` gives both back."""
    untrained = running(model, params)
    return partition(params, lambda path, leaf: path not in untrained)


def running(model: Model, params: Tree) -> set[str]:
    """Paths of the running statistics that the model declares, blocks in the form of `params`; some may be absent."""
    return {path for path, param in flatten(in_form_of(as_spec(model), params)).items() if not param.trained}


def decay_mask(model: Model) -> Callable[[Tree], Tree]:
    """The `mask` of Optax's weight decay: True where a parameter contracts its input, so not for biases and norms.

    `optax.adamw(1e-3, mask=jann.decay_mask(model))`; it fits all parameters, the trained ones, or any part of them. The
    factors of a low-rank kernel decay as the kernel would.
    """
    spec = as_spec(model)

    def mask(params):
        contracting = {path for path, param in flatten(in_form_of(spec, params)).items() if param.into}

        def decays(path, leaf):
            name = path_name(path)
            return name in contracting or name.rpartition("/")[0] in contracting

        return tree_map_with_path(decays, params)

    return mask
