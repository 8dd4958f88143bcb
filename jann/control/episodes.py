"""Many episodes at once, each followed by the next."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jann.control.checks import arrays, refuse_no_environment
from jann.drawing import checked_key, fold


class Episode(NamedTuple):
    """Where an episode stands."""

    state: Any  # the environment's
    time: jax.Array  # steps so far
    total: jax.Array  # rewards so far


class Transition(NamedTuple):
    """One step of an environment.

    It is worth `reward + discount * value(next_observation)`, without the second part where `terminated`: an episode
    that the time limit cut off has `ended` too, but would have gone on (Pardo et al. 2018, "Time limits in
    reinforcement learning", ICML).
    """

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    next_observation: jax.Array  # of the same episode, also where it ended
    terminated: jax.Array
    ended: jax.Array  # terminated, or cut off
    total: jax.Array  # the episode's rewards up to here: its return, where it ended


def start_episodes(environment: Any, key: jax.Array, lanes: int) -> Episode:
    """So many episodes side by side, at their beginning: each leaf [lanes, ...]

    Raises TypeError or ValueError for what is no environment, or one whose parts do not fit each other.
    """
    if lanes < 1:
        raise ValueError(f"lanes={lanes}: at least one episode runs at a time")
    refuse_no_environment(environment)
    return jax.vmap(partial(_begun, environment))(jax.random.split(checked_key(key), lanes))


def _begun(environment: Any, key: jax.Array) -> Episode:
    return Episode(arrays(environment.reset(key)), jnp.zeros((), jnp.int32), jnp.zeros(()))


def advance(environment: Any, episode: Episode, action: jax.Array, key: jax.Array) -> tuple[Episode, Transition]:
    """One step of one episode; where that ends it, the next begins with `key`."""
    state, reward, terminated = environment.step(episode.state, action, fold(key, "step"))
    state, terminated = arrays(state), jnp.asarray(terminated, bool)
    reward = jnp.asarray(reward, episode.total.dtype)
    time, total = episode.time + 1, episode.total + reward
    ended = terminated | (time >= environment.limit)
    seen = Transition(
        environment.observe(episode.state), action, reward, environment.observe(state), terminated, ended, total
    )
    going, fresh = Episode(state, time, total), _begun(environment, key)
    return jax.tree.map(lambda new, old: jnp.where(ended, new, old.astype(new.dtype)), fresh, going), seen


def rollout(
    environment: Any, act: Callable, episodes: Episode, key: jax.Array, steps: int
) -> tuple[Episode, Transition, Any]:
    """So many steps of all lanes: -> (the episodes after them, transitions, what else `act` gave), [steps, lanes, ...]

    act:  `act(observations[lanes, ...], key) -> (actions[lanes, ...], more)`
    """

    def step(episodes, key):
        actions, more = act(jax.vmap(environment.observe)(episodes.state), fold(key, "act"))
        keys = jax.random.split(fold(key, "reset"), len(episodes.time))
        episodes, seen = jax.vmap(partial(advance, environment))(episodes, actions, keys)
        return episodes, (seen, more)

    episodes, (seen, more) = jax.lax.scan(step, episodes, jax.random.split(key, steps))
    return episodes, seen, more


def finished(seen: Transition) -> dict[str, jax.Array]:
    """Metrics: how many "episodes" ended there, and the sum of their "returns".

    The one by the other is their mean, also of the metrics' means over many steps.
    """
    return {"episodes": seen.ended.sum(), "returns": jnp.where(seen.ended, seen.total, 0).sum()}


def episode_returns(environment: Any, act: Callable, key: jax.Array, episodes: int = 100) -> jax.Array:
    """The returns of so many new episodes, [episodes], by `act(observations, key) -> (actions, anything)`."""
    begun = start_episodes(environment, fold(key, "start"), episodes)
    _, seen, _ = rollout(environment, act, begun, fold(key, "rollout"), environment.limit)
    first = seen.ended.argmax(0)
    return jnp.take_along_axis(seen.total, first[None], 0)[0]
