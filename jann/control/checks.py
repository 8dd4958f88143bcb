"""What does not fit is refused where a run starts, by its name: one step is traced for it, none is computed."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import Model
from jann.trees import path_name

PARTS = ("observations", "actions", "continuous", "limit", "reset", "observe", "step")
WIDER = (jnp.floating, jnp.integer, jnp.bool_)  # each of these holds what follows it


def at_least_one(**numbers: Any) -> None:
    for name, number in numbers.items():
        if isinstance(number, int | np.integer) and number < 1:
            raise ValueError(f"{name}={number}: give at least 1")


def refuse_no_environment(environment: Any) -> None:
    """Raises TypeError for what is no environment, ValueError for one that would not go on as it began."""
    name = name_of(environment)
    if missing := [part for part in PARTS if not hasattr(environment, part)]:
        raise TypeError(
            f"{name} is no environment, it has no {', '.join(missing)}: jann.control.environments says what one has"
        )
    if isinstance(environment, type):
        raise TypeError(f"{name} is a class: give an environment of it, {name}(...)")
    if not isinstance(environment.limit, int | np.integer) or environment.limit < 1:
        raise ValueError(f"{name}: limit={environment.limit!r}, give after how many steps an episode is cut off")

    def step(state, action, key):
        made = environment.step(state, action, key)
        if not isinstance(made, tuple) or len(made) != 3:
            got = f"{len(made)} things" if isinstance(made, tuple) else type(made).__name__
            raise TypeError(f"{name}.step gives (state, reward, terminated), got {got}; the limit cuts episodes off")
        return arrays(made)

    key = jax.eval_shape(partial(jax.random.key, 0))
    before = jax.eval_shape(lambda key: arrays(environment.reset(key)), key)
    shape, dtype = ((environment.actions,), float) if environment.continuous else ((), int)
    action = jax.eval_shape(partial(jnp.zeros, shape, dtype))
    after, reward, terminated = jax.eval_shape(step, before, action, key)
    if jax.tree.structure(before) != jax.tree.structure(after):
        new, old = (jax.tree.map(described, state) for state in (after, before))
        raise ValueError(f"{name}.step gives the state as {new}, and reset as {old}: let both give the same")
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if old.shape != new.shape or rank(old) > rank(new):
            part = " ".join(["the state", path_name(path)]).strip()
            raise ValueError(
                f"{name}.step gives {part} as {described(new)}, and reset as {described(old)}: let both give the same"
            )
    for what, value in (("reward", reward), ("terminated", terminated)):
        if value.shape:
            raise ValueError(f"{name}.step gives {what} as {described(value)}: one number is wanted")


def refuse_no_policy(model: Model, environment: Any, lanes: int, distribution: Any) -> None:
    """Raises TypeError or ValueError unless the model gives a policy for the environment's actions, and values."""

    def ask(key, observations):
        found = model(model.init(key), observations)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(f"{name_of(model)} gives no pair (policy, values), as jann.models.ActorCritic does")
        policy = distribution(found[0])
        return policy, policy.mode(), found[1]

    policy, action, values = asked(ask, environment, lanes)
    wanted = (lanes, environment.actions) if environment.continuous else (lanes,)
    choices = policy.logits.shape[-1] if hasattr(policy, "logits") else environment.actions
    if action.shape != wanted or not environment.continuous and choices != environment.actions:
        takes = "numbers" if environment.continuous else "choices"
        does = f"chooses among {choices}" if hasattr(policy, "logits") else f"gives actions {list(action.shape[1:])}"
        raise ValueError(
            f"{name_of(model)} {does}, and {name_of(environment)} takes {environment.actions} {takes}: "
            f"give actions={environment.actions}, continuous={environment.continuous}"
        )
    if values.shape != (lanes,):
        raise ValueError(f"{name_of(model)} gives values {list(values.shape)} for {lanes} observations: give one each")


def refuse_no_values(model: Model, environment: Any, lanes: int) -> None:
    """Raises TypeError or ValueError unless the environment has choices, and the model gives a value for each."""
    name = name_of(environment)
    if environment.continuous:
        raise ValueError(f"{name} takes numbers for actions, and Q-learning chooses among a few")
    found = asked(lambda key, observations: model(model.init(key), observations), environment, lanes)
    if getattr(found, "shape", None) != (lanes, environment.actions):
        got = list(found.shape) if hasattr(found, "shape") else type(found).__name__
        raise ValueError(
            f"{name_of(model)} gives {got} for {lanes} observations of {name}, and [{lanes}, {environment.actions}] is "
            "wanted: a value for each action"
        )


def asked(ask: Any, environment: Any, lanes: int) -> Any:
    """`ask(key, observations)`, as shapes"""
    key = jax.eval_shape(partial(jax.random.key, 0))
    observe = jax.vmap(lambda key: environment.observe(arrays(environment.reset(key))))
    observations = jax.eval_shape(lambda key: observe(jax.random.split(key, lanes)), key)
    return jax.eval_shape(ask, key, observations)


def arrays(state: Any) -> Any:
    return jax.tree.map(jnp.asarray, state)


def name_of(thing: Any) -> str:
    return (thing if isinstance(thing, type) else type(thing)).__name__


def rank(leaf: Any) -> int:
    return next((place for place, kind in enumerate(WIDER) if jnp.issubdtype(leaf.dtype, kind)), len(WIDER))


def described(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
