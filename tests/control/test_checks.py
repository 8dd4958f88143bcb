"""An environment of one's own: what is taken as it is, and what is refused by name before anything runs."""

import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann import control


class Walk:
    """A walk on a line of numbers, written without care: numbers of Python, 0 and 1 for ends."""

    observations, actions, continuous, limit = 1, 2, False, 5

    def reset(self, key):
        return 0.0

    def observe(self, state):
        return jnp.asarray([state])

    def step(self, state, action, key):
        state = state + 2 * action - 1
        return state, 1, jnp.where(state > 2, 1, 0)


class Noisy(Walk):
    """Keeps a key of its own in a state of several parts."""

    def reset(self, key):
        return {"place": jnp.zeros(()), "key": key}

    def observe(self, state):
        return state["place"][None]

    def step(self, state, action, key):
        key, used = jax.random.split(state["key"])
        return {"place": state["place"] + jax.random.normal(used), "key": key}, 0.5, False


def changed(**parts):
    return type("Mine", (Walk,), parts)()


def run_of(method, environment, n=2):
    optimizer, key = optax.adam(1e-2), jax.random.key(0)
    if method == "ppo":
        model = jann.models.ActorCritic(environment.observations, environment.actions, (4,))
        step = control.ppo_step(model, environment, optimizer, steps=8)
        state = control.start_ppo(model, environment, optimizer, key, 4)
    else:
        model = jann.models.MLP(environment.observations, (4,), environment.actions)
        step = control.q_step(model, environment, optimizer, steps=8)
        state = control.start_q(model, environment, optimizer, key, 4, 40, 5)
    return jax.jit(lambda state: jann.train(step, lambda step: step, state, n))(state)


@pytest.mark.parametrize("method", ["ppo", "dqn"])
@pytest.mark.parametrize("environment", [Walk(), Noisy()], ids=["walk", "noisy"])
def test_environments_of_ones_own_are_learnt_from(method, environment):
    _, history = run_of(method, environment)
    reward = environment.step(environment.reset(jax.random.key(0)), 1, None)[1]
    assert np.isfinite(history["loss"]).all() and history["episodes"].sum() > 0
    assert history["returns"].sum() <= history["episodes"].sum() * 5 * reward
    assert history["returns"].sum() >= history["episodes"].sum() * 3 * reward


def test_the_example_of_the_documentation_learns():
    lines = control.__doc__.splitlines()
    code = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))
    names = {"jax": jax, "jnp": jnp, "jann": jann, "optax": optax}
    exec(code, names)
    worst = control.episode_returns(
        names["room"], lambda seen, key: (jnp.zeros(len(seen), int), None), jax.random.key(1)
    )
    assert names["learn"](jax.random.key(0)) > -60 > -300 > worst.mean()


@pytest.mark.parametrize("method", ["ppo", "dqn"])
def test_double_precision_is_taken(method):
    with jax.enable_x64(True):
        state, history = run_of(method, control.CartPole())
    assert np.isfinite(history["loss"]).all()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize(
    ("environment", "error", "message"),
    [
        (Walk, TypeError, r"Walk is a class: give an environment of it, Walk\(...\)"),
        (object(), TypeError, "object is no environment, it has no observations, actions, .*, observe, step"),
        (changed(limit=None), ValueError, "Mine: limit=None, give after how many steps"),
        (
            changed(reset=lambda *_: 0, step=lambda *_: (0.5, 1.0, False)),
            ValueError,
            r"as float32\[\], and reset as int32",
        ),
        (changed(step=lambda *_: (jnp.zeros(2), 1.0, False)), ValueError, r"the state as float32\[2\], and reset as"),
        (changed(step=lambda *_: ({"x": 0.0}, 1.0, False)), ValueError, "{'x': 'float32.*, and reset as float32"),
        (changed(step=lambda *_: (0.0, jnp.ones(1), False)), ValueError, r"reward as float32\[1\]: one number"),
        (changed(step=lambda *_: (0.0, 1.0, jnp.ones(2))), ValueError, r"terminated as float32\[2\]: one number"),
        (changed(step=lambda *_: (0.0, 1.0, False, False, {})), TypeError, "got 5 things; the limit cuts episodes off"),
    ],
)
def test_what_is_no_environment_is_refused_by_name(environment, error, message):
    with pytest.raises(error, match=message):
        control.start_episodes(environment, jax.random.key(0), 4)


class Pairs(jann.Model):
    """A policy and values of another shape than one each."""

    def spec(self):
        return jann.models.ActorCritic(1, 2, (4,)).spec()

    def apply(self, params, x, state=None, key=None):
        policy, values = jann.models.ActorCritic(1, 2, (4,))(params, x)
        return (policy, values[..., None]), state


@pytest.mark.parametrize(
    ("model", "environment", "message"),
    [
        (
            jann.models.ActorCritic(1, 3),
            Walk(),
            "chooses among 3, and Walk takes 2 choices: give actions=2, cont.*False",
        ),
        (jann.models.ActorCritic(3, 1), control.Pendulum(), "chooses among 1, and Pendulum takes 1 numbers: .*=True"),
        (jann.models.ActorCritic(1, 2, continuous=True), Walk(), r"gives actions \[2\], and Walk takes 2 choices"),
        (jann.models.MLP(1, (4,), 2), Walk(), r"MLP gives no pair \(policy, values\)"),
        (Pairs(), Walk(), r"Pairs gives values \[4, 1\] for 4 observations: give one each"),
        (jann.models.ActorCritic, Walk(), "ActorCritic is a class"),
    ],
)
def test_a_policy_of_other_actions_is_refused(model, environment, message):
    with pytest.raises((TypeError, ValueError), match=message):
        control.start_ppo(model, environment, optax.adam(0.1), jax.random.key(0), 4)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (jann.models.MLP(1, (4,), 3), {}, r"MLP gives \[4, 3\] for 4 observations of Walk, and \[4, 2\] is wanted"),
        (jann.models.ActorCritic(1, 2), {}, "ActorCritic gives tuple for 4 observations"),
        (jann.models.MLP(1, (4,), 2), {"capacity": 42}, "capacity=42: lanes=4 do not divide it"),
        (jann.models.MLP(1, (4,), 2), {"capacity": 0}, "capacity=0: give at least 1"),
    ],
)
def test_values_of_other_actions_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        control.start_q(model, Walk(), optax.adam(0.1), jax.random.key(0), 4, **options)


@pytest.mark.parametrize("name", ["steps", "epochs", "minibatches"])
def test_ppo_takes_at_least_one(name):
    with pytest.raises(ValueError, match=f"{name}=0: give at least 1"):
        control.ppo_step(jann.models.ActorCritic(1, 2), Walk(), optax.adam(0.1), **{name: 0})


@pytest.mark.parametrize("name", ["steps", "batch_size", "renew"])
def test_q_learning_takes_at_least_one(name):
    with pytest.raises(ValueError, match=f"{name}=0: give at least 1"):
        control.q_step(jann.models.MLP(1, (4,), 2), Walk(), optax.adam(0.1), **{name: 0})
