"""Flax modules, Linen or NNX, as jann models."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey

from jann.core import Model, Param, as_spec
from jann.depth import tap
from jann.drawing import checked_key, fold
from jann.trees import combine, flatten, path_name, unflatten

Arguments = tuple[tuple[str, Any], ...]


def from_flax(
    module: Any, *examples: Any, training: Mapping[str, Any] | None = None, inference: Mapping[str, Any] | None = None
) -> Model:
    """A Flax module as a jann model.

    module:     an instance of a Linen module, or a function `rngs -> nnx.Module`
    examples:   arrays of the shapes and dtypes of the inputs; Linen needs them to know its parameters' shapes
    training:   keyword arguments of the module's call when there is a key, e.g. dict(train=True)
    inference:  those when there is none, e.g. dict(train=False)

    What Flax calls "params" (NNX: all `nnx.Param`) is trained. Other collections (batch statistics, caches; NNX: other
    variables) are among the parameters, but not trained: Linen's under the collection's name, "batch_stats/...", NNX's
    where the module has them. `jann.start`, `jann.objective` and `jann.eval_params` carry them as all running
    statistics, only that Flax keeps the averages, with its momentum. In a loss of one's own that is

        outputs, state = model.apply(params, x, state=extra["statistics"].value, key=key)
        return loss_of(outputs), ({}, jann.training.update_statistics(extra, state, momentum=0))

    and in a loop of one's own `model.state(key)` is the state to begin with, `model.apply` returns the next.

    What a module sows (without a `reduce_fn`) is tapped, as "losses/aux" (NNX: "block/aux"), and no state:
    `jann.observe` reads it, `jann.training.penalised` adds it to a loss. With a key an NNX module is in its training
    mode, without one in evaluation mode. `jann.save` writes NNX models, given by a function that can be imported, but
    no Linen modules.

    Axes are called axis0, axis1, ...; an array of two or more of them that is no embedding is taken for a kernel which
    contracts all but its last, so that `decay_mask` finds it.
    """
    import flax.linen

    shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(example), jnp.result_type(example)) for example in examples)
    arguments = tuple((training or {}).items()), tuple((inference or {}).items())
    if isinstance(module, flax.linen.Module):
        return FromLinen(module, shapes, *arguments)
    return FromNNX(module, (), *arguments)


class FromFlax(Model):
    """What `FromLinen` and `FromNNX` share; made by `from_flax`."""

    module: Any
    examples: tuple[jax.ShapeDtypeStruct, ...] = ()
    training: Arguments = ()
    inference: Arguments = ()

    def spec(self):
        """What Flax declares; each Param draws what Flax's own initialiser does."""
        params, state = jax.eval_shape(self._start, jax.random.key(0))
        carried = flatten(state)

        def declared(path, leaf):
            name = path_name(path)

            def draw(key, shape, dtype):
                return flatten(self.init(key))[name]

            axes = {f"axis{i}": size for i, size in enumerate(leaf.shape)}
            if name in carried:
                return Param(axes, draw, trained=False, carried=True)
            return Param(axes, draw, into=tuple(axes)[:-1] if leaf.ndim >= 2 and "embedding" not in name else ())

        return jax.tree_util.tree_map_with_path(declared, self._joined(params, state))

    def init(self, key):
        return self._joined(*self._start(checked_key(key)))

    def state(self, key: jax.Array) -> Any:
        """key -> what is not trained, before the first call; None if there is none."""
        return self._start(checked_key(key))[1] or None

    def _start(self, key):
        """key -> what is trained, and what is not"""
        raise NotImplementedError

    def _joined(self, params, state):
        return combine(params, state)

    def _arguments(self, key):
        return dict(self.inference if key is None else self.training)

    def _whole(self, params, state):
        """The parameters with what is not trained, which the state has if it is given. Raises ValueError without it."""
        whole = self._joined(params, state or {})
        if missing := flatten(as_spec(self)).keys() - flatten(whole).keys():
            raise ValueError(
                f"{self.module} has a state, and {', '.join(sorted(missing))} is missing: pass state=model.state(key) "
                "first, then what apply returned; or parameters with it (jann.eval_params(train_state))"
            )
        return whole


