"""A policy and a value function of what is observed, side by side."""

from collections.abc import Callable
from itertools import pairwise

import jax.numpy as jnp

from jann.core import Model, Param
from jann.depth import tap
from jann.layers import linear, linear_spec
from jann.layers.initializers import orthogonal, zeros


class ActorCritic(Model):
    """Two networks of the same hidden sizes: one proposes actions, the other tells how much is still to be gained.

    The networks and starts of Andrychowicz et al. 2021, "What matters for on-policy deep actor-critic methods?", ICLR:
    orthogonal kernels, the policy's last a hundred times smaller, so that at first it does everything alike.

    actions:     how many there are to choose from; or, where `continuous`, how many numbers an action has
    continuous:  the policy's outputs are the means of Gaussians, whose deviations do not depend on what is observed
    """

    observations: int
    actions: int
    hidden: tuple[int, ...] = (64, 64)
    activation: Callable = jnp.tanh
    continuous: bool = False

    def spec(self):
        def network(outputs, scale):
            sizes = (self.observations, *self.hidden)
            hidden = [linear_spec(a, b, True, orthogonal(2**0.5)) for a, b in pairwise(sizes)]
            return [*hidden, linear_spec(sizes[-1], outputs, True, orthogonal(scale))]

        spec = {"policy": network(self.actions, 0.01), "value": network(1, 1.0)}
        if self.continuous:
            spec["log_deviation"] = Param({"actions": self.actions}, zeros)
        return spec

    def apply(self, params, x, state=None, key=None):
        """x[..., observations] -> ({"logits"} or {"mean", "log_deviation"}: [..., actions]; the value, [...])"""

        def network(name):
            *hidden, last = params[name]
            y = x
            for i, p in enumerate(hidden):
                y = tap(f"{name}_{i}", self.activation(linear(p, y)))
            return linear(last, y)

        y = network("policy")
        policy = {"logits": y}
        if self.continuous:
            policy = {"mean": y, "log_deviation": jnp.broadcast_to(params["log_deviation"], y.shape).astype(y.dtype)}
        return (policy, network("value")[..., 0]), state
