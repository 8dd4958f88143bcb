"""The multilayer perceptron."""

from collections.abc import Callable
from itertools import pairwise

import jax

from jann.core import Model
from jann.depth import tap
from jann.drawing import fold
from jann.layers import dropout, linear, linear_spec


class MLP(Model):
    """Fully connected network: linear layers with an activation between them.

    Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors", Nature 323.
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: Callable = jax.nn.relu
    dropout: float = 0.0

    def spec(self):
        sizes = (self.inputs, *self.hidden, self.outputs)
        return {"layers": [linear_spec(a, b) for a, b in pairwise(sizes)]}

    def apply(self, params, x, state=None, key=None):
        """x[..., inputs] -> [..., outputs]"""
        *hidden, last = params["layers"]
        for i, p in enumerate(hidden):
            x = tap(f"hidden_{i}", self.activation(linear(p, x)))
            x = dropout(x, self.dropout, fold(key, f"dropout_{i}"))
        return linear(last, x), state