class FromLinen(FromFlax):
    """A Linen module; see `from_flax`."""

    def apply(self, params, *inputs, state=None, key=None):
        """inputs -> (the module's output, its other collections as they are afterwards)"""
        from flax.core import DenyList

        # Flax draws from "params" for every stream of noise that is not given by its own name.
        rngs = None if key is None else {name: fold(key, name) for name in ("params", "dropout")}
        whole, spec = self._whole(params, state), as_spec(self)
        kept = [name for name in spec if any(param.carried for param in flatten(spec[name]).values())]
        variables = {"params": {name: below for name, below in whole.items() if name not in kept}}
        variables |= {name: whole[name] for name in kept}
        mutable = DenyList("params")
        output, after = self.module.apply(variables, *inputs, rngs=rngs, mutable=mutable, **self._arguments(key))
        for path, value in flatten({name: below for name, below in after.items() if name not in kept}).items():
            tap(path.removesuffix("/0"), value)
        return output, {name: after[name] for name in kept} or None

    def _start(self, key):
        import flax

        zeros = [jnp.zeros(example.shape, example.dtype) for example in self.examples]
        variables = self.module.init(fold(key, "params"), *zeros, **self._arguments(None))
        variables = flax.core.unfreeze(flax.core.meta.unbox(variables))
        params = variables.pop("params", {})
        return params, {name: below for name, below in variables.items() if not _is_sown(below)}


def _is_sown(collection: Any) -> bool:
    """`sow` puts what it is given into tuples, which would grow if they were given to the next call."""
    leaves = jax.tree.leaves(collection, is_leaf=lambda node: isinstance(node, tuple))
    return any(isinstance(leaf, tuple) for leaf in leaves)


class FromNNX(FromFlax):
    """An NNX module, given by the function that makes it; see `from_flax`."""

    def apply(self, params, *inputs, state=None, key=None):
        """inputs -> (the module's output, its other variables as they are afterwards)"""
        from flax import nnx

        whole = flatten(self._whole(params, state))
        graph, weights, others, noise = self._split(nnx.eval_shape(lambda: self._made(jax.random.key(0))))
        # Streams of noise start anew in every call, each from the call's key and its place in the module.
        start = jax.random.key(0) if key is None else key

        def stream(path, leaf):
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            return fold(start, path_name(path)) if is_key else jnp.zeros(leaf.shape, leaf.dtype)

        def filled(path, _):
            return whole[_name(path)]

        noise = jax.tree_util.tree_map_with_path(stream, noise)
        weights, others = (jax.tree_util.tree_map_with_path(filled, part) for part in (weights, others))
        module = nnx.merge(graph, weights, others, noise)
        module.eval() if key is None else module.train()
        output = module(*inputs, **self._arguments(key))
        after = _named(self._split(module)[2])
        for path in after:
            if path not in whole:
                tap(path.removesuffix("/0"), after[path])
        return output, unflatten({path: value for path, value in after.items() if path in whole}) or None

    def _start(self, key):
        _, weights, others, _ = self._split(self._made(key))
        return unflatten(_named(weights)), unflatten(_named(others))

    def _joined(self, params, state):
        return unflatten(flatten(params) | flatten(state))  # where some of a list's parts have a state, it is no list

    def _made(self, key):
        from flax import nnx

        return self.module(nnx.Rngs(params=fold(key, "params"), default=fold(key, "default")))

    def _split(self, module):
        from flax import nnx

        graph, weights, noise, others = nnx.split(module, nnx.Param, nnx.RngState, ...)
        return graph, weights, others, noise


def _named(state: Any) -> dict[str, Any]:
    """An NNX state -> {"layers/0/kernel": array, ...}"""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]}


def _name(path):
    """Where an array is, without the step from a variable to its value."""
    return path_name(tuple(step for step in path if not isinstance(step, GetAttrKey)))
