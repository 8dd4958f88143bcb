"""The U-Net of segmentation: against PyTorch, its shapes, that it learns what needs a wide view."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.analysis import check_gradients
from jann.models import SegmentationUNet


def test_gradients_and_shapes(drawn):
    model = SegmentationUNet(2, 3, (2, 4, 6), groups=2, activation=jnp.tanh)
    params = drawn(model)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 12, 2)), jnp.float32)
    assert model(params, x).shape == (8, 12, 3)
    check_gradients(lambda params, x: (model(params, x) ** 2).sum(), params, x)
    many = jnp.stack([x, 2 * x])
    np.testing.assert_allclose(model(params, many)[1], model(params, 2 * x), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"takes images of multiples of 4 pixels, got \[8, 10, 2\]"):
        model(params, x[:, :10])
    with pytest.raises(ValueError, match=r"SegmentationUNet.groups=4 must divide the widths \[4, 6\]"):
        SegmentationUNet(widths=(4, 6), groups=4)


def test_it_equals_the_same_network_in_pytorch(drawn):
    torch = pytest.importorskip("torch")
    model = SegmentationUNet(1, 2, (4, 8), groups=2)
    params = jax.tree.map(jnp.asarray, drawn(model))
    x = np.random.default_rng(1).normal(size=(2, 6, 8, 1)).astype(np.float32)
    f = torch.nn.functional

    def t(array, *order):
        return torch.from_numpy(np.array(array).transpose(order) if order else np.array(array))

    def block(layers, y):
        for p in layers:
            y = f.conv2d(y, t(p["conv"]["weight"], 3, 2, 0, 1), padding=1)
            y = f.relu(f.group_norm(y, 2, t(p["norm"]["scale"]), t(p["norm"]["bias"])))
        return y

    first = block(params["down"][0], t(x, 0, 3, 1, 2))
    y = block(params["down"][1], f.max_pool2d(first, 2))
    up = params["up"][0]
    y = f.conv_transpose2d(y, t(up["enlarge"]["weight"], 2, 3, 0, 1), t(up["enlarge"]["bias"]), 2)
    y = block(up["block"], torch.cat([first, y], 1))
    want = f.conv2d(y, t(params["head"]["weight"], 3, 2, 0, 1), t(params["head"]["bias"]))
    np.testing.assert_allclose(model(params, x), want.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


def test_a_pixel_sees_far(drawn):
    model = SegmentationUNet(widths=(4, 4, 4), groups=0, activation=jnp.tanh)
    params, x = drawn(model), jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    moved = jax.grad(lambda x: model(params, x)[0, 16, 16, 0])(x)[0, :, :, 0]
    reach = np.ptp(np.nonzero(np.asarray(moved).any(1))[0]) + 1
    assert 20 <= reach <= 32


def test_it_learns_which_pixels_lie_inside_of_a_ring():
    def drawn_rings(key):
        centre = jax.random.uniform(key, (4, 2, 1, 1), minval=5, maxval=11)
        at = jnp.stack(jnp.meshgrid(jnp.arange(16.0), jnp.arange(16.0), indexing="ij"))[None]
        distance = jnp.sqrt(jnp.square(at - centre).sum(1))
        ring = jnp.abs(distance - 4) < 0.8
        return {"image": ring[..., None].astype(jnp.float32), "label": (distance < 3.2).astype(jnp.int32)}

    model, optimizer = SegmentationUNet(widths=(8, 16)), optax.adam(0.01)

    def loss(params, batch, key, extra=None):
        batch = drawn_rings(key)
        losses = jann.classification(model(params, batch["image"]), batch)["loss"]
        return losses.mean(), ({}, extra)

    state = jann.TrainState.start(jax.random.key(0), model.init(jax.random.key(1)), optimizer)
    state, _ = jann.train(jann.make_step(loss, optimizer), lambda step: step, state, 60)
    batch = drawn_rings(jax.random.key(2))
    right = jann.classification(model(state.params, batch["image"]), batch)["accuracy"]
    assert right.mean() > 0.97 > (batch["label"] == 0).mean() + 0.05
