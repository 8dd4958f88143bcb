"""Training of two networks against each other: a generator, and a discriminator of its outputs from real examples."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

import jax
import jax.numpy as jnp
import optax

from jann.core import Model, split
from jann.drawing import fold
from jann.layers.dtypes import wide_dtype
from jann.training.objective import with_containers
from jann.training.state import Step, TrainState, start_average, update_average
from jann.trees import Tree, flatten

Optimizers = dict[str, optax.GradientTransformation]  # "generator" and "discriminator"
NETWORKS = ("generator", "discriminator")


def non_saturating(real: jax.Array, fake: jax.Array) -> dict[str, jax.Array]:
    """Scores, the logits of being real -> −log D(x) − log(1 − D(G(z))) and −log D(G(z)) (Goodfellow et al. 2014)"""
    discriminator = jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean()
    return {"discriminator": discriminator, "generator": jax.nn.softplus(-fake).mean()}


def hinge(real: jax.Array, fake: jax.Array) -> dict[str, jax.Array]:
    """max(0, 1 − D(x)) + max(0, 1 + D(G(z))) and −D(G(z)) (Lim and Ye 2017, Geometric GAN)"""
    discriminator = jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean()
    return {"discriminator": discriminator, "generator": -fake.mean()}


def wasserstein(real: jax.Array, fake: jax.Array) -> dict[str, jax.Array]:
    """D(G(z)) − D(x) and −D(G(z)), for a critic kept smooth by a gradient penalty (Arjovsky et al. 2017)"""
    return {"discriminator": fake.mean() - real.mean(), "generator": -fake.mean()}


LOSSES = {"non_saturating": non_saturating, "hinge": hinge, "wasserstein": wasserstein}


def gradient_penalty(critic: Callable, real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
    """real[batch, ...], fake of the same shape -> mean (‖∇ critic(x)‖ − 1)², at random points x between the pairs

    `critic(x) -> scores[batch]` must treat each example on its own, so no batch norm. Gulrajani et al. 2017, "Improved
    training of Wasserstein GANs", NeurIPS.
    """
    at = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1), real.dtype)
    slopes = jax.grad(lambda x: critic(x).sum())(at * real + (1 - at) * fake)
    slopes = slopes.astype(wide_dtype(slopes))  # in float16 1e-12 were 0
    squared = jax.lax.collapse(jnp.square(slopes), 1).sum(-1)
    return jnp.square(jnp.sqrt(squared + 1e-12) - 1).mean()  # where it is flat, the root would have no gradient


def start_adversarial(generator: Model, discriminator: Model, optimizers: Optimizers, key: jax.Array) -> TrainState:
    """A fresh run of both: params and opt_state are dicts with "generator" and "discriminator".

    `extra` holds the generator's weight "average" and, if it has any, its running "statistics", so that
    `eval_params(train_state)` is what to draw samples with, and `fit(model=generator)` saves it. The discriminator
    always takes its batch's own statistics.
    """
    params, statistics = {}, {}
    for name, model in zip(NETWORKS, (generator, discriminator), strict=True):
        params[name], statistics[name] = split(model, model.init(fold(key, name)))
    extra = {"average": start_average(params["generator"])}
    if flatten(statistics["generator"]):
        extra["statistics"] = start_average(statistics["generator"])
    opt_state = {name: optimizers[name].init(params[name]) for name in NETWORKS}
    return TrainState(jnp.zeros((), jnp.int32), jax.random.fold_in(key, 0), params, opt_state, extra)


def adversarial_step(
    generator: Model,
    discriminator: Model,
    optimizers: Optimizers,
    loss: str = "non_saturating",
    *,
    latent: int,
    critic_steps: int = 1,
    penalty: float | jax.Array = 0.0,
    average: float | jax.Array = 0.999,
    inputs: str = "image",
    labels: str | None = None,
) -> Step:
    """Builds `step(train_state, batch) -> (train_state, metrics)`: the discriminator's update, then the generator's.

    loss:          "non_saturating", "hinge" or "wasserstein"
    latent:        size of the noise, drawn from N(0, I), that the generator takes
    critic_steps:  updates of the discriminator for each of the generator's; the batch is divided among them
    penalty:       weight of `gradient_penalty` (10 in its paper)
    average:       decay of the running average of the generator's weights and statistics
    inputs:        the batch's entry with real examples
    labels:        the batch's entry with their classes, which both networks take second; None for no condition

    Metrics: "discriminator_loss", "generator_loss", "loss" (their sum, with the weighted penalty), and the mean scores
    "real_score" and "fake_score"; of several discriminator's steps, the last one's.

    Raises ValueError for another loss, a penalty on a discriminator with batch norm, or `critic_steps` that do not
    divide the batch.
    """
    if loss not in LOSSES:
        raise ValueError(f"no adversarial loss is called {loss!r}: there are {', '.join(LOSSES)}")
    if critic_steps < 1:
        raise ValueError(f"critic_steps={critic_steps}: the discriminator takes at least one for each of the generator")
    penalised = not (isinstance(penalty, (int, float)) and penalty == 0)
    normed = [path for path, param in flatten(discriminator.spec()).items() if not param.trained]
    if penalised and normed:
        raise ValueError(
            f"a gradient penalty is of each example alone, which batch norm ({normed[0]}) mixes: "
            f"give a discriminator without it"
        )

    def condition(batch):
        return () if labels is None else (batch[labels],)

    def generated(params, batch, key):
        z = jax.random.normal(fold(key, "latent"), (batch[inputs].shape[0], latent))
        return generator.apply(params, z, *condition(batch), key=fold(key, "generator"))

    def scores(params, x, batch, key):
        return discriminator(params, x, *condition(batch), key=key)

    def discriminator_loss(params, others, batch, key):
        fake, _ = generated(others, batch, key)
        at_real = scores(params, batch[inputs], batch, fold(key, "real"))
        at_fake = scores(params, fake, batch, fold(key, "fake"))
        value = LOSSES[loss](at_real, at_fake)["discriminator"]
        metrics = {"discriminator_loss": value, "real_score": at_real.mean(), "fake_score": at_fake.mean()}
        if penalised:
            cost = gradient_penalty(
                lambda x: scores(params, x, batch, fold(key, "between")), batch[inputs], fake, fold(key, "penalty")
            )
            value, metrics["gradient_penalty"] = value + penalty * cost, cost
        return value, metrics

    def generator_loss(params, others, batch, key):
        fake, statistics = generated(params, batch, key)
        at_fake = scores(others, fake, batch, fold(key, "fake"))
        return LOSSES[loss](at_fake, at_fake)["generator"], statistics

    def improved(name, gradients, params, opt_state):
        updates, found = optimizers[name].update(gradients, opt_state[name], params[name])
        return {**params, name: optax.apply_updates(params[name], updates)}, {**opt_state, name: found}

    def step(train_state, batch):
        key = jax.random.fold_in(train_state.key, train_state.step)
        params, opt_state = train_state.params, train_state.opt_state
        parts = _parts(batch, critic_steps)
        for i, part in enumerate(parts):  # written out: the penalty's convolutions are slow in loops
            (value, metrics), gradients = jax.value_and_grad(discriminator_loss, has_aux=True)(
                params["discriminator"], params["generator"], part, fold(key, f"discriminator_{i}")
            )
            params, opt_state = improved("discriminator", gradients, params, opt_state)
        (other, statistics), gradients = jax.value_and_grad(generator_loss, has_aux=True)(
            params["generator"], params["discriminator"], parts[-1], fold(key, "generator")
        )
        params, opt_state = improved("generator", gradients, params, opt_state)
        extra = {"average": update_average(train_state.extra["average"], params["generator"], average)}
        if "statistics" in train_state.extra:
            kept = train_state.extra["statistics"]
            extra["statistics"] = update_average(kept, with_containers(kept.value, statistics), average)
        metrics = {"loss": value + other, "generator_loss": other, **metrics}
        return TrainState(train_state.step + 1, train_state.key, params, opt_state, extra), metrics

    return step


def _parts(batch: Tree, n: int) -> list[Tree]:
    """The batch in n equal parts."""
    examples = jax.tree.leaves(batch)[0].shape[0]
    if examples % n:
        raise ValueError(f"critic_steps={n} does not divide the batch of {examples}: each takes an equal part")
    split_up = jax.tree.map(lambda x: x.reshape(n, -1, *x.shape[1:]), batch)
    return [jax.tree.map(itemgetter(i), split_up) for i in range(n)]
