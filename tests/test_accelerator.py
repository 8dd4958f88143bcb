"""On an accelerator: `pytest -m gpu tests/test_accelerator.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def accelerator():
    if jax.default_backend() == "cpu":
        pytest.skip("no accelerator: JAX runs on the CPU")


def trained(device):
    with jax.default_device(device):
        model = jann.models.VGG(inputs=1, outputs=10, widths=((8,), (16,)))
        digits = jann.data.load("digits")
        batches = jann.data.batches(digits.train, 64, jax.random.key(1), digits.standardise)
        step = jann.make_step(jann.objective(model), optax.sgd(0.1))
        state, history = jann.fit(step, batches, jann.start(model, optax.sgd(0.1), jax.random.key(0)), 20, every=5)
        return jax.device_get(jann.eval_params(state)), history["loss"]


def test_training_agrees_with_the_cpu():
    ours, loss = trained(jax.devices()[0])
    reference, expected = trained(jax.devices("cpu")[0])
    np.testing.assert_allclose(loss, expected, rtol=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), ours, reference)


def test_a_sweep_runs_side_by_side():
    def experiment(key, learning_rate):
        model = jann.models.MLP(inputs=4, hidden=(16,), outputs=3)
        optimizer = optax.adam(learning_rate)
        x = jax.random.normal(key, (64, 4))
        batch = {"image": x, "label": jnp.argmax(x[:, :3], -1)}
        step = jann.make_step(jann.objective(model), optimizer)
        state, history = jann.train(step, lambda i: batch, jann.start(model, optimizer, key), 100)
        return {"first": history["loss"][0], "last": history["loss"][-1]}

    swept = jann.sweep(experiment, seeds=16, learning_rate=[1e-3, 1e-2], progress=False)
    assert all(row["last"]["mean"] < row["first"]["mean"] for row in swept.rows())
