"""A criterion says what is wanted of a model's output; the training loss and exact evaluation both follow from it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import tree_map_with_path

from jann.core import Model, as_spec, in_form_of, running
from jann.data.batches import shared_length
from jann.depth import observe
from jann.functions import remembered
from jann.layers.dtypes import wide_dtype, wide_integers
from jann.losses import counted
from jann.training.state import Loss, refuse_no_model, update_average
from jann.trees import Tree, combine, flatten, partition, path_name

Criterion = Callable[[Any, dict], dict[str, Any]]
Inputs = str | tuple[str | None, ...]


def classification(logits: jax.Array, batch: dict) -> dict[str, jax.Array]:
    """logits[batch, classes], batch["label"][batch] -> loss (cross-entropy in nats) and accuracy of each, [batch]

    The loss of a label that is no class, also of a negative one, is NaN.
    """
    logits, label = logits.astype(wide_dtype(logits)), labels_for(logits, batch)
    label = _from_zero(label, logits)
    return {
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, label),
        "accuracy": is_highest(logits, label).astype(logits.dtype),
    }


def labels_for(logits: jax.Array, batch: dict) -> jax.Array:
    """batch["label"], one for each row of logits[..., classes]; otherwise TypeError or ValueError says what it is."""
    label = batch["label"]
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise TypeError(f"label is {label.dtype}: it counts classes from 0, so give integers")
    if label.shape != logits.shape[:-1]:
        raise ValueError(f"label {list(label.shape)} for logits {list(logits.shape)}: {list(logits.shape[:-1])} wanted")
    return label


def _from_zero(label: jax.Array, logits: jax.Array) -> jax.Array:
    """Negative labels, which would count from the end, made as unknown as those beyond the last."""
    return jnp.where(label < 0, logits.shape[-1], wide_integers(label))


def regression(outputs: jax.Array, batch: dict) -> dict[str, jax.Array]:
    """outputs[batch, ...], batch["target"] of the same shape -> loss (mean squared error) of each example [batch]"""
    if outputs.shape != batch["target"].shape:
        raise ValueError(f"outputs {list(outputs.shape)} and target {list(batch['target'].shape)} differ in shape")
    outputs, target = (x.astype(wide_dtype(x)) for x in (outputs, batch["target"]))
    return {"loss": jax.lax.collapse(jnp.square(outputs - target), 1).mean(-1)}


def language(logits: jax.Array, batch: dict) -> dict[str, tuple[jax.Array, jax.Array]]:
    """logits[batch, time, vocab], batch["label"][batch, time] -> loss (nats a token) and accuracy, each (sums, weights)

    batch["weight"][batch, time], where there is one, says what each token counts: 0 for padding, for a prompt, for
    words that were not masked. A negative label counts 0 too, as PyTorch's -100. Each value is a pair of [batch], so
    that means are over tokens, not over rows.
    """
    logits = logits.astype(wide_dtype(logits))
    logits, label, weight = counted(logits, labels_for(logits, batch), batch.get("weight"))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    right = jnp.where(is_highest(logits, label), weight, 0)
    return {"loss": ((losses * weight).sum(-1), weight.sum(-1)), "accuracy": (right.sum(-1), weight.sum(-1))}


def span(logits: jax.Array, batch: dict) -> dict[str, jax.Array]:
    """logits[batch, time, 2] of where an answer begins and where it ends -> loss and accuracy of each, [batch]

    batch["begin"], batch["end"][batch]: its first and its last token. The loss is the mean of both cross-entropies in
    nats, as of BERT on SQuAD; right is an answer with both ends right. Where there is batch["allowed"][batch, time],
    only those tokens can be an end. Loss infinite where an end itself is not allowed.
    """
    logits = logits.astype(wide_dtype(logits))
    if "allowed" in batch:
        logits = jnp.where(batch["allowed"][..., None], logits, -jnp.inf)
    logits, ends = logits.swapaxes(-1, -2), jnp.stack([batch["begin"], batch["end"]], -1)
    ends = _from_zero(ends, logits)
    return {
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, ends).mean(-1),
        "accuracy": is_highest(logits, ends).all(-1).astype(logits.dtype),
    }


def is_highest(logits: jax.Array, label: jax.Array) -> jax.Array:
    """logits[..., classes], label[...] -> logits.argmax(-1) == label, by comparisons alone

    For vocabularies XLA's argmax on a CPU takes some nine times as long (113 and 12 ms for 2,560 × 6,000).
    """
    label = label[..., None].astype(jnp.int32)
    own = jnp.take_along_axis(logits, label, -1)
    earlier = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) < label
    return ~(~(logits <= own) | ((logits == own) & earlier)).any(-1)  # so that NaN is above all, as in argmax


@remembered
def objective(
    model: Model,
    criterion: Criterion = classification,
    inputs: Inputs = "image",
    momentum: float = 0.9,
) -> Loss:
    """The loss of `make_step`: the mean of `criterion(model's outputs, batch)["loss"]`, all its values as metrics.

    inputs:    the name of the batch's entry that the model takes; several where it takes more, ("frames", "length");
               None among them is passed as it is
    momentum:  decay of the running statistics (batch norm), which ride in `extra["statistics"]` (see `start`)

    Raises TypeError for what is no model, ValueError where running statistics are among what is differentiated.
    """

    refuse_no_model(model)

    def loss(params, batch, key, extra=None):
        carried = _carried(model, params)
        params = _not_differentiated(params, running(model, params))
        if carried and isinstance(extra, dict) and "statistics" in extra:
            params = combine(params, partition(extra["statistics"].value, lambda path, _: path in carried)[0])
        outputs, statistics = model.apply(params, *entries(batch, inputs), key=key)
        value, metrics = means_of(judged(criterion, outputs, batch))
        return value, (metrics, update_statistics(extra, statistics, momentum, carried))

    return loss


def _carried(model: Model, params: Tree) -> set[str]:
    """Paths of the running statistics that the model moves itself."""
    return {path for path, param in flatten(in_form_of(as_spec(model), params)).items() if param.carried}


def update_statistics(extra: Any, statistics: Tree, momentum: float = 0.9, carried: Collection[str] = ()) -> Any:
    """`extra` with the running averages that `start` put there moved towards a batch's `statistics`: for one's own loss

        outputs, statistics = model.apply(params, x, key=key)
        return loss_of(outputs), ({}, jann.training.update_statistics(extra, statistics))

    statistics:  what the model returned as its state; what is no running statistic in it, such as a carry, is left out
    carried:     paths of those that the model has moved itself: they are kept as they are

    Raises ValueError if one is missing.
    """
    if not isinstance(extra, dict) or "statistics" not in extra:
        return extra
    kept = extra["statistics"]
    new = with_containers(kept.value, statistics)
    (before, old), (own, new) = (partition(tree, lambda path, _: path in carried) for tree in (kept.value, new))
    own = jax.tree.map(lambda now, then: now.astype(then.dtype), own, before)
    average = update_average(kept._replace(value=old), new, momentum)
    return {**extra, "statistics": average._replace(value=combine(average.value, own))}


def _not_differentiated(params: Tree, statistics: set[str]) -> Tree:
    def mark(path, leaf):
        return _left(path_name(path), leaf) if path_name(path) in statistics else leaf

    return tree_map_with_path(mark, params) if statistics else params


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _left(path: str, leaf: jax.Array) -> jax.Array:
    return leaf


@_left.defjvp
def _trained(path, *_):
    raise ValueError(
        f"{path} is a running statistic, which no gradient trains: jann.start(model, optimizer, key) makes a train "
        "state that carries them beside the parameters, jann.split(model, params) takes them apart"
    )


def means_of(values: dict[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What a criterion returned -> (mean loss, means of the rest, and in "loss_weight" what pairs are means over)"""
    if not isinstance(values, Mapping) or "loss" not in values:
        got = ", ".join(map(repr, values)) if isinstance(values, Mapping) else type(values).__name__
        raise ValueError(f'a criterion returns {{"loss": of each example, ...}}, got {got}')
    metrics = {name: mean_of(value) for name, value in values.items() if name != "loss"}
    weights = {name: value[1].sum() for name, value in values.items() if isinstance(value, tuple)}
    if weights:
        metrics["loss_weight"] = {"loss": jnp.ones(()), **weights}
    return mean_of(values["loss"]), metrics


