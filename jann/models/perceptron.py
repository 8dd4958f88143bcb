"""The perceptron with its learning rule, and the sigmoid neuron that replaced its threshold."""

import jax
import jax.numpy as jnp
from jax import lax

from jann.core import Model
from jann.layers import linear, linear_spec, threshold, zeros
from jann.trees import Tree


class Perceptron(Model):
    """One unit that says 1 where its weighted sum of the inputs exceeds zero, else 0.

    Learns by `perceptron_rule`: its threshold has no gradient.

    Rosenblatt 1958, "The perceptron: a probabilistic model for information storage and organization in the brain",
    Psychological Review 65.
    """

    inputs: int

    def spec(self):
        return linear_spec(self.inputs, 1, init=zeros)

    def apply(self, params, x, state=None, key=None):
        """x[..., inputs] -> 1 where w·x + b > 0, else 0, [...]"""
        return threshold(linear(params, x)[..., 0]), state


class Neuron(Model):
    """One unit with a smooth response, so that gradients can teach it; trained on cross-entropy, logistic regression.

    Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors", Nature 323.
    """

    inputs: int

    def spec(self):
        return linear_spec(self.inputs, 1)

    def apply(self, params, x, state=None, key=None):
        """x[..., inputs] -> sigmoid(w·x + b), [...]"""
        return jax.nn.sigmoid(linear(params, x)[..., 0]), state


def perceptron_rule(params: Tree, x: jax.Array, y: jax.Array, learning_rate: float = 1.0) -> Tree:
    """One example x[inputs] with its label y (0 or 1) -> parameters moved by learning_rate (y - output) x.

    An example that is classified rightly moves nothing.
    """
    error = (y - threshold(linear(params, x)[0])).astype(x.dtype)
    return {
        "weight": params["weight"] + learning_rate * error * x[:, None],
        "bias": params["bias"] + learning_rate * error,
    }


def perceptron_epoch(
    params: Tree, x: jax.Array, y: jax.Array, learning_rate: float = 1.0
) -> tuple[Tree, jax.Array]:
    """Examples x[examples, inputs], y[examples] in turn through `perceptron_rule` -> (parameters, mistakes).

    mistakes:  how many examples moved the parameters; none means that a hyperplane separates the two labels.

    Where one does with margin γ, and no example is longer than R (both with a constant input 1 for the bias), the
    epochs together make at most (R / γ)² mistakes (Novikoff 1962).
    """

    def update(params, example):
        x, y = example
        mistake = threshold(linear(params, x)[0]) != y
        return perceptron_rule(params, x, y, learning_rate), mistake

    params, mistakes = lax.scan(update, params, (x, y))
    return params, mistakes.sum(dtype=jnp.int32)
