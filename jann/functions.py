"""Functions as values: the names by which they are imported, and the same one for equal arguments."""

import functools
import importlib
from collections.abc import Callable

PUBLIC = ("jax.nn", "jax.numpy", "jax.lax")  # functions found here have a private __module__


def function_name(function: Callable) -> tuple[str, str]:
    """A function or class -> (module, name) under which it is imported, preferring JAX's public modules."""
    name = getattr(function, "__qualname__", getattr(function, "__name__", None))
    for module in PUBLIC:
        if name and getattr(importlib.import_module(module), name, None) is function:
            return module, name
    return getattr(function, "__module__", type(function).__module__), name or repr(function)


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
