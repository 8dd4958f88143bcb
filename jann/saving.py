"""Models as files: a description in JSON, parameters in safetensors, and both read back."""

import dataclasses
import functools
import importlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten_with_path

from jann.core import Model, as_spec, check, is_param, split
from jann.functions import function_name
from jann.parallel import gathered
from jann.tensor_file import TensorFile, TensorFileError
from jann.trees import Tree, combine, flatten, path_name, unflatten

MODEL, WEIGHTS = "model.json", "model.safetensors"


def save(folder: str | Path, model: Model, params: Tree) -> None:
    """Writes `model.json` and `model.safetensors`, from which `load` rebuilds both; replaces what is there at once.

    Tensors are named by path ("layers/0/weight"). Of several processes all call it and the first writes. Raises
    ShapeError if the parameters do not fit the model, TypeError naming a field of the model that cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    check(model, params)
    description = json.dumps(to_json(model), indent=2)
    flat = flatten(gathered(params))
    if jax.process_index() != 0:
        return
    arrays = {path: np.asarray(leaf, order="C") for path, leaf in flat.items()}  # safetensors takes bytes
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ((WEIGHTS, to_bytes(arrays)), (MODEL, description.encode())):
        partial = folder / f".{name}.partial"
        partial.write_bytes(data)
        partial.replace(folder / name)


def load(folder: str | Path, best: tuple[str, str] | None = None) -> tuple[Model, Tree]:
    """A folder written by `save`, or a run folder of `fit` -> (model, params).

    A run folder without `model.safetensors` (an unfinished run) gives those of its last checkpoint. What a run gives is
    what is evaluated: the average of the weights, where it keeps one.

    best:  as it was given to `fit`, ("accuracy", "max"): those of the best checkpoint, not of the run's end

    Raises FileNotFoundError if there is no model, ValueError naming a truncated file, ShapeError if the parameters do
    not fit the described model.
    """
    folder = Path(folder)
    if not (folder / MODEL).exists():
        raise FileNotFoundError(f"{folder} holds no {MODEL}: give a folder written by jann.save or jann.fit(model=...)")
    try:
        description = json.loads((folder / MODEL).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / MODEL} is not whole JSON ({error}): restore it or save the model again") from None
    model = from_json(description)
    if best is None and (folder / WEIGHTS).exists():
        try:
            with TensorFile(folder / WEIGHTS) as file:
                arrays = {name: jax.device_put(file.read(name)) for name in file.keys()}
        except TensorFileError as error:
            raise ValueError(
                f"{folder / WEIGHTS} is damaged or truncated ({error}): copy or save it again"
            ) from None
        params = unflatten({**_empty_containers(model), **arrays}, like=as_spec(model))
    else:
        params = _from_checkpoint(folder, model, best)
    check(model, params)
    return model, params


def _empty_containers(model: Model) -> dict[str, Tree]:
    """Paths of the spec that hold no parameter (an activation in a list of layers), which a file of arrays lacks."""
    nodes = tree_flatten_with_path(as_spec(model), is_leaf=lambda node: is_param(node) or not node)[0]
    return {path_name(path): node for path, node in nodes if not is_param(node)}


def _from_checkpoint(folder: Path, model: Model, best: tuple[str, str] | None) -> Tree:
    from jann.training.checkpoint import Checkpoints

    trained, statistics = split(model, jax.eval_shape(model.init, jax.random.key(0)))
    with Checkpoints(folder, best=best, read_only=True) as checkpoints:
        step = None
        if best is not None and (step := checkpoints.best_step()) is None:
            raise ValueError(f"no checkpoint of {folder} has {best[0]!r}: give fit the same best=..., or load without")
        average = "extra/average/value"
        params = checkpoints.restore_part(average if checkpoints.holds(average, step) else "params", trained, step)
        if flatten(statistics):
            params = combine(params, checkpoints.restore_part("extra/statistics/value", statistics, step))
    return params


def to_json(model: Model) -> dict:
    """Model -> {"model": "module:Class", "fields": {...}} of plain JSON values; `from_json` rebuilds it.

    Raises TypeError naming the field that cannot be written (a lambda, a partial, an array), or a class that cannot be
    imported.
    """

    def encode(value, where):
        if isinstance(value, Model):
            return to_json(value)
        if value is None or type(value) in (bool, int, float, str):  # not what would be read back as less
            return value
        if type(value) is tuple:
            return [encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, np.dtype):
            return {"dtype": value.name}
        if callable(value):
            module, name = function_name(value)
            if _found(module, name) is value:
                return {"function": f"{module}:{name}"}
            raise TypeError(f"{where} is {repr(value)}, which cannot be saved: define it as a function in a module")
        kind = type(value).__name__
        raise TypeError(f"{where} is a {kind}, which cannot be saved: use numbers, names, functions, models, tuples")

    cls = type(model)
    if _found(cls.__module__, cls.__qualname__) is not cls:
        raise TypeError(f"{cls.__qualname__} cannot be saved: define it in a module, not within a function")
    declared = [field.name for field in dataclasses.fields(model) if field.init]
    fields = {name: encode(getattr(model, name), f"{cls.__name__}.{name}") for name in declared}
    return {"model": f"{cls.__module__}:{cls.__qualname__}", "fields": fields}


def from_json(description: dict) -> Model:
    """{"model": "module:Class", "fields": {...}} -> the model.

    Raises ValueError naming the class or function that cannot be imported, or a field that one of the two lacks.
    """

    def decode(value):
        if isinstance(value, list):
            return tuple(map(decode, value))
        if isinstance(value, dict) and "model" in value:
            return from_json(value)
        if isinstance(value, dict) and "function" in value:
            module, _, name = value["function"].partition(":")
            return _imported(module, name)
        if isinstance(value, dict) and "dtype" in value:
            return jnp.dtype(value["dtype"])
        return value

    if not (isinstance(description, dict) and {"model", "fields"} <= description.keys()):
        raise ValueError('the description of a model is {"model": "module:Class", "fields": {...}}')
    module, _, name = description["model"].partition(":")
    cls = _imported(module, name)
    if not (isinstance(cls, type) and issubclass(cls, Model)):
        raise ValueError(f"{module}:{name} is not a jann model")
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(description["fields"]) - known)
    if unknown:
        raise ValueError(f"{name} has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    try:
        return cls(**{field: decode(value) for field, value in description["fields"].items()})
    except TypeError as error:
        raise ValueError(f"{name} cannot be made as it is described: {error}") from error


def up_to_date(value: Any) -> Any:
    """JSON with the models in it described as `to_json` does now: fields that they gained since have their defaults.

    A model that can no longer be built stays as it is described.
    """
    if isinstance(value, list):
        return [up_to_date(part) for part in value]
    if not isinstance(value, dict):
        return value
    if {"model", "fields"} == value.keys():
        try:
            return json.loads(json.dumps(to_json(from_json(value))))
        except (ValueError, TypeError):
            return value
    return {name: up_to_date(part) for name, part in value.items()}


def _found(module: str, name: str) -> Any:
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None


def _imported(module: str, name: str) -> Any:
    found = _found(module, name)
    if found is None:
        raise ValueError(f"cannot import {name} from {module}: import or define it first, or fix the saved model.json")
    return found
