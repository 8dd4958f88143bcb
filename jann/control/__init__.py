"""Learning to act: environments as pure functions, episodes, and two ways of learning from them.

A whole training is a function of a key and numbers, so that `jann.sweep` makes one program of seeds × learning rates.

- environments: `CartPole`, `Acrobot`, `Pendulum`, equal to Gymnasium's; any object of their kind will do
- `rollout`, `episode_returns`: many episodes at once
- proximal policy optimisation: `ppo_step`, made of `advantages` and `clipped_surrogate`
- deep Q-learning: `q_step`, made of `q_targets` and a `Replay`
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
