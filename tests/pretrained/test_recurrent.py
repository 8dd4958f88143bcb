"""RNN, LSTM and GRU equal PyTorch's with its weights: outputs, states and input gradients."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import jann
from jann.models import GRU, LSTM, RNN
from jann.pretrained import recurrent
from jann.pretrained.tables import WeightsError

FILE = Path(__file__).parent.parent / "goldens" / "recurrent.safetensors"
with safe_open(FILE, "np") as file:
    CASES = json.loads(file.metadata()["cases"])
ARRAYS = load_file(FILE)


def golden(name):
    """(model, arrays, weights) of a stored case."""
    case = CASES[name]
    model = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}[case["cell"]](3, 4, case["layers"], case["bidirectional"])
    if "nonlinearity" in case:
        model = RNN(3, 4, case["layers"], case["bidirectional"], activation=jax.nn.relu)
    arrays = {key.removeprefix(f"{name}/"): a for key, a in ARRAYS.items() if key.startswith(f"{name}/")}
    weights = {k.removeprefix("weights."): a for k, a in arrays.items() if k.startswith("weights.")}
    return model, arrays, weights


@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_input_gradients_are_those_of_torch(name):
    model, arrays, weights = golden(name)
    params = recurrent.from_torch(weights, model)

    @jax.jit
    def run(params, x):
        def loss(x):
            y, state = model.apply(params, x)
            ends = [layer[direction] for layer in state["layers"] for direction in model.directions]
            return (y**2).sum() / 2 + sum(end["hidden"].sum() for end in ends), (y, ends)

        return jax.grad(loss, has_aux=True)(x)

    grad, (y, ends) = run(params, arrays["x"])
    np.testing.assert_allclose(y, arrays["y"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grad, arrays["grad"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose([end["hidden"] for end in ends], arrays["h"], rtol=1e-5, atol=1e-5)
    if "c" in arrays:
        np.testing.assert_allclose([end["cell"] for end in ends], arrays["c"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["rnn_1", "lstm_2_both", "gru_3"])
def test_there_and_back(name):
    model, _, weights = golden(name)
    params = recurrent.from_torch({f"net.{k}": w for k, w in weights.items()}, prefix="net.")
    back = recurrent.to_torch(params, "net.")
    assert {name: array.shape for name, array in back.items()} == {f"net.{k}": w.shape for k, w in weights.items()}
    for k, w in weights.items():
        if k.startswith("weight"):
            np.testing.assert_array_equal(back[f"net.{k}"], w)
    again = recurrent.from_torch(back, model, "net.")
    jax.tree.map(np.testing.assert_array_equal, again, params)
    for suffix in {k.removeprefix("bias_ih") for k in weights if k.startswith("bias_ih")}:
        total = weights["bias_ih" + suffix] + weights["bias_hh" + suffix]
        ours = back["net.bias_ih" + suffix] + back["net.bias_hh" + suffix]
        np.testing.assert_allclose(ours, total, rtol=1e-6)


def test_without_biases():
    model, _, weights = golden("gru_2")
    params = recurrent.from_torch({k: w for k, w in weights.items() if k.startswith("weight")}, model)
    assert all(not np.any(leaf) for path, leaf in jann.flatten(params).items() if path.endswith("bias"))


def test_tensors_that_do_not_fit():
    model, _, weights = golden("lstm_2")
    del weights["weight_hh_l1"]
    with pytest.raises(WeightsError, match="weight_hh_l1: missing"):
        recurrent.from_torch(weights, model)
    model, _, weights = golden("lstm_2")
    with pytest.raises(WeightsError, match="weight_ih_l1: unexpected"):
        recurrent.from_torch(weights, LSTM(3, 4))
    with pytest.raises(WeightsError, match="weight_hr_l0: unexpected"):
        recurrent.from_torch({**weights, "weight_hr_l0": np.zeros((2, 4))})
    with pytest.raises(jann.ShapeError, match="layers/0/forward/input/weight"):
        recurrent.from_torch(weights, LSTM(3, 5, layers=2))