def mean_of(value: jax.Array | tuple[jax.Array, jax.Array]) -> jax.Array:
    """values -> their mean; (sums, weights) -> the mean over what was weighed, 0 where nothing was"""
    if not isinstance(value, tuple):
        return value.mean()
    total = value[1].sum()
    return jnp.where(total > 0, value[0].sum() / jnp.where(total > 0, total, 1), 0)


def judged(criterion: Criterion, outputs: Any, batch: dict) -> dict[str, Any]:
    """criterion(outputs, batch); a KeyError of it says what the batch holds"""
    try:
        return criterion(outputs, batch)
    except KeyError as error:
        error.add_note(f"{getattr(criterion, '__name__', criterion)} reads it from the batch, {_held(batch)}")
        raise


def entries(batch: dict, inputs: Inputs) -> list:
    """The batch's entries of these names; None of None. Raises KeyError that says what there is."""
    if not isinstance(batch, Mapping):
        raise TypeError(f'a batch is a dict of arrays, such as {{"image": x, "label": y}}; got {type(batch).__name__}')
    names = (inputs,) if isinstance(inputs, str) else inputs
    for name in names:
        if name is not None and name not in batch:
            raise KeyError(f"the model's input {name!r} is not in the batch, {_held(batch)}: give inputs=... its name")
    return [None if name is None else batch[name] for name in names]


