"""The U-Net of diffusion against diffusers' outputs for its weights, and what it does with time and labels."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import jann
from jann.analysis import check_gradients
from jann.models import UNet
from jann.pretrained import unet
from jann.pretrained.tables import WeightsError

FILE = Path(__file__).parent.parent / "goldens" / "unet.safetensors"
SMALL = UNet(1, 1, (4, 6), 1, (1,), head=3, groups=2, classes=3, dropout=0.3)


@pytest.fixture
def published():
    """(configuration, weights, other tensors) of a small UNet2DModel with three levels and labels."""
    with safe_open(FILE, "np") as file:
        config = json.loads(file.metadata()["config"])
    tensors = load_file(FILE)
    weights = {name.removeprefix("weights."): v for name, v in tensors.items() if name.startswith("weights.")}
    return config, weights, tensors


def test_equals_diffusers(published):
    config, weights, tensors = published
    model = unet.model_of(config)
    params = unet.from_diffusers(weights, model)
    y = jax.jit(model)(params, tensors["x"], tensors["times"], tensors["labels"])
    np.testing.assert_allclose(y, tensors["y"], atol=2e-5)


def test_equals_the_shared_golden(goldens):
    folder = goldens / "unet2d-ddpm"
    model = unet.model_of(json.loads((folder / "config.json").read_text()))
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    params, given = unet.from_diffusers(weights, model), load_file(folder / "io.safetensors")
    y = jax.jit(model)(params, np.moveaxis(given["in.plain.sample"], 1, -1), given["in.plain.timestep"])
    error = json.loads((folder / "io.json").read_text())["outputs"]["plain.sample"]["max_abs_err_f32_vs_f64"]
    assert np.abs(np.moveaxis(y, -1, 1) - given["out.plain.sample"]).max() < 20 * error


def test_weights_go_back_as_they_came(published):
    config, weights, _ = published
    model = unet.model_of(config)
    back = unet.to_diffusers(unet.from_diffusers(weights, model))
    assert back.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value)

    # Weights from before 2023 name the same tensors of attention otherwise.
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in weights.items():
        for new, spelling in old.items():
            name = name.replace(f".{new}.", f".{spelling}.")
        renamed[name] = value
    assert renamed.keys() != weights.keys()
    params, again = unet.from_diffusers(weights, model), unet.from_diffusers(renamed, model)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params, again)))

    del weights["conv_in.bias"]
    with pytest.raises(WeightsError, match="conv_in.bias: missing"):
        unet.from_diffusers(weights, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip_sin_to_cos": True, "act_fn": "relu"}, "act_fn='relu', flip_sin_to_cos=True"),
        ({"up_block_types": ["UpBlock2D"] * 3}, "down_block_types=.*with up_block_types="),
        ({"down_block_types": ["SkipDownBlock2D"] * 3}, "SkipDownBlock2D"),
    ],
)
def test_other_configurations_are_refused(published, changes, message):
    with pytest.raises(ValueError, match=message):
        unet.model_of({**published[0], **changes})


@pytest.fixture
def made(drawn, key):
    return drawn(SMALL), jax.random.normal(key, (3, 4, 4, 1)), jnp.array([3, 500, 900]), jnp.array([0, 2, 1])


def test_any_leading_axes_agree_and_one_time_serves_all(made):
    params, x, times, labels = made

    @jax.jit
    def each_way(params, x):
        same = SMALL(params, x, jnp.full(3, 500), labels), SMALL(params, x, 500, labels)
        more = SMALL(params, x[1], times[1], labels[1]), SMALL(params, x[None], times[None], labels[None])[0]
        return SMALL(params, x, times, labels), *more, *same, SMALL(params, x.astype(jnp.bfloat16), times, labels)

    batch, one, more, each, same, half = each_way(params, x)
    np.testing.assert_allclose(one, batch[1], atol=1e-4)
    np.testing.assert_allclose(more, batch, atol=1e-4)
    np.testing.assert_allclose(same, each, atol=1e-4)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), batch, atol=0.3, rtol=0.1)


def test_time_and_label_matter_for_their_own_image_only(made):
    params, x, times, labels = made
    model = jax.jit(SMALL)
    y = model(params, x, times, labels)
    for other in (model(params, x, times.at[1].set(400), labels), model(params, x, times, labels.at[1].set(0))):
        np.testing.assert_array_equal(other[::2], y[::2])
        assert np.abs(other[1] - y[1]).max() > 1e-3


def test_gradients(made):
    params, x, times, labels = made
    weights = jax.random.normal(jax.random.key(3), x[:2].shape)
    check_gradients(
        lambda p, x: (SMALL(p, x, times[:2], labels[:2]) * weights).sum(), params, x[:2], tolerance=1e-4
    )


def test_noise_needs_a_key(made):
    params, x, times, labels = made
    noisy = jax.jit(lambda key: SMALL(params, x, times, labels, key=key))
    quiet = jax.jit(SMALL)(params, x, times, labels)
    first = noisy(jax.random.key(0))
    np.testing.assert_array_equal(first, noisy(jax.random.key(0)))
    assert np.abs(first - quiet).max() > 1e-3 and np.abs(first - noisy(jax.random.key(1))).max() > 1e-3


def test_every_place_is_observed_by_its_name(made):
    params, x, times, labels = made
    y, taps = jax.jit(jann.observe(SMALL))(params, x, times, labels)
    blocks = ["down_0_0", "down_1_0", "middle_0", "middle_1", "up_0_0", "up_0_1", "up_1_0", "up_1_1"]
    attending = ["down_1_0", "middle_0", "up_0_0", "up_0_1"]
    assert taps.keys() == {"condition", *(f"{b}/block" for b in blocks), *(f"{b}/attention" for b in attending)}
    np.testing.assert_allclose(y, jax.jit(SMALL)(params, x, times, labels), atol=1e-5)
    np.testing.assert_allclose(taps["middle_0/attention"].sum(-1), 1, rtol=1e-5)


def test_a_fresh_one_says_nothing(made, key):
    """The last convolution starts at zero, so the first loss of diffusion is that of no guess."""
    params, x, times, labels = made
    params = {**params, "head": jann.init(SMALL.spec()["head"], key)}
    assert not jax.jit(SMALL)(params, x, times, labels).any()
    assert jann.from_json(json.loads(json.dumps(jann.to_json(SMALL)))) == SMALL


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: UNet(attention=(4,)), "levels 0 to 3"),
        (lambda p: UNet(widths=(32, 40)), r"groups=32 must divide the widths \[32, 40\]"),
        (lambda p: SMALL(p, jnp.ones((5, 4, 1)), 0, 0), "halves images 1 times"),
        (lambda p: SMALL(p, jnp.ones((4, 4, 1)), 0), "a label is for a UNet with classes, and then always: classes=3"),
    ],
)
def test_bad_input(call, message, drawn):
    with pytest.raises(ValueError, match=message):
        call(drawn(SMALL))
