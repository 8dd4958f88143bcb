"""Where a NaN came from."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jann
from jann.core import Model, stack
from jann.depth import apply_blocks, tap
from jann.layers import linear, linear_spec
from jann.models import MLP

X = jnp.linspace(-1, 1, 12).reshape(3, 4)
BATCH = {"x": X, "label": jnp.array([0, 1, 2])}


class Deep(Model):
    """Blocks of which one, or a layer after them, may take the logarithm of a negative number."""

    bad: int = -1
    listed: bool = False
    remat: bool = False

    def spec(self):
        block = linear_spec(4, 4)
        return {"blocks": [block] * 5 if self.listed else stack(block, layers=5), "head": linear_spec(4, 3)}

    def apply(self, params, x, state=None, key=None):
        def block(x, p, i):
            x = tap("sum", x + linear(p, x))
            return tap("wave", jnp.where(i == self.bad, jnp.log(-jnp.abs(x)), jnp.sin(x))), None

        x = tap("input", x)
        x, _ = apply_blocks(block, x, params["blocks"], jnp.arange(5), remat=self.remat)
        return tap("logits", linear(params["head"], x)), state


def diagnose(model, params, batch=None):
    return jann.diagnose(jann.objective(model, inputs="x"), params, BATCH if batch is None else batch)


@pytest.fixture(autouse=True)
def let_nans_be():
    with jax.debug_nans(False):
        yield


def test_all_is_well(key):
    found = diagnose(Deep(), Deep().init(key))
    assert found.origin is None and str(found).startswith("everything is finite")
    assert found.batch == found.params == found.activations == found.gradients == ()


@pytest.mark.parametrize("listed", [False, True], ids=["scanned", "unrolled"])
@pytest.mark.parametrize("remat", [False, True])
def test_the_layer_in_which_a_nan_arises_is_named(key, listed, remat):
    model = Deep(bad=2, listed=listed, remat=remat)
    found = diagnose(model, model.init(key))
    # in layer 3 both taps are bad, but the first of all is the second tap of layer 2
    assert found.origin == "activations: wave of layer 2"
    names = ("wave of layer 2", "sum of layer 3", "wave of layer 3", "sum of layer 4", "wave of layer 4", "logits")
    assert found.activations == names
    assert str(found).startswith("first not finite: activations: wave of layer 2 (loss nan)")


def test_a_middle_layer_of_an_mlp_is_named(key):
    def spike(x):  # infinite where the second layer's activations are large
        return jnp.where(x > 5, jnp.inf, x)

    model = MLP(inputs=4, hidden=(8, 8, 8), outputs=3, activation=spike)
    params = model.init(key)
    params["layers"][1]["bias"] = params["layers"][1]["bias"].at[3].set(100.0)
    found = diagnose(model, params)
    assert found.origin == "activations: hidden_1" and found.params == ()


def test_batch_and_parameters_come_before_activations(key):
    params = Deep().init(key)
    bad = {**BATCH, "x": X.at[1, 1].set(jnp.nan)}
    found = diagnose(Deep(), params, bad)
    assert found.origin == "batch: x" and found.batch == ("x",) and found.activations[0] == "input"
    params["head"]["bias"] = params["head"]["bias"].at[0].set(jnp.inf)
    found = diagnose(Deep(), params)
    assert found.origin == "params: head/bias" and found.activations == ("logits",)


def test_a_loss_or_a_gradient_of_its_own(key):
    params = {"a": jnp.zeros(2), "b": jnp.ones(2)}

    def rooted(params, batch, key, extra=None):  # the root of zero is fine, its slope is not
        return jnp.sqrt(params["a"]).sum() + params["b"].sum(), ({}, extra)

    found = jann.diagnose(rooted, params, jnp.ones(2))
    assert found.origin == "gradients: a" and found.loss == 2.0

    def infinite(params, batch, key, extra=None):
        return params["b"].sum() / params["a"].sum(), ({}, extra)

    assert jann.diagnose(infinite, params, jnp.ones(2)).origin == "the loss itself"


def test_the_state_of_a_run_can_be_given_whole(key):
    model = Deep()
    train_state = jann.start(model, optax.adam(1e-3), key)
    found = jann.diagnose(
        jann.objective(model, inputs="x"), train_state.params, BATCH, train_state.key, train_state.extra
    )
    assert found.origin is None
