"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jann.control.checks import at_least_one, refuse_no_policy
from jann.control.episodes import finished, rollout, start_episodes
from jann.control.policies import distribution
from jann.core import Model
from jann.drawing import fold
from jann.training import TrainState, make_step, train
from jann.training.state import Step, refuse_no_model, refuse_no_optimizer


def advantages(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    ended: jax.Array,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
) -> jax.Array:
    """How much better each step went than its value said, [time, ...]; plus the values, what these should have been.

    Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438): Σ (discount × trace)ᵏ δₜ₊ₖ up to the
    episode's end, with δ = reward + discount × next value − value, the next value 0 where it terminated.

    All [time, ...]: rewards; values of what was observed and of what came then, in the same episode; whether that
    terminated, and whether it ended, terminated or cut off.
    """
    deltas = rewards + discount * jnp.where(terminated, 0, next_values) - values

    def back(later, step):
        delta, ended = step
        now = delta + discount * trace * jnp.where(ended, 0, later)
        return now, now

    return jax.lax.scan(back, jnp.zeros_like(deltas[0]), (deltas, ended), reverse=True)[1]


def clipped_surrogate(
    log_probabilities: jax.Array, old: jax.Array, advantages: jax.Array, clip: float | jax.Array = 0.2
) -> jax.Array:
    """min(r A, clip(r, 1 − clip, 1 + clip) A), r an action's probability over its old one: eq. 7, which is maximised

    log_probabilities, old, advantages:  [...]
    """
    ratio = jnp.exp(log_probabilities - old)
    return jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - clip, 1 + clip) * advantages)


def actor(model: Model, params: Any, greedy: bool = False) -> Callable:
    """`act(observations, key) -> (actions, (their log probabilities, the values))`, as `rollout` takes it.

    greedy:  always the most probable action
    """

    def act(observations, key):
        policy, value = model(params, observations)
        policy = distribution(policy)
        action = policy.mode() if greedy else policy.sample(key)
        return action, (policy.log_probability(action), value)

    return act


def start_ppo(
    model: Model, environment: Any, optimizer: optax.GradientTransformation, key: jax.Array, lanes: int = 8
) -> TrainState:
    """A fresh run of `ppo_step`: parameters drawn, and in `extra` the "episodes", as many as there are lanes.

    Raises TypeError or ValueError where the model's policy is not of the environment's actions.
    """
    refuse_no_model(model)
    refuse_no_optimizer(optimizer)
    episodes = start_episodes(environment, fold(key, "episodes"), lanes)
    refuse_no_policy(model, environment, lanes, distribution)
    return TrainState.start(fold(key, "run"), model.init(key), optimizer, {"episodes": episodes})


def ppo_step(
    model: Model,
    environment: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int = 128,
    epochs: int = 4,
    minibatches: int = 4,
    discount: float | jax.Array = 0.99,
    trace: float | jax.Array = 0.95,
    clip: float | jax.Array = 0.2,
    entropy: float | jax.Array = 0.01,
    value: float | jax.Array = 0.5,
) -> Step:
    """Builds `step(train_state, batch) -> (train_state, metrics)`: acts for a while, then learns from what it saw.

    The batch is not looked at: give `jann.train` any, such as `lambda step: step`.

    model:        `model(params, observations) -> (policy, values)`, as `jann.models.ActorCritic`
    optimizer:    called epochs × minibatches times a step: a schedule counts these
    steps:        of each lane, in one step of training
    epochs:       how often what was seen is gone through, in a new order each time
    minibatches:  in so many parts, of which each has one update; advantages are standardised within it
    discount:     what a reward is worth one step later
    trace, clip:  see `advantages` and `clipped_surrogate`
    entropy:      weight of the policy's entropy, which is raised
    value:        weight of the values' squared error, halved

    Metrics: "loss", "surrogate", "value_error", "entropy", "episodes" and "returns", see `finished`. Raises
    ValueError where minibatches do not divide what is seen.
    """
    at_least_one(steps=steps, epochs=epochs, minibatches=minibatches)

    def loss(params, batch, key, extra=None):
        policy, values = model(params, batch["observation"])
        policy = distribution(policy)
        better = batch["advantage"]
        better = (better - better.mean()) / (better.std() + 1e-8)
        chances = policy.log_probability(batch["action"])
        surrogate = clipped_surrogate(chances, batch["log_probability"], better, clip).mean()
        error, spread = 0.5 * jnp.square(values - batch["target"]).mean(), policy.entropy().mean()
        metrics = {"surrogate": surrogate, "value_error": error, "entropy": spread}
        return value * error - surrogate - entropy * spread, (metrics, extra)

    update = make_step(loss, optimizer)

    def step(train_state, batch):
        key = jax.random.fold_in(train_state.key, train_state.step)
        act = actor(model, train_state.params)
        episodes, seen, (chances, values) = rollout(
            environment, act, train_state.extra["episodes"], fold(key, "rollout"), steps
        )
        next_values = model(train_state.params, seen.next_observation)[1]
        better = advantages(seen.reward, values, next_values, seen.terminated, seen.ended, discount, trace)
        rows = {
            "observation": seen.observation, "action": seen.action, "log_probability": chances,
            "advantage": better, "target": better + values,
        }  # fmt: skip
        rows = jax.tree.map(lambda leaf: jax.lax.collapse(leaf, 0, 2), rows)
        examples = len(rows["target"])
        if examples % minibatches:
            raise ValueError(
                f"minibatches={minibatches} does not divide the {examples} steps seen: {steps} of each of "
                f"{examples // steps} lanes"
            )
        orders = jax.vmap(partial(jax.random.permutation, x=examples))(jax.random.split(fold(key, "orders"), epochs))
        parts = jax.tree.map(lambda leaf: leaf[orders.reshape(epochs * minibatches, -1)], rows)
        learnt, history = train(update, parts, train_state.replace(extra=None), epochs * minibatches)
        metrics = {name: values.mean() for name, values in history.items()}
        after = learnt.replace(step=train_state.step + 1, extra={"episodes": episodes})
        return after, {**metrics, **finished(seen)}

    return step
