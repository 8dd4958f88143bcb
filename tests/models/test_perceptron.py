"""The perceptron learns what Novikoff's theorem says, and not XOR."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_iris

from jann.models import Neuron, Perceptron, perceptron_epoch, perceptron_rule

LOGIC = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def test_updates_by_hand(key):
    params = Perceptron(2).init(key)
    x = jnp.array([2.0, -1.0])
    params = perceptron_rule(params, x, jnp.array(1), 0.5)  # output 0, wanted 1
    np.testing.assert_array_equal(params["weight"], [[1.0], [-0.5]])
    np.testing.assert_array_equal(params["bias"], [0.5])
    params = perceptron_rule(params, x, jnp.array(1), 0.5)  # 2 + 0.5 + 0.5 > 0: right, so nothing moves
    np.testing.assert_array_equal(params["weight"], [[1.0], [-0.5]])
    params = perceptron_rule(params, jnp.array([1.0, 1.0]), jnp.array(0), 0.5)  # 1 - 0.5 + 0.5 > 0, wanted 0
    np.testing.assert_array_equal(params["weight"], [[0.5], [-1.0]])
    np.testing.assert_array_equal(params["bias"], [0.0])


def test_an_epoch_is_the_rule_example_by_example(key):
    x = jax.random.normal(key, (20, 3))
    y = (x[:, 0] > 0.2).astype(jnp.int32)
    params, mistakes = perceptron_epoch(Perceptron(3).init(key), x, y)
    want, wrong = Perceptron(3).init(key), 0
    for example, label in zip(x, y, strict=True):
        wrong += int(Perceptron(3)(want, example) != label)
        want = perceptron_rule(want, example, label)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, want)
    assert mistakes == wrong > 0


def test_converges_within_novikoffs_bound(key):
    """Iris: setosa has petals below 2.45 cm and no other species has, which gives a margin."""
    data = load_iris()
    x, y = np.float32(data.data), np.int32(data.target == 0)
    longest = np.sqrt((x**2).sum(1) + 1).max()
    margin = np.abs(2.45 - x[:, 2]).min() / np.sqrt(1 + 2.45**2)
    bound = (longest / margin) ** 2
    params, total, epochs = Perceptron(4).init(key), 0, 0
    epoch = jax.jit(perceptron_epoch)
    while True:
        params, mistakes = epoch(params, x, y)
        total, epochs = total + int(mistakes), epochs + 1
        if mistakes == 0:
            break
        assert total <= bound
    assert 0 < total <= bound
    np.testing.assert_array_equal(Perceptron(4)(params, x), y)


def test_learns_or_and_never_xor(key):
    epoch = jax.jit(perceptron_epoch)

    def mistakes(y, epochs):
        params, counts = Perceptron(2).init(key), []
        for _ in range(epochs):
            params, n = epoch(params, LOGIC, jnp.array(y))
            counts.append(int(n))
        return counts

    assert mistakes([0, 1, 1, 1], 20)[-1] == 0
    assert min(mistakes([0, 1, 1, 0], 200)) > 0


def test_neuron_is_logistic(key):
    params = {"weight": jnp.array([[1.0], [2.0]]), "bias": jnp.array([-0.5])}
    np.testing.assert_allclose(Neuron(2)(params, jnp.array([[1.0, 0.25]])), [1 / (1 + np.exp(-1.0))], rtol=1e-6)
