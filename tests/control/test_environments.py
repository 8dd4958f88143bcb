"""Environments move as Gymnasium's, step for step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann import control

PAIRS = {
    "CartPole-v1": (control.CartPole(), [3, 3, 0.3, 3]),
    "Acrobot-v1": (control.Acrobot(), [3.1, 3.1, 12, 28]),
    "Pendulum-v1": (control.Pendulum(), [6, 8]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_steps_rewards_and_ends_are_those_of_gymnasium(name):
    gymnasium = pytest.importorskip("gymnasium")
    environment, spread = PAIRS[name]
    theirs, random = gymnasium.make(name), np.random.default_rng(0)
    assert theirs.spec.max_episode_steps == environment.limit
    assert theirs.observation_space.shape == (environment.observations,)
    assert theirs.action_space.shape == ((environment.actions,) if environment.continuous else ())
    theirs = theirs.unwrapped
    theirs.reset(seed=0)
    step, ends = jax.jit(environment.step), []
    for _ in range(300):  # from anywhere, also where episodes end
        state = random.uniform(-1, 1, len(spread)) * spread
        action = random.uniform(-3, 3, 1) if environment.continuous else random.integers(environment.actions)
        theirs.state, theirs.steps_beyond_terminated = state.copy(), None
        observation, reward, terminated, _, _ = theirs.step(action)
        new, found, ended = step(jnp.asarray(state, jnp.float32), jnp.asarray(action))
        np.testing.assert_allclose(environment.observe(new), observation, rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(found, reward, rtol=2e-5, atol=1e-6)
        ends.append((bool(ended), bool(terminated)))
    assert all(ours == their for ours, their in ends)
    assert len(set(ends)) == 1 + (name != "Pendulum-v1"), "a pendulum has no end, others some"


@pytest.mark.parametrize("name", PAIRS)
def test_episodes_begin_as_those_of_gymnasium(name):
    gymnasium = pytest.importorskip("gymnasium")
    environment, _ = PAIRS[name]
    theirs = gymnasium.make(name).unwrapped
    begun = []
    for seed in range(400):
        theirs.reset(seed=seed)
        begun.append(theirs.state)
    ours = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 400))
    for bound in (np.min, np.max):
        np.testing.assert_allclose(bound(ours, 0), bound(begun, 0), rtol=0.05)


@pytest.mark.parametrize("environment", [environment for environment, _ in PAIRS.values()], ids=PAIRS)
def test_links_are_as_long_as_they_are(environment):
    joints = environment.joints(environment.reset(jax.random.key(0)))
    np.testing.assert_allclose(jnp.linalg.norm(jnp.diff(joints, axis=0), axis=1), 1, rtol=1e-6)
    down = control.Acrobot().joints(jnp.asarray([jnp.pi / 2, 0, 0, 0]))
    np.testing.assert_allclose(down, [[0, 0], [1, 0], [2, 0]], atol=1e-6)  # a turn from hanging, to the right
    tip = control.CartPole().joints(jnp.asarray([2.0, 0, 0.1, 0]))[1]
    np.testing.assert_allclose(tip, [2 + np.sin(0.1), np.cos(0.1)], rtol=1e-6)
