"""Losses that Optax does not have."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jann.layers.dtypes import wide_dtype
from jann.layers.experts import routed


def quantile_loss(outputs: jax.Array, target: jax.Array, quantiles: Sequence[float]) -> jax.Array:
    """outputs[..., quantiles], target[...] -> max(q e, (q - 1) e) with e = target - output, each [..., quantiles]

    The pinball loss: its expectation is least where the output is the target's quantile q (Koenker and Bassett 1978).
    Half the absolute error for q = 0.5.
    """
    if outputs.shape != (*target.shape, len(quantiles)):
        raise ValueError(
            f"outputs {list(outputs.shape)} must be those of target {list(target.shape)} and {len(quantiles)} quantiles"
        )
    levels = np.asarray(quantiles, np.float64)
    if not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"quantiles={tuple(quantiles)} must lie between 0 and 1")
    outputs, target = (x.astype(wide_dtype(x)) for x in (outputs, target))
    error = target[..., None] - outputs
    levels = jax.lax.broadcast_to_rank(jnp.asarray(levels, error.dtype), error.ndim)
    return jnp.maximum(levels * error, (levels - 1) * error)


def expert_balance(logits: jax.Array, chosen: int, there: jax.Array | None = None) -> jax.Array:
    """logits[layers, ..., experts] of routers -> how unequally they use their experts, the mean over layers

    Experts times the sum over them of (mean number of tokens' choices that fall on it) × (its mean probability): eq. 4
    of Fedus et al. 2021, Switch Transformers, arXiv:2101.03961, for any number `chosen`, as Mixtral has it. It is
    `chosen` where tokens spread evenly, up to experts where all go to the same. Only the probability has a gradient.

    there:  [...], of which tokens: False or 0 for padding

        loss = jann.penalised(loss, "router", partial(jann.losses.expert_balance, chosen=2), 0.02)
    """
    experts = logits.shape[-1]
    probabilities = jax.nn.softmax(logits.astype(wide_dtype(logits)), -1)
    indices = routed(logits, chosen)[0]
    choices = jax.nn.one_hot(indices, experts, dtype=probabilities.dtype).sum(-2)
    tokens = tuple(range(1, logits.ndim - 1))
    weight = None if there is None else jnp.broadcast_to(there, logits.shape[:-1])[..., None] != 0
    fraction, mean = (jnp.mean(x, tokens, where=weight) for x in (choices, probabilities))
    return experts * (fraction * mean).sum(-1).mean()


def sequence_log_probabilities(logits: jax.Array, labels: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """logits[..., time, vocab] of labels[..., time] -> log p of each whole sequence, [...], in nats

    weight:  [..., time], what each token counts: 0 for a prompt and for padding; a negative label counts 0 too
    """
    logits = logits.astype(wide_dtype(logits))
    logits, labels, weight = counted(logits, labels, weight)
    return -(optax.softmax_cross_entropy_with_integer_labels(logits, labels) * weight).sum(-1)


def counted(
    logits: jax.Array, labels: jax.Array, weight: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """logits[..., vocab], labels and weight[...], by default 1 -> the same; a negative label (PyTorch's -100) weighs 0

    What weighs 0 may have any label and any logits, even NaN: both are 0 here, so that neither loss nor gradient sees
    them.
    """
    weight = jnp.ones(labels.shape, logits.dtype) if weight is None else weight.astype(logits.dtype)
    weight = jnp.where(labels < 0, 0, weight)
    counts = weight != 0
    return jnp.where(counts[..., None], logits, 0), jnp.where(counts, labels, 0), weight


def ctc_loss(logits: jax.Array, labels: jax.Array, lengths: jax.Array | None = None, blank: int = 0) -> jax.Array:
    """logits[..., time, vocab], labels[..., n] -> -log p of all ways to say the labels in that time, [...], in nats

    lengths:  [...], how many of the logits are there, by default all; `Wav2Vec2.frames` tells it of samples
    blank:    what stands between letters and where nothing is said; it and negative labels are padding of the labels

    Some 100,000 where there is no way: there must be as many logits as labels, and one more between two that are equal.
    optax.ctc_loss (Graves et al. 2006, ICML) with any leading axes. Raises ValueError where shapes do not fit.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels, jnp.int32)
    lead = logits.shape[:-2]
    if logits.ndim < 2 or labels.shape[:-1] != lead or (lengths is not None and jnp.shape(lengths) != lead):
        given = "" if lengths is None else f" and lengths {list(jnp.shape(lengths))}"
        raise ValueError(
            f"logits {list(logits.shape)}, labels {list(labels.shape)}{given}: [..., time, vocab], [..., n] and [...] "
            "with the same leading axes wanted"
        )
    rows = math.prod(lead)
    logits = logits.astype(wide_dtype(logits)).reshape(rows, *logits.shape[-2:])
    labels = labels.reshape(rows, labels.shape[-1])
    there = (labels >= 0) & (labels != blank)
    order = jnp.argsort(~there, axis=-1, stable=True)  # Optax wants padding behind the labels
    labels, there = (jnp.take_along_axis(x, order, -1) for x in (jnp.where(there, labels, blank), there))
    lengths = jnp.full(lead, logits.shape[1]) if lengths is None else jnp.asarray(lengths, jnp.int32)
    ended = jnp.arange(logits.shape[1])[None] >= lengths.reshape(rows, 1)
    ended, absent = ended.astype(logits.dtype), (~there).astype(logits.dtype)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # which Optax relies on
        return optax.ctc_loss(logits, ended, labels, absent, blank_id=blank).reshape(lead)


def preference_loss(
    policy_chosen: jax.Array,
    policy_rejected: jax.Array,
    reference_chosen: jax.Array,
    reference_rejected: jax.Array,
    beta: float | jax.Array = 0.1,
) -> dict[str, jax.Array]:
    """log p of the answers that people chose and rejected, each [...] -> loss, accuracy and rewards of each pair, [...]

        loss = -log sigmoid(chosen_reward - rejected_reward), reward = beta (log p_policy - log p_reference)

    The log-probabilities are those of `sequence_log_probabilities`, under the model that is trained and under the one
    that it started from; the latter may be computed once for all data. beta: how far from it the policy is held. At the
    start the loss is log 2. Accuracy: whether the chosen answer has the higher reward.

    Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290).
    """
    policy_chosen, policy_rejected = jnp.asarray(policy_chosen), jnp.asarray(policy_rejected)
    chosen = beta * (policy_chosen - jax.lax.stop_gradient(reference_chosen))
    rejected = beta * (policy_rejected - jax.lax.stop_gradient(reference_rejected))
    return {
        "loss": -jax.nn.log_sigmoid(chosen - rejected),
        "accuracy": (chosen > rejected).astype(chosen.dtype),
        "chosen_reward": chosen,
        "rejected_reward": rejected,
    }
