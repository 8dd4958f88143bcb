"""The whole state of a run is one value, and training is a function from it to itself."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from jann.core import Model, split
from jann.data.batches import shared_length
from jann.drawing import checked_key
from jann.functions import function_name
from jann.layers.dtypes import wide_dtype
from jann.trees import Tree, combine, copied, flatten, path_name

Batch = Any
Loss = Callable[..., tuple[jax.Array, tuple[dict, Any]]]
Step = Callable[["TrainState", Batch], tuple["TrainState", dict]]


@partial(jax.tree_util.register_dataclass, data_fields=["step", "key", "params", "opt_state", "extra"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything a run is: a pytree that can be saved, sharded, stacked and scanned.

    step:       how many steps were taken, int32
    key:        the run's random key; the step's own key is folded from it and `step`
    params:     what is trained
    opt_state:  the state of the Optax transformation
    extra:      whatever else rides along: running averages, a carry, an environment; its structure never changes
    """

    step: jax.Array
    key: jax.Array
    params: Tree
    opt_state: Any
    extra: Any = None

    @classmethod
    def start(
        cls, key: jax.Array, params: Tree, optimizer: optax.GradientTransformation, extra: Any = None
    ) -> TrainState:
        """The state before the first step."""
        checked_key(key)
        leaves = jax.tree.leaves(params)
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        # As one program; but where parameters are bound to devices, Optax says where each array goes.
        free = not traced and not any(getattr(leaf, "committed", True) for leaf in leaves)
        opt_state = (jax.jit(optimizer.init) if free else optimizer.init)(params)
        return cls(jnp.zeros((), jnp.int32), key, params, opt_state, extra)

    def replace(self, **changes: Any) -> TrainState:
        return dataclasses.replace(self, **changes)


class Average(NamedTuple):
    """A running average that is right from the first value on."""

    value: Tree
    count: jax.Array


def start_average(tree: Tree) -> Average:
    """An average of nothing yet: the first update replaces `tree`. In float32 at least, as small moves need it."""

    def wide(leaf):
        inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return leaf.astype(wide_dtype(leaf)) if inexact else leaf

    return Average(jax.tree.map(wide, copied(tree)), jnp.zeros((), jnp.int32))


def update_average(average: Average, new: Tree, decay: float | jax.Array) -> Average:
    """a += (new - a) max(1 - decay, 1 / (count + 1)): the plain mean at first, exponential later."""
    rate = jnp.maximum(1 - decay, 1 / (average.count + 1))
    value = jax.tree.map(lambda a, b: a + (b - a) * rate.astype(a.dtype), average.value, new)
    return Average(value, average.count + 1)


def start(
    model: Model, optimizer: optax.GradientTransformation, key: jax.Array, average_weights: bool = False
) -> TrainState:
    """A fresh run of `model`: its parameters drawn, running statistics (batch norm) and weight average in `extra`.

    `extra` is a dict with "statistics" if the model has any, and "average" if asked for; see `make_step(average=...)`.

    Raises TypeError for what is no model, optimiser or key.
    """
    refuse_no_model(model)
    refuse_no_optimizer(optimizer)
    params, statistics = split(model, model.init(checked_key(key)))
    extra = {}
    if flatten(statistics):
        extra["statistics"] = start_average(statistics)
    if average_weights:
        extra["average"] = start_average(params)
    return TrainState.start(jax.random.fold_in(key, np.uint32(0)), params, optimizer, extra)


def eval_params(train_state: TrainState) -> Tree:
    """What to evaluate and save: the parameters (their average, if one is kept) with the running statistics."""
    extra = train_state.extra if isinstance(train_state.extra, dict) else {}
    for name, mend in (
        ("statistics", "its loss returned extra as it came: see jann.training.update_statistics"),
        ("average", "its step was made without average=..."),
    ):
        kept = extra.get(name)
        if isinstance(kept, Average) and _never_updated(kept.count, train_state.step):
            warnings.warn(f"the {name} of this train state never changed since the start: {mend}", stacklevel=2)
    params = extra["average"].value if "average" in extra else train_state.params
    if jax.tree.structure(params) == jax.tree.structure(train_state.params):  # not where a part alone is averaged
        params = jax.tree.map(lambda mean, own: mean.astype(own.dtype), params, train_state.params)
    return combine(params, extra["statistics"].value) if "statistics" in extra else params


