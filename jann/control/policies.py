"""What a policy may be: a distribution over actions, made of what a network says."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Categorical(NamedTuple):
    """One of as many actions as there are logits[..., actions]."""

    logits: jax.Array

    def sample(self, key):
        """-> actions[...]"""
        return jax.random.categorical(key, self.logits)

    def mode(self):
        """The most probable actions, [...]"""
        return self.logits.argmax(-1)

    def log_probability(self, action):
        """actions[...] -> [...], in nats"""
        chances = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(chances, action[..., None], -1)[..., 0]

    def entropy(self):
        """[...], in nats"""
        chances = jax.nn.log_softmax(self.logits)
        return -(jnp.exp(chances) * chances).sum(-1)


class Gaussian(NamedTuple):
    """Actions[..., actions] of independent normal distributions."""

    mean: jax.Array
    log_deviation: jax.Array  # of the same shape

    def sample(self, key):
        """-> actions[..., actions]"""
        return self.mean + jnp.exp(self.log_deviation) * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def mode(self):
        """The most probable actions, [..., actions]"""
        return self.mean

    def log_probability(self, action):
        """actions[..., actions] -> log density, [...], in nats"""
        return jax.scipy.stats.norm.logpdf(action, self.mean, jnp.exp(self.log_deviation)).sum(-1)

    def entropy(self):
        """[...], in nats: (log 2πe) / 2 + log deviation, of all actions together"""
        return (0.5 * jnp.log(2 * jnp.pi * jnp.e) + self.log_deviation).sum(-1)


def distribution(policy: Any) -> Any:
    """Of what `jann.models.ActorCritic` says; what has the methods of `Gaussian` already, a model's own, as it is."""
    if hasattr(policy, "log_probability"):
        return policy
    return Categorical(**policy) if "logits" in policy else Gaussian(**policy)