def _held(batch: Any) -> str:
    return f"which holds {', '.join(map(repr, batch)) or 'nothing'}"


def penalised(loss: Loss, name: str, penalty: Callable[[Any], jax.Array], weight: float | jax.Array) -> Loss:
    """The loss of `make_step`: loss + weight × penalty(the value tapped as `name`), the penalty among the metrics.

    For what is wanted of values inside a model: sparse codes, small activations, balanced experts. Raises KeyError
    naming the taps that were met, if none has this name.
    """

    def with_penalty(params, batch, key, extra=None):
        (value, (metrics, extra)), seen = observe(loss)(params, batch, key, extra)
        if name not in seen:
            raise KeyError(f"no tap is named {name!r}; met were: {', '.join(seen) or 'none'}")
        cost = penalty(seen[name])
        return value + weight * cost, ({**metrics, f"{name}_penalty": cost}, extra)

    return with_penalty


def with_containers(kept: Tree, statistics: Tree) -> Tree:
    """The batch's statistics with the containers of the kept ones, so that a model need not return empty dicts."""
    wanted, got = flatten(kept), flatten(statistics)
    if missing := wanted.keys() - got.keys():
        raise ValueError(
            f"the spec declares running statistics {', '.join(wanted)}; of what the model returned as its state, "
            f"{', '.join(got) or 'nothing'}, {', '.join(sorted(missing))} is missing"
        )
    return tree_map_with_path(lambda path, _: got[path_name(path)], kept)


@remembered
def measure(model: Model, criterion: Criterion = classification, inputs: Inputs = "image") -> Callable:
    """`measure(params, batch) -> values of each example`, for `evaluate`; without a key, so without noise.

    Raises ValueError where `params` lack running statistics: with a batch's own, an answer would hang on its company.
    """

    refuse_no_model(model)

    def values(params, batch):
        if missing := running(model, params) - flatten(params).keys():
            raise ValueError(
                f"running statistics are missing: {', '.join(sorted(missing))}. Of a train state evaluate "
                "jann.eval_params(state), not state.params"
            )
        return judged(criterion, model(params, *entries(batch, inputs)), batch)

    return values


def evaluate(
    measure: Callable[[Tree, Any], dict[str, jax.Array]],
    params: Tree,
    arrays: Any,
    size: int = 500,
    transform: Callable | None = None,
) -> dict[str, jax.Array]:
    """Means over the whole set, exact also where `size` does not divide it: {name: scalar}. May be jitted or vmapped.

    measure:    `measure(params, batch) -> {name: values[size]}`, or `{name: (sums[size], weights[size])}` for a mean
                over something finer than examples, such as tokens
    arrays:     a pytree of arrays [examples, ...]; taken `size` at a time
    transform:  applied to each batch first, as `transform(batch, None)`

    `measure` and `transform` are compiled once each: pass the same function, not a new lambda every time. Raises
    ValueError where arrays differ in length, or a value is not one of each example.
    """
    examples = shared_length(arrays)
    if size < 1:
        raise ValueError(f"size={size}: evaluate takes at least one example at a time")
    size = min(size, examples)
    rounds = -(-examples // size)
    one = functools.partial(_sums, measure, transform, size)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, arrays))):
        totals = jax.lax.map(lambda i: one(params, arrays, i), jnp.arange(rounds))
    else:  # not one loop: XLA makes some convolutions slow there on a CPU, see `chunks`
        arrays = jax.tree.map(jnp.asarray, arrays)
        totals = [one(params, arrays, i) for i in range(rounds)]
        totals = jax.tree.map(lambda *sums: jnp.stack(sums), *totals)
    return {name: value.sum() / weight.sum() for name, (value, weight) in totals.items()}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _sums(measure, transform, size, params, arrays, i):
    """Sum and weight of each value over round i. The last round starts earlier and masks what was seen before."""
    examples = jax.tree.leaves(arrays)[0].shape[0]
    start = jnp.minimum(i * size, examples - size)
    batch = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), arrays)
    batch = batch if transform is None else transform(batch, None)
    fresh = start + jnp.arange(size) >= i * size

    def sums(name, value):
        parts = value if isinstance(value, tuple) else (value,)
        if wrong := [list(jnp.shape(part)) for part in parts if jnp.shape(part) != (size,)]:
            raise ValueError(
                f"measure gives {name!r} as {wrong[0]} of {size} examples: one value of each is wanted, [{size}]; over "
                "other axes take the mean, or give (sums, weights)"
            )
        value, weight = value if isinstance(value, tuple) else (value, jnp.ones_like(value, jnp.float32))
        # sums of bfloat16 would be rounded
        value, weight = (v.astype(wide_dtype(v)) for v in (value, weight))
        return jnp.where(fresh, value, 0).sum(), jnp.where(fresh, weight, 0).sum()

    return {name: sums(name, value) for name, value in measure(params, batch).items()}
