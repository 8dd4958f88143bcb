"""What tells the experiments of sweeps apart, as JSON that is alike in every process."""

from __future__ import annotations

import dataclasses
import dis
import inspect
import json
import math
import re
import sys
import types
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import Model
from jann.functions import function_name

FUNCTIONS = (types.FunctionType, types.MethodType, partial)
FIXED = (bool, int, float, complex, str, bytes, tuple, range, type, np.dtype, *FUNCTIONS, Model)


class Identity:
    """What a value is, by which the values of one sweep are told from those of another.

    A function or class is its name, and a function what it closes over. Those of the experiment's own module are their
    code too, and a function its defaults; the names of the globals that they read are gathered.
    """

    def __init__(self, experiment: Callable):
        self.function = _innermost(experiment)
        self.own = getattr(self.function, "__globals__", {})
        self.read: set[str] = set()  # globals of the own module
        self.written: set[str] = set()
        self.met: dict[int, str] = {}  # functions and classes: in short, from their second time on
        self.within: set[int] = set()  # what holds the present value

    def parts(self, experiment: Callable) -> dict[str, Any]:
        """{what: its identity} of all that an experiment is besides its name."""
        told = _parts(self(experiment))
        told.pop("name", None)
        if "code" in told:
            told["the experiment's code"] = told.pop("code")
        found: dict[str, Any] = {}
        while new := sorted(self.read - found.keys()):
            lasting = self._lasting({name: self.own[name] for name in new if name in self.own})
            found |= dict.fromkeys(new) | {name: self(value) for name, value in lasting.items()}
        read = {f"global {name}": it for name, it in found.items() if it is not None and name not in self.written}
        return {"Python": f"{sys.version_info.major}.{sys.version_info.minor}", **told, **read}

    def __call__(self, value: Any) -> Any:
        if id(value) in self.within:  # it holds itself
            return "..."
        self.within.add(id(value))
        try:
            return self._of(value)
        finally:
            self.within.remove(id(value))

    def _of(self, value: Any) -> Any:
        function = _bare(value)
        if isinstance(function, partial):
            given = {**dict(enumerate(function.args)), **function.keywords}
            told = {f"given {name}": self(it) for name, it in given.items()}
            return {**_parts(self(function.func)), **told} if given else self(function.func)
        if isinstance(function, types.MethodType):
            told = _parts(self(function.__func__))
            of_object = _parts(self._object(function.__self__))
            return {**told, **{f"object's {name}": it for name, it in of_object.items()}}
        if isinstance(function, types.FunctionType):
            return self._once(function, named(value), self._function)
        if isinstance(value, type):
            return self._once(value, named(value), self._class)
        if isinstance(value, (list, tuple)):
            return [self(part) for part in value]
        if isinstance(value, dict):
            return {str(name): self(part) for name, part in value.items()}
        if _is_array(value):
            is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(value) if is_key else value)
            return f"{array.dtype}{list(array.shape)} {zlib.crc32(array.tobytes()):08x}"
        if dataclasses.is_dataclass(value) and not isinstance(value, Model) or self._is_own(type(value)):
            return self._object(value)
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)  # JSON has none
        return shown(value)

    def _once(self, value: Any, name: str, describe: Callable[[Any], dict]) -> Any:
        if id(value) in self.met:
            return self.met[id(value)]
        self.met[id(value)] = name
        told = describe(value)
        if not told:
            return name
        self.met[id(value)] = f"{name} {_sum(told)}"
        return {"name": name, **told}

    def _function(self, function: types.FunctionType) -> dict:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        holds = {f"closed-over {name}": cell.cell_contents for name, cell in cells if cell != types.CellType()}
        told = {}
        if function.__globals__ is self.own:
            told["code"] = _sum(_code(function.__code__, function.__doc__))
            for instruction in _instructions(function.__code__):
                if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                    self.read.add(instruction.argval)
                elif instruction.opname == "STORE_GLOBAL":
                    self.written.add(instruction.argval)
            arguments = inspect.signature(function, follow_wrapped=False).parameters.values()
            holds |= {f"default {it.name}": it.default for it in arguments if it.default is not it.empty}
        return told | {name: self(it) for name, it in self._lasting(holds).items()}

    def _class(self, cls: type) -> dict:
        held = {}
        for base in filter(self._is_own, cls.__mro__):
            for name, it in vars(base).items():
                it = _bare(it.fget if isinstance(it, property) else getattr(it, "__func__", it))
                if isinstance(it, types.FunctionType) or not name.startswith("__"):
                    held[f"{base.__name__}.{name}"] = it
        told = {name: self(it) for name, it in self._lasting(held).items()}
        return {"code": _sum(told)} if told else {}

    def _object(self, value: Any) -> Any:
        if isinstance(value, type):
            return self(value)
        if isinstance(value, Model):
            return {"class": self(type(value)), "is": shown(value)}
        if dataclasses.is_dataclass(value):
            attributes = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        else:
            held = getattr(value, "__dict__", None)
            attributes = self._lasting(held or {})
            if not attributes and held != {}:
                warnings.warn(
                    f"the folder cannot tell one {type(value).__name__} from another, it has no numbers, strings, "
                    "arrays or functions as attributes: choose another folder for another",
                    stacklevel=2,
                )
        return {"class": self(type(value)), **{name: self(it) for name, it in attributes.items()}}

    def _is_own(self, cls: type) -> bool:
        return cls.__module__ == self.own.get("__name__")

    def _lasting(self, held: dict[str, Any]) -> dict[str, Any]:
        """Of what a function holds that which no run changes: of lists and dicts (counters, records) the arrays."""
        lasting = {}
        for name, value in held.items():
            value = (tuple(_arrays(value)) or None) if isinstance(value, (list, dict)) else value
            frozen = dataclasses.is_dataclass(value) and value.__dataclass_params__.frozen
            if frozen or isinstance(_bare(value), FIXED) or _is_array(value) or self._is_own(type(value)):
                lasting[name] = value
        return lasting


