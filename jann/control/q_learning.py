"""Deep Q-learning (Mnih et al. 2015, Nature 518): what each action is worth, learnt from what is remembered."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jann.control.checks import at_least_one, refuse_no_values
from jann.control.episodes import Transition, finished, rollout, start_episodes
from jann.core import Model
from jann.drawing import fold
from jann.training import TrainState, make_step
from jann.training.state import Step, refuse_no_model, refuse_no_optimizer
from jann.trees import Tree, copied


class Replay(NamedTuple):
    """The last so many rows that were added, whatever they are."""

    rows: Tree  # [capacity, ...]
    added: jax.Array  # how many so far; from twice the capacity on, a round less

    @classmethod
    def start(cls, row: Tree, capacity: int) -> "Replay":
        """Room for `capacity` of what `row` is one of"""
        empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), jnp.asarray(leaf).dtype), row)
        return cls(empty, jnp.zeros((), jnp.int32))

    def add(self, rows: Tree) -> "Replay":
        """rows[n, ...] in the place of the oldest. Raises ValueError where n does not divide the capacity."""
        new, capacity = (jax.tree.leaves(tree)[0].shape[0] for tree in (rows, self.rows))
        if capacity % new:
            raise ValueError(f"{new} rows at a time do not divide the capacity of {capacity}")

        def put(old, leaf):
            return jax.lax.dynamic_update_slice_in_dim(old, leaf.astype(old.dtype), self.added % capacity, 0)

        added = self.added + new
        added = jnp.where(added < 2 * capacity, added, added - capacity)  # a count of all would overflow in long runs
        return Replay(jax.tree.map(put, self.rows, rows), added)

    def sample(self, key: jax.Array, n: int) -> Tree:
        """[n, ...], each drawn evenly from those that are held; there must be one."""
        held = jnp.minimum(self.added, jax.tree.leaves(self.rows)[0].shape[0])
        at = jax.random.randint(key, (n,), 0, held)
        return jax.tree.map(lambda leaf: leaf[at], self.rows)


def q_targets(
    rewards: jax.Array,
    terminated: jax.Array,
    next_values: jax.Array,
    chosen_by: jax.Array,
    discount: float | jax.Array = 0.99,
) -> jax.Array:
    """reward + discount × the next value of the best action, without it where that terminated; [...]

    next_values:  [..., actions], of the target network
    chosen_by:    [..., actions], whose best action is taken: of the network that learns (double Q-learning, van Hasselt
                  et al. 2016, AAAI), or again of the target network (Mnih et al.)
    """
    best = jnp.take_along_axis(next_values, chosen_by.argmax(-1)[..., None], -1)[..., 0]
    return rewards + discount * jnp.where(terminated, 0, best)


def explorer(model: Model, params: Any, epsilon: float | jax.Array = 0.0) -> Callable:
    """`act(observations, key) -> (actions, values)`: the best, or with probability epsilon any, each as likely"""

    def act(observations, key):
        values = model(params, observations)
        best = values.argmax(-1)
        any_of = jax.random.randint(fold(key, "action"), best.shape, 0, values.shape[-1])
        return jnp.where(jax.random.uniform(fold(key, "explore"), best.shape) < epsilon, any_of, best), values

    return act


def start_q(
    model: Model,
    environment: Any,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    lanes: int = 1,
    capacity: int = 10_000,
    warm_up: int = 1000,
) -> TrainState:
    """A fresh run of `q_step`; `extra` holds the episodes, the "target" network and the "replay".

    lanes:     episodes at a time
    capacity:  transitions that are remembered
    warm_up:   steps of random actions in each lane, one at least, remembered before learning starts

    Raises ValueError where actions are numbers and not choices, or lanes do not divide the capacity; TypeError or
    ValueError where the model does not give a value for each action.
    """
    refuse_no_model(model)
    refuse_no_optimizer(optimizer)
    at_least_one(lanes=lanes, capacity=capacity)
    if capacity % lanes:
        raise ValueError(f"capacity={capacity}: lanes={lanes} do not divide it, and each remembers as much")
    episodes = start_episodes(environment, fold(key, "episodes"), lanes)
    refuse_no_values(model, environment, lanes)
    params = model.init(key)
    randomly = rollout(environment, explorer(model, params, 1.0), episodes, fold(key, "warm_up"), max(warm_up, 1))
    episodes, seen, _ = randomly
    replay = Replay.start(jax.tree.map(lambda leaf: leaf[0, 0], seen), capacity)
    replay, _ = jax.lax.scan(lambda replay, rows: (replay.add(rows), None), replay, seen)
    extra = {"episodes": episodes, "target": copied(params), "replay": replay}
    return TrainState.start(fold(key, "run"), params, optimizer, extra)


def q_step(
    model: Model,
    environment: Any,
    optimizer: optax.GradientTransformation,
    *,
    epsilon: Callable | float = 0.1,
    steps: int = 10,
    batch_size: int = 128,
    renew: int = 50,
    discount: float | jax.Array = 0.99,
    double: bool = True,
) -> Step:
    """Builds `step(train_state, batch) -> (train_state, metrics)`: a few steps of each lane, then one update.

    The batch is not looked at: give `jann.train` any, such as `lambda step: step`.

    model:       `model(params, observations) -> values[..., actions]`, such as `jann.models.MLP`
    epsilon:     how often any action is taken; a number, or an Optax schedule of the training step
    batch_size:  transitions of an update, drawn from the replay
    renew:       training steps after which the target network becomes the one that learns
    double:      see `q_targets`

    Metrics: "loss", the mean squared error of the values; "value", their mean; "episodes" and "returns", see
    `finished`.
    """
    at_least_one(steps=steps, batch_size=batch_size, renew=renew)

    def loss(params, batch, key, extra=None):
        seen, target = batch
        following = model(target, seen.next_observation)
        chosen_by = model(params, seen.next_observation) if double else following
        wanted = q_targets(seen.reward, seen.terminated, following, chosen_by, discount)
        values = model(params, seen.observation)
        values = jnp.take_along_axis(values, seen.action[..., None], -1)[..., 0]
        return jnp.square(values - jax.lax.stop_gradient(wanted)).mean(), ({"value": values.mean()}, extra)

    update = make_step(loss, optimizer)

    def step(train_state, batch):
        key, extra = jax.random.fold_in(train_state.key, train_state.step), train_state.extra
        act = explorer(model, train_state.params, epsilon(train_state.step) if callable(epsilon) else epsilon)
        episodes, seen, _ = rollout(environment, act, extra["episodes"], fold(key, "rollout"), steps)
        replay, _ = jax.lax.scan(lambda replay, rows: (replay.add(rows), None), extra["replay"], seen)
        remembered: Transition = replay.sample(fold(key, "sample"), batch_size)
        learnt, metrics = update(train_state.replace(extra=None), (remembered, extra["target"]))
        due = learnt.step % renew == 0
        target = jax.tree.map(partial(jnp.where, due), learnt.params, extra["target"])
        after = learnt.replace(extra={"episodes": episodes, "target": target, "replay": replay})
        return after, {**metrics, **finished(seen)}

    return step
