"""PatchTST: Hugging Face's outputs with its weights, patches and channels by hand, level and size."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import jann
from jann.models import PatchTST
from jann.pretrained import patchtst
from jann.pretrained.tables import WeightsError

SMALL = PatchTST(lookback=10, horizon=3, patch=4, stride=3, embed=4, heads=2, hidden=6, layers=2)


@pytest.fixture(scope="module")
def golden(goldens):
    folder = goldens / "patchtst"
    model = patchtst.from_config(json.loads((folder / "config.json").read_text()))
    tensors, stored = load_file(folder / "model.safetensors"), load_file(folder / "io.safetensors")
    errors = json.loads((folder / "io.json").read_text())["outputs"]
    return model, tensors, stored, errors["plain.prediction_outputs"]["max_abs_err_f32_vs_f64"]


def test_outputs_and_gradients_are_hugging_faces(golden):
    model, tensors, stored, error = golden
    params = patchtst.from_torch(tensors, model)
    output = jax.jit(model)(params, stored["in.plain.past_values"])
    np.testing.assert_allclose(output, stored["out.plain.prediction_outputs"], rtol=0, atol=20 * error)

    def loss(params):
        return jnp.square(model(params, stored["in.loss.past_values"]) - stored["in.loss.future_values"]).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, stored["out.loss.value"], rtol=1e-6)
    grads = patchtst.to_torch(grads)
    for name in (name for name in stored if name.startswith("out.grad.")):
        np.testing.assert_allclose(grads[name[len("out.grad.") :]], stored[name], rtol=1e-4, atol=1e-4)


def test_weights_go_back_as_they_came(golden):
    model, tensors, *_ = golden
    back = patchtst.to_torch(patchtst.from_torch(tensors, model))
    assert back.keys() == {name for name in tensors if "num_batches_tracked" not in name}
    for name in back:
        np.testing.assert_array_equal(back[name], tensors[name])


def test_missing_and_unexpected_tensors_are_named(golden):
    model, tensors, *_ = golden
    name = "model.encoder.layers.1.ff.3.weight"
    with pytest.raises(WeightsError, match=f"{name}: missing"):
        patchtst.from_torch({n: t for n, t in tensors.items() if n != name}, model)
    with pytest.raises(WeightsError, match="head.more: unexpected"):
        patchtst.from_torch({**tensors, "head.more": tensors["head.projection.bias"]}, model)
    with pytest.raises(ValueError, match="PatchTST has no channel_attention=True, only False"):
        patchtst.from_config({"channel_attention": True})


def test_patches_end_with_the_last_step_and_overlap():
    model = PatchTST(lookback=11, horizon=1, patch=4, stride=3)
    assert model.patches == 3
    got = model._patched(np.arange(11.0)[None])
    np.testing.assert_array_equal(got, [[[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]]])


def test_channels_are_forecast_each_for_itself_and_follow_their_level(drawn):
    params = drawn(SMALL)
    x = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
    run = jax.jit(SMALL)
    before = run(params, x)
    moved = x.copy()
    moved[..., 1] = 20 * moved[..., 1] - 5
    after = run(params, moved)
    np.testing.assert_array_equal(after[..., [0, 2]], before[..., [0, 2]])
    np.testing.assert_allclose(after[..., 1], 20 * before[..., 1] - 5, rtol=1e-3, atol=1e-3)


def test_a_list_of_blocks_is_the_stack(drawn):
    params = drawn(SMALL)
    x = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
    listed = {**params, "blocks": jann.unstacked(params["blocks"])}
    np.testing.assert_allclose(jax.jit(SMALL)(listed, x), jax.jit(SMALL)(params, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": "group"}, "PatchTST.norm must be one of batch, layer, got 'group'"),
        ({"lookback": 3}, "PatchTST.patch=4 is longer than lookback=3"),
    ],
)
def test_what_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        PatchTST(**{"lookback": 10, "horizon": 3, "patch": 4, **fields})


def test_a_window_of_another_length_is_named(drawn):
    with pytest.raises(ValueError, match=r"looks back on 10 steps, got x\[..., 9, channels\]"):
        SMALL(drawn(SMALL), jnp.zeros((2, 9, 3)))
