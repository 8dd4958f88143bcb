"""Flax modules, Linen or NNX, as jann models."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model, Param
from jann.drawing import fold
from jann.trees import flatten, path_name

Arguments = tuple[tuple[str, Any], ...]


def from_flax(
    module: Any, *examples: Any, training: Mapping[str, Any] | None = None, inference: Mapping[str, Any] | None = None
) -> Model:
    """A Flax module as a jann model.

    module:     an instance of a Linen module, or a function `rngs -> nnx.Module`
    examples:   arrays of the shapes and dtypes of the inputs; Linen needs them to know its parameters' shapes
    training:   keyword arguments of the module's call when there is a key, e.g. dict(train=True)
    inference:  those when there is none, e.g. dict(train=False)

    The parameters are Flax's "params" (NNX: all `nnx.Param`). Other collections (batch statistics, caches) are the
    state: `model.state(key)` is the one to begin with, `model.apply` takes it and returns the next. Their averages are
    kept by Flax, with its momentum. With a key an NNX module is in its training mode, without one in evaluation mode.

    Axes are called axis0, axis1, ...; an array of two or more of them that is no embedding is taken for a kernel which
    contracts all but its last, so that `decay_mask` finds it.
    """
    import flax.linen

    shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(example), jnp.result_type(example)) for example in examples)
    kind = FromLinen if isinstance(module, flax.linen.Module) else FromNNX
    return kind(module, shapes, tuple((training or {}).items()), tuple((inference or {}).items()))


class FromFlax(Model):
    """What `FromLinen` and `FromNNX` share; made by `from_flax`."""

    module: Any
    examples: tuple[jax.ShapeDtypeStruct, ...] = ()
    training: Arguments = ()
    inference: Arguments = ()

    def spec(self):
        """What Flax declares; each Param draws what Flax's own initialiser does."""

        def declared(path, leaf):
            def draw(key, shape, dtype):
                return flatten(self.init(key))[path_name(path)].astype(dtype)

            axes = {f"axis{i}": size for i, size in enumerate(leaf.shape)}
            kernel = leaf.ndim >= 2 and "embedding" not in path_name(path)
            return Param(axes, draw, into=tuple(axes)[:-1] if kernel else ())

        return jax.tree_util.tree_map_with_path(declared, jax.eval_shape(self.init, jax.random.key(0)))

    def state(self, key: jax.Array) -> Any:
        """key -> the state before the first call, None if the module has none."""
        raise NotImplementedError

    def _arguments(self, key):
        return dict(self.inference if key is None else self.training)

    def _expect_state(self):
        raise ValueError(f"{self.module} has a state: pass state=model.state(key) first, then what apply returned")


class FromLinen(FromFlax):
    """A Linen module; see `from_flax`."""

    def init(self, key):
        return self._variables(key)["params"]

    def state(self, key):
        variables = self._variables(key)
        return {name: value for name, value in variables.items() if name != "params"} or None

    def apply(self, params, *inputs, state=None, key=None):
        """inputs -> (the module's output, its other collections as they are afterwards)"""
        # Flax draws from "params" for every stream of noise that is not given by its own name.
        rngs = None if key is None else {name: fold(key, name) for name in ("params", "dropout")}
        variables = {"params": params, **(state or {})}
        kwargs = self._arguments(key)
        if state is None:
            if jax.eval_shape(self.state, jax.random.key(0)) is not None:
                self._expect_state()
            return self.module.apply(variables, *inputs, rngs=rngs, **kwargs), None
        return self.module.apply(variables, *inputs, rngs=rngs, mutable=list(state), **kwargs)

    def _variables(self, key):
        import flax

        zeros = [jnp.zeros(example.shape, example.dtype) for example in self.examples]
        variables = self.module.init(fold(key, "params"), *zeros, **self._arguments(None))
        return {"params": {}, **flax.core.unfreeze(flax.core.meta.unbox(variables))}


class FromNNX(FromFlax):
    """An NNX module, given by the function that makes it; see `from_flax`."""

    def init(self, key):
        from flax import nnx

        return _nested(nnx.state(self._made(key), nnx.Param))

    def state(self, key):
        return _nested(self._split(self._made(key))[2]) or None

    def apply(self, params, *inputs, state=None, key=None):
        """inputs -> (the module's output, its other variables as they are afterwards)"""
        from flax import nnx

        graph, weights, others, noise = self._split(nnx.eval_shape(lambda: self._made(jax.random.key(0))))
        if jax.tree.leaves(others) and state is None:
            self._expect_state()
        # Streams of noise start anew in every call, each from the call's key and its place in the module.
        start = jax.random.key(0) if key is None else key

        def stream(path, leaf):
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            return fold(start, path_name(path)) if is_key else jnp.zeros(leaf.shape, leaf.dtype)

        noise = jax.tree_util.tree_map_with_path(stream, noise)
        module = nnx.merge(graph, _filled(weights, params), _filled(others, state), noise)
        module.eval() if key is None else module.train()
        output = module(*inputs, **self._arguments(key))
        return output, _nested(self._split(module)[2]) or None

    def _made(self, key):
        from flax import nnx

        return self.module(nnx.Rngs(params=fold(key, "params"), default=fold(key, "default")))

    def _split(self, module):
        from flax import nnx

        graph, weights, noise, others = nnx.split(module, nnx.Param, nnx.RngState, ...)
        return graph, weights, others, noise


def _nested(state: Any) -> dict:
    """An NNX state -> nested dicts of arrays with names as keys, also for the numbers in NNX's lists."""
    nested: dict = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        *above, last = _names(path)
        node = nested
        for name in above:
            node = node.setdefault(name, {})
        node[last] = leaf
    return nested


def _filled(state: Any, nested: dict | None) -> Any:
    """The NNX state with its leaves taken from `_nested(state)`."""

    def leaf(path, _):
        node = nested
        for name in _names(path):
            node = node[name]
        return node

    return jax.tree_util.tree_map_with_path(leaf, state)


def _names(path):
    """The last step of an NNX path leads from a variable to its value."""
    return path_name(path[:-1]).split("/")