def named(function: Callable) -> str:
    """A function or class as "module:name"."""
    module, name = function_name(function)
    return f"{module}:{name}"


def shown(value: Any) -> Any:
    """A hyper-parameter as JSON shows it, without addresses, which change from process to process."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        if callable(value) and hasattr(value, "__module__") and not isinstance(value, Model):
            return named(value)
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _bare(value: Any) -> Any:
    """A function without what compiles or keeps it (jax.jit, lru_cache); an object that is called is its method."""
    while callable(value) and not isinstance(value, (type, Model, *FUNCTIONS)):
        if hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        elif not hasattr(value, "__name__") and isinstance(value.__call__, types.MethodType):
            return value.__call__
        else:
            break
    return value


def _innermost(function: Any) -> Any:
    """The function that was written, without partials, decorators and the object of a method."""
    while True:
        function = _bare(function)
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            return function


def _parts(told: Any) -> dict[str, Any]:
    return told if isinstance(told, dict) else {"name": told}


def _code(code: types.CodeType, doc: str | None = None) -> list:
    """What a function does, whatever its file, its lines and its docstring."""
    constants = [
        _code(it) if isinstance(it, types.CodeType)
        else sorted(map(repr, it)) if isinstance(it, frozenset)  # whose order differs between processes
        else repr(it)
        for it in code.co_consts if it is None or it != doc
    ]  # fmt: skip
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars]


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    yield from dis.get_instructions(code)
    for inside in code.co_consts:
        if isinstance(inside, types.CodeType):
            yield from _instructions(inside)


def _sum(told: Any) -> str:
    return f"{zlib.crc32(json.dumps(told).encode()):08x}"


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, jax.Array)) and not isinstance(value, jax.core.Tracer)


def _arrays(value: Any, depth: int = 8) -> list:
    if _is_array(value):
        return [value]
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [array for part in parts for array in _arrays(part, depth - 1)] if depth else []