def _never_updated(count: jax.Array, step: jax.Array) -> bool:
    if any(isinstance(value, jax.core.Tracer) or not value.is_fully_addressable for value in (count, step)):
        return False  # not to be known here
    return bool((np.asarray(count) == 0).any() and (np.asarray(step) > 0).any())


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    average: float | jax.Array | None = None,
    dtype: Any = None,
    norms: bool = False,
) -> Step:
    """Builds `step(train_state, batch) -> (train_state, metrics)` from a loss and any Optax transformation.

    loss:        `loss(params, batch, key, extra=None) -> (scalar, (metrics, extra))`; one with arrays of its own,
                 such as `jann.adapt.frozen` makes, is a `jax.tree_util.Partial`, and then so is the step
    optimizer:   clipping, schedules, masks and the like are Optax's: `optax.chain(optax.clip_by_global_norm(1.), ...)`.
                 A learning rate set through `optax.inject_hyperparams` appears among the metrics. Those that look
                 further are told value, grad and value_fn (L-BFGS, plateaus), or grad_fn (SAM, with opaque_mode=True).
                 Not `optax.lookahead`, whose parameters are pairs: `average` is a mean of weights too
    accumulate:  the batch is taken in so many equal parts, whose gradients are averaged: the same step in less memory.
                 A part counts as much as what its loss is the mean of, where the loss says it, as those of criteria
                 with weights do: metrics["loss_weight"], a number for all metrics or {"loss": ..., name: ...}, where
                 what is not named counts each part alike; it is not among the step's.
                 (With batch norm each part has its own statistics, so the averaged variances are slightly low.)
    average:     decay of a running average of the weights, kept in `train_state.extra["average"]` (`start_average`)
    dtype:       compute the loss in this precision, e.g. jnp.bfloat16: parameters and the batch are cast, but for what
                 it holds as "target" and "weight"; master weights and their update stay as they are
    norms:       also report the global norms of gradient and update

    The loss's key is folded from the run's key and the step. Raises ValueError when `accumulate` does not divide the
    batch, or `average` and `extra` do not agree; TypeError for a loss or an optimiser that is none.
    """
    if accumulate < 1:
        raise ValueError(f"accumulate={accumulate}: a batch has at least one part")
    if isinstance(loss, Model):
        raise TypeError(f"{type(loss).__name__} is a model: jann.objective(model) makes a loss of it")
    refuse_no_optimizer(optimizer)
    refuse(loss, 4, "loss", "(params, batch, key, extra=None)", "jann.objective(model, criterion) makes one")
    if isinstance(loss, Partial):  # its arrays become arguments of the compiled program, not constants in it
        options = {"accumulate": accumulate, "average": average, "dtype": dtype, "norms": norms}

        def step_with(loss, train_state, batch):
            return make_step(loss.__call__, optimizer, **options)(train_state, batch)

        return Partial(step_with, loss)
    if isinstance(optimizer, optax.GradientTransformation):  # MultiSteps is none, and hands on what it is told
        optimizer = optax.with_extra_args_support(optimizer)

    def cast(tree):
        def leaf(x):
            return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

        return tree if dtype is None else jax.tree.map(leaf, tree)

    def cast_batch(batch):
        exact = {"target", "weight"} & batch.keys() if isinstance(batch, dict) else ()
        return {**cast(batch), **{name: batch[name] for name in exact}} if exact else cast(batch)

    def run_loss(params, batch, key, extra):
        match loss(cast(params), cast_batch(batch), key, extra):
            case (value, (metrics, extra)) if jnp.ndim(value) == 0 and isinstance(metrics, dict):
                return value.astype(wide_dtype(value)), (metrics, extra)
            case other:
                got = jax.tree.map(jnp.shape, other)
                raise TypeError(f"a loss returns (scalar, (dict of metrics, extra)), got arrays of shapes {got!r:.200}")

    def gradients(params, batch, key, extra):
        (value, (metrics, extra)), grads = jax.value_and_grad(run_loss, has_aux=True)(params, batch, key, extra)
        return {"loss": value, **metrics}, grads, extra

    def accumulated(params, batch, key, extra):
        examples = shared_length(batch)
        if examples % accumulate:
            raise ValueError(f"accumulate={accumulate} does not divide the batch of {examples}")
        parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)

        def add(carry, numbered):
            total, extra = carry
            i, part = numbered
            metrics, grads, extra = gradients(params, part, jax.random.fold_in(key, i), extra)
            given = metrics.pop("loss_weight", jnp.ones(()))
            weights = given if isinstance(given, dict) else dict.fromkeys(metrics, given)
            weight = weights["loss"]
            total = jax.tree.map(lambda sum, grad: sum + weight.astype(grad.dtype) * grad, total, grads)
            return (total, extra), (metrics, {name: weights.get(name, jnp.ones(())) for name in metrics})

        zeros = jax.tree.map(jnp.zeros_like, params)
        (sums, extra), (metrics, weights) = jax.lax.scan(add, (zeros, extra), (jnp.arange(accumulate), parts))
        totals = {name: jnp.where(each.sum() > 0, each.sum(), 1) for name, each in weights.items()}

        def mean(name):
            shares = weights[name] / totals[name]
            return jax.tree.map(lambda values: jax.vmap(jnp.multiply)(shares, values).sum(0), metrics[name])

        grads = jax.tree.map(lambda sum: sum / totals["loss"].astype(sum.dtype), sums)
        return {name: mean(name) for name in metrics}, grads, extra

    def step(train_state, batch):
        key = jax.random.fold_in(train_state.key, train_state.step)
        extra, weights = train_state.extra, None
        averaged = isinstance(extra, dict) and "average" in extra
        if averaged and average is None and isinstance(extra["average"], Average):
            raise ValueError(
                "the train state keeps an average of the weights, and this step would leave it as it is: give "
                "make_step(average=0.999), or a state without (jann.start(average_weights=False))"
            )
        if average is not None:
            if not averaged:
                raise ValueError('average=... needs extra={"average": jann.start_average(params)} in the train state')
            weights = extra["average"]
            extra = {name: value for name, value in extra.items() if name != "average"}
        compute, extra_before = gradients if accumulate == 1 else accumulated, extra
        metrics, grads, extra = compute(train_state.params, batch, key, extra)
        metrics.pop("loss_weight", None)

        def value(params):
            return run_loss(params, batch, key, train_state.extra)[0]

        def gradient(params, _=None):
            return compute(params, batch, key, extra_before)[1]

        update = partial(optimizer.update, grads, train_state.opt_state, train_state.params)
        try:
            updates, opt_state = updated(
                update, {"value": metrics["loss"], "grad": grads, "value_fn": value}, gradient
            )
        except (AttributeError, TypeError, ValueError) as error:
            wanted = jax.eval_shape(optimizer.init, train_state.params)
            if jax.tree.structure(wanted) != jax.tree.structure(train_state.opt_state):
                error.add_note("the train state was started with another optimiser than the step's")
            if isinstance(train_state.params, optax.LookaheadParams):
                error.add_note("optax.lookahead keeps pairs of parameters: make_step(average=...) keeps a mean of them")
            raise
        params = optax.apply_updates(train_state.params, updates)
        if average is not None:
            extra = {**extra, "average": update_average(weights, params, average)}
        metrics = {**_learning_rates(opt_state), **metrics}
        if norms:
            metrics = {**metrics, "gradient_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
        return TrainState(train_state.step + 1, train_state.key, params, opt_state, extra), metrics

    return step


def updated(update: Callable, usual: dict[str, Any], gradient: Callable) -> tuple[Tree, Any]:
    """What a transformation's update gives when it is told the usual names; or `grad_fn` alone, where it refuses them

    By Optax's protocol all take any name. But SAM refuses all except `grad_fn`, and a line search refuses that one.
    """
    try:
        return update(**usual)
    except (TypeError, ValueError) as error:
        try:
            return update(grad_fn=gradient)
        except (AttributeError, TypeError, ValueError):
            raise error from None


def _learning_rates(opt_state: Any) -> dict[str, jax.Array]:
    """Those that `optax.inject_hyperparams` keeps: "learning_rate", or where there are several, each with its place"""
    found = [(path_name(path), rate) for path, rate in optax.tree.get_all_with_path(opt_state, "learning_rate")]
    rates = [(path.split("/")[:-2], rate) for path, rate in found if path.endswith("hyperparams/learning_rate")]
    if not rates:
        return {}
    same = [len(set(parts)) == 1 for parts in zip(*(path for path, _ in rates), strict=False)]
    return {
        "/".join(["learning_rate", *(part for part, alike in zip(path, same, strict=False) if not alike)]): rate
        for path, rate in rates
    }


def refuse_no_model(model: Any) -> None:
    if isinstance(model, type):
        raise TypeError(f"{model.__name__} is a class: give a model of it, {model.__name__}(...)")
    if not isinstance(model, Model):
        raise TypeError(f"a model is wanted, got {type(model).__name__}: jann.Model says how to write one")


def refuse_no_optimizer(optimizer: Any) -> None:
    if not hasattr(optimizer, "update"):
        kind = type(optimizer).__name__
        raise TypeError(f"an optimiser is wanted, got {kind}: give one of Optax, such as optax.adam(1e-3)")


def refuse(function: Any, inputs: int, what: str, takes: str, mend: str) -> None:
    """Raises TypeError where `function` cannot be called with so many inputs."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # what does not show its signature may still do
        return
    except TypeError:
        raise TypeError(f"a {what} is a function {takes}, got {type(function).__name__}: {mend}") from None
    try:
        signature.bind(*[None] * inputs)
    except TypeError:
        name = function_name(function)[1]
        raise TypeError(f"a {what} takes {takes}, and {name} takes {signature}: {mend}") from None
