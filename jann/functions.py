"""Functions as values: the names by which they are imported, and the same one for equal arguments."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

PUBLIC = ("jax.nn", "jax.numpy", "jax.lax")  # functions found here have a private __module__


def function_name(function: Callable) -> tuple[str, str]:
    """A function or class -> (module, name) under which it is imported, preferring JAX's public modules."""
    name = getattr(function, "__qualname__", getattr(function, "__name__", None))
    for module in PUBLIC:
        if name and getattr(importlib.import_module(module), name, None) is function:
            return module, name
    return getattr(function, "__module__", type(function).__module__), name or repr(function)


class Portable(NamedTuple):
    """What pickle keeps of a function of JAX's, which it does not find under the function's own name."""

    module: str
    name: str


def portable(value: Any) -> Any:
    """A model's field as pickle can keep it; `carried` is the inverse."""
    if type(value) is tuple:
        return tuple(map(portable, value))
    named = function_name(value) if callable(value) and not isinstance(value, type) else ("", "")
    return Portable(*named) if named[0] in PUBLIC else value


def carried(value: Any) -> Any:
    """What `portable` made -> the field"""
    if type(value) is tuple:
        return tuple(map(carried, value))
    return getattr(importlib.import_module(value.module), value.name) if isinstance(value, Portable) else value


def remembered(make: Callable) -> Callable:
    """`functools.lru_cache` of a function that makes functions; of what cannot be hashed (a traced number), made anew.

    So that equal arguments give the same function, and what JAX has compiled for it serves again.
    """
    cached = functools.lru_cache(maxsize=128)(make)

    @functools.wraps(make)
    def made(*args, **options):
        try:
            hash((args, tuple(options.values())))
        except TypeError:
            return make(*args, **options)
        return cached(*args, **options)

    return made
