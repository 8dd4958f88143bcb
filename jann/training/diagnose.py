"""Where did the NaN come from?"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jann.depth import observe
from jann.training.state import refuse
from jann.trees import Tree, path_name


class NonFiniteError(FloatingPointError):
    """A loss became NaN or infinite. `step` is the first such step, `train_state` the last good state of the run."""

    def __init__(self, message: str, step: int, train_state: Any):
        super().__init__(message)
        self.step = step
        self.train_state = train_state


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found: names of non-finite arrays, in the order in which they are computed."""

    batch: tuple[str, ...]
    params: tuple[str, ...]
    activations: tuple[str, ...]
    loss: float
    gradients: tuple[str, ...]

    @property
    def origin(self) -> str | None:
        """The first place that is not finite; None if everything is."""
        for kind in ("batch", "params", "activations"):
            for name in getattr(self, kind):
                return f"{kind}: {name}"
        if not jnp.isfinite(self.loss):
            return "the loss itself"
        return f"gradients: {self.gradients[0]}" if self.gradients else None

    def __str__(self):
        if self.origin is None:
            return "everything is finite: batch, parameters, activations, loss and gradients"
        listed = [f"{kind}: {', '.join(v)}" for kind in ("batch", "params", "activations", "gradients")
                  if (v := getattr(self, kind))]  # fmt: skip
        return f"first not finite: {self.origin} (loss {self.loss})\n  " + "\n  ".join(listed)


def diagnose(loss: Any, params: Tree, batch: Any, key: jax.Array | None = None, extra: Any = None) -> Diagnosis:
    """Runs `loss(params, batch, key, extra)` once and says which arrays are not finite, first to last.

    Activations are those that the model taps, so the origin is as precise as its taps; inside `apply_blocks` the layer
    is named too. With `jax_debug_nans` on, JAX itself stops at the operation.
    """
    refuse(loss, 4, "loss", "(params, batch, key, extra)", "jann.objective(model) makes one, not the step of it")
    activations: list[str] = []

    def note(name, finite, *layers):
        if not finite:
            where = ", ".join(str(int(layer)) for layer in layers)
            activations.append(f"{name} of layer {where}" if layers else name)

    def watch(name):
        def edit(value, layer):
            layers = () if layer is None else layer if isinstance(layer, tuple) else (layer,)
            finite = jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(value) if _inexact(leaf)]).all()
            jax.debug.callback(partial(note, name), finite, *layers, ordered=True)
            return value

        return edit

    with jax.debug_nans(False), jax.debug_infs(False):
        names = jax.eval_shape(lambda *inputs: observe(loss)(*inputs)[1], params, batch, key, extra)
        (value, _), _ = observe(loss, {name: watch(name) for name in names})(params, batch, key, extra)
        jax.effects_barrier()
        grads = jax.grad(lambda p: loss(p, batch, key, extra)[0])(params)
        return Diagnosis(_bad(batch), _bad(params), tuple(activations), float(value), _bad(grads))


def _inexact(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _bad(tree: Any) -> tuple[str, ...]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    bad = [path for path, leaf in leaves if _inexact(leaf) and not jnp.isfinite(leaf).all()]
    return tuple(path_name(path) or "value" for path in bad)
