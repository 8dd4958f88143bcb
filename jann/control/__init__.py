"""Learning to act: environments as pure functions, episodes, and two ways of learning from them.

A whole training is a function of a key and numbers, so that `jann.sweep` makes one program of seeds × learning rates.

- environments: `CartPole`, `Acrobot`, `Pendulum`, equal to Gymnasium's; any object of their kind will do
- `rollout`, `episode_returns`: many episodes at once
- proximal policy optimisation: `ppo_step`, made of `advantages` and `clipped_surrogate`
- deep Q-learning: `q_step`, made of `q_targets` and a `Replay`

An environment of one's own, as `jann.control.environments` says what one has, and a training with it:

    class Thermostat:  # keep a room at 20 °C that loses warmth by chance; 1 heats
        observations, actions, continuous, limit = 1, 2, False, 50

        def reset(self, key):
            return jax.random.uniform(key, minval=10.0, maxval=25.0)

        def observe(self, temperature):
            return (temperature[None] - 20) / 5

        def step(self, temperature, action, key):
            temperature = temperature + action - jax.random.uniform(key)
            return temperature, -jnp.abs(temperature - 20), temperature < 0

    room, model, optimizer = Thermostat(), jann.models.ActorCritic(1, 2), optax.adam(3e-3)
    step = jann.control.ppo_step(model, room, optimizer, steps=50, discount=0.9)

    @jax.jit
    def learn(key):
        state = jann.control.start_ppo(model, room, optimizer, key)
        state, history = jann.train(step, lambda number: number, state, 40)
        act = jann.control.actor(model, state.params, greedy=True)
        return jann.control.episode_returns(room, act, jax.random.key(1)).mean()
"""

from jann.control.environments import Acrobot, CartPole, Pendulum
from jann.control.episodes import Episode, Transition, advance, episode_returns, finished, rollout, start_episodes
from jann.control.policies import Categorical, Gaussian, distribution
from jann.control.ppo import actor, advantages, clipped_surrogate, ppo_step, start_ppo
from jann.control.q_learning import Replay, explorer, q_step, q_targets, start_q

__all__ = [
    "Acrobot",
    "CartPole",
    "Categorical",
    "Episode",
    "Gaussian",
    "Pendulum",
    "Replay",
    "Transition",
    "actor",
    "advance",
    "advantages",
    "clipped_surrogate",
    "distribution",
    "episode_returns",
    "explorer",
    "finished",
    "ppo_step",
    "q_step",
    "q_targets",
    "rollout",
    "start_episodes",
    "start_ppo",
    "start_q",
]
