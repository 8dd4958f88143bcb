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


def angular_margin_loss(
    cosines: jax.Array, labels: jax.Array, margin: float | jax.Array = 0.5, scale: float | jax.Array = 64.0
) -> jax.Array:
    """cosines[..., classes] of each class with an example of class labels[...] -> loss of each example, [...], in nats

        cross-entropy of scale · cosines, with cos(θ + margin) in the place of cos θ of the example's own class

    The margin is an angle in radians: by so much its own class must be nearer than the others. Where θ + margin is more
    than π the cosine would rise again, and cos θ − margin sin(margin) stands for it. Margin 0 is a normalised softmax.

    ArcFace (Deng et al. 2019, arXiv:1801.07698), eq. 3. Raises ValueError where shapes do not fit.
    """
    cosines, labels = jnp.asarray(cosines), jnp.asarray(labels)
    if labels.shape != cosines.shape[:-1]:
        raise ValueError(f"labels {list(labels.shape)} for cosines {list(cosines.shape)}: one for each row is wanted")
    cosines = jnp.clip(cosines.astype(wide_dtype(cosines)), -1, 1)
    sines = jnp.sqrt(jnp.maximum(1 - jnp.square(cosines), 1e-7))  # whose gradient is finite at a cosine of 1 too
    margin = jnp.asarray(margin, cosines.dtype)
    moved = cosines * jnp.cos(margin) - sines * jnp.sin(margin)
    moved = jnp.where(cosines > -jnp.cos(margin), moved, cosines - margin * jnp.sin(margin))
    own = jax.nn.one_hot(labels, cosines.shape[-1], dtype=bool)
    return optax.softmax_cross_entropy_with_integer_labels(scale * jnp.where(own, moved, cosines), labels)


def triplet_loss(
    embeddings: jax.Array, labels: jax.Array, margin: float | jax.Array = 0.2, hardest: bool = True
) -> jax.Array:
    """embeddings[..., n, embed] of labels[..., n] -> max(0, margin + own − other) of each, [..., n]

    own is its distance to one of its own label in the batch, other that to one of another label, both Euclidean.

    hardest:  of each example the triplet of the farthest own and the nearest other ("batch hard"); else the mean of all
              its triplets whose loss is not 0 ("batch all"). With the hardest alone all embeddings may fall together,
              and the loss stays near the margin

    0 for an example that has no other of its label, or none of another label. Hermans, Beyer and Leibe 2017
    (arXiv:1703.07737). FaceNet (Schroff, Kalenichenko and Philbin 2015) has embeddings of length 1, squared distances,
    and margin 0.2. Raises ValueError where shapes do not fit.
    """
    embeddings, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    if embeddings.ndim < 2 or labels.shape != embeddings.shape[:-1]:
        raise ValueError(
            f"embeddings {list(embeddings.shape)} and labels {list(labels.shape)}: [..., n, embed], [..., n] wanted"
        )
    embeddings = embeddings.astype(wide_dtype(embeddings))
    squares = jnp.square(embeddings[..., :, None, :] - embeddings[..., None, :, :]).sum(-1)
    apart = squares > 0  # the root has no gradient at 0
    distances = jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0)
    same = labels[..., :, None] == labels[..., None, :]
    own = same & ~jax.lax.broadcast_to_rank(jnp.eye(labels.shape[-1], dtype=bool), same.ndim)
    if hardest:
        counts = own.any(-1) & ~same.all(-1)
        nearest = jnp.where(same, jnp.inf, distances).min(-1)
        hard = margin + jnp.where(own, distances, 0).max(-1) - jnp.where(counts, nearest, 0)
        return jnp.where(counts, jax.nn.relu(hard), 0)
    losses = jax.nn.relu(margin + distances[..., :, None] - distances[..., None, :])
    losses = jnp.where(own[..., :, None] & ~same[..., None, :], losses, 0)
    return losses.sum((-1, -2)) / jnp.maximum((losses > 0).sum((-1, -2)), 1)
