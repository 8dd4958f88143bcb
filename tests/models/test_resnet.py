"""ResNets against PyTorch: published weights, training mode, gradients."""

import dataclasses
import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import jann
from jann.models import ResNet, resnet18, resnet20, resnet50
from jann.pretrained.resnet import from_torch, to_torch

STORED = {
    "resnet18": resnet18(10, 8),
    "resnet50_short": dataclasses.replace(resnet50(10, 4), depths=(1, 2, 1, 1)),
}


@pytest.fixture(params=STORED)
def stored(request):
    path = Path(__file__).parents[1] / "goldens" / f"{request.param}.safetensors"
    with safe_open(path, "numpy") as file:
        case = json.loads(file.metadata()["case"])
    golden = load_file(path)
    model = STORED[request.param]
    assert list(model.depths) == case["depths"] and model.widths[0] == case["width"]
    weights = {name.removeprefix("weights."): a for name, a in golden.items() if name.startswith("weights.")}
    return model, from_torch(weights, model), golden


def test_evaluation_equals_pytorch(stored):
    model, params, golden = stored
    np.testing.assert_allclose(jax.jit(model)(params, golden["x"]), golden["eval"], rtol=1e-4, atol=1e-4)


def test_training_mode_equals_pytorch(stored):
    """Logits, running statistics after one update with momentum 0.1, and gradients of the loss."""
    model, params, golden = stored
    trained, running = jann.split(model, params)

    def loss(trained):
        logits, statistics = model.apply(trained, golden["x"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, golden["labels"])
        return losses.mean(), (logits, statistics)

    (_, (logits, statistics)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(trained)
    np.testing.assert_allclose(logits, golden["train"], rtol=1e-4, atol=1e-4)

    after = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, running, statistics)
    after = to_torch(jann.combine(trained, after))
    running_names = [name for name in golden if name.startswith("after.")]
    assert len(running_names) == len(jann.flatten(running))
    for name in running_names:
        np.testing.assert_allclose(after[name.removeprefix("after.")], golden[name], rtol=1e-4, atol=1e-5)

    grads = to_torch(jann.combine(grads, running))
    for name in (name for name in golden if name.startswith("grad.")):
        want = golden[name]
        np.testing.assert_allclose(grads[name.removeprefix("grad.")], want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


def test_weights_go_there_and_back(stored):
    model, params, golden = stored
    tensors = to_torch(params)
    assert {f"weights.{name}" for name in tensors} == {name for name in golden if name.startswith("weights.")}
    for name, tensor in tensors.items():
        assert tensor.tobytes() == golden[f"weights.{name}"].tobytes()


def test_weights_that_do_not_fit_are_named(key):
    model = ResNet(3, 4, (1, 1), (2, 3), shortcut="B")
    tensors = to_torch(model.init(key))
    assert {"linear.weight", "layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.running_var"} <= tensors.keys()
    again = from_torch({**tensors, "bn1.num_batches_tracked": np.array(5)}, model)
    jann.check(model, again)
    tensors["layer9.surprise"] = tensors.pop("layer1.0.conv2.weight")
    tensors["layer3.0.conv1.weight"] = np.zeros((2, 2, 3, 3), np.float32)
    message = r"layer1.0.conv2.weight: missing\n.*layer9.surprise: unexpected\n.*layer3.0.conv1.weight: unexpected"
    with pytest.raises(ValueError, match=message):
        from_torch(tensors, model)
    with pytest.raises(ValueError, match=r"layer9\.surprise: unexpected"):
        from_torch(tensors)


@pytest.fixture(scope="module")
def cifar_weights(goldens):
    return goldens / "real-cifar-resnet20", load_file(goldens / "real-cifar-resnet20" / "model.safetensors")


def test_published_weights_give_the_published_activations(cifar_weights):
    folder, tensors = cifar_weights
    golden = load_file(folder / "io.safetensors")
    tolerance = 20 * json.loads((folder / "io.json").read_text())["outputs"]["logits"]["max_abs_err_f32_vs_f64"]
    model = resnet20()
    params = from_torch(tensors, model)
    logits, taps = jax.jit(jann.observe(model))(params, golden["in.pixel_values"].transpose(0, 2, 3, 1))
    np.testing.assert_allclose(logits, golden["out.logits"], rtol=0, atol=tolerance)
    for i, name in enumerate(("stem", "stage_0", "stage_1", "stage_2")):
        want = golden[f"out.stage{i}"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(taps[name], want, rtol=0, atol=tolerance)
    written = to_torch(params)
    assert written.keys() == tensors.keys()
    assert all(written[name].tobytes() == tensors[name].tobytes() for name in tensors)


def test_published_weights_classify_cifar10(cifar_weights, real_data):
    """91.6 % of the 2,000 images; the authors state 91.7-92.6 % on all 10,000."""
    records = gzip.decompress((real_data / "cifar10" / "cifar10_test2k.bin.gz").read_bytes())
    records = np.frombuffer(records, np.uint8).reshape(-1, 3073)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) / 255
    images = np.float32((images - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225))
    params, predict = from_torch(cifar_weights[1]), jax.jit(resnet20())
    logits = np.concatenate([predict(params, part) for part in np.split(images, 8)])
    accuracy = (logits.argmax(-1) == records[:, 0]).mean()
    assert accuracy == pytest.approx(0.916, abs=0.002)


def test_shortcut_a_by_hand(key):
    """With convolutions that put out nothing, a block is its shortcut: every second place, zeros on both sides."""
    model = ResNet(4, 2, (1, 1), (4, 8), activation=jnp.abs)
    params = jax.tree.map(jnp.zeros_like, model.init(key))
    params["stem"]["conv"]["weight"] = params["stem"]["conv"]["weight"].at[1, 1].set(jnp.eye(4))
    params["stem"]["norm"] = {**params["stem"]["norm"], "scale": jnp.ones(4), "variance": jnp.ones(4) - 1e-5}
    x = jax.random.uniform(key, (6, 6, 4))
    _, taps = jann.observe(model)(params, x)
    want = np.zeros((3, 3, 8), np.float32)
    want[..., 2:6] = x[::2, ::2]
    np.testing.assert_allclose(taps["stage_1"], want, rtol=1e-5, atol=1e-6)


def test_fields_are_checked():
    with pytest.raises(ValueError, match="ResNet.block must be one of basic, bottleneck, got 'wide'"):
        ResNet(block="wide")
    with pytest.raises(ValueError, match="a width for each stage"):
        ResNet(depths=(1, 1))
