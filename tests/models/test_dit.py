"""The diffusion transformer: starts as the identity, sees its conditions, agrees with itself however it is called."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.analysis import check_gradients
from jann.models import DiT

SMALL = DiT(size=4, inputs=2, patch=2, embed=8, depth=3, heads=2, mlp=12, classes=3)


@pytest.fixture
def made(drawn, key):
    return drawn(SMALL), jax.random.normal(key, (3, 4, 4, 2)), jnp.array([3, 500, 900]), jnp.array([0, 2, 1])


def test_before_training_every_block_is_the_identity(key):
    """adaLN-Zero: all gates are zero, and so is the last layer."""
    params = jax.jit(SMALL.init)(key)
    x = jax.random.normal(key, (2, 4, 4, 2))
    y, taps = jann.observe(SMALL)(params, x, 7, jnp.array([0, 1]))
    assert not y.any()
    np.testing.assert_array_equal(taps["block"][0], taps["block"][2])
    assert taps["block"].std() > 0.1
    # The first step moves the last layer only, and the gates follow.
    grads = jann.flatten(jax.grad(lambda p: jnp.square(SMALL(p, x, 7, jnp.array([0, 1])) - x).sum())(params))
    assert {path for path, grad in grads.items() if np.abs(grad).max() > 0} == {"head/weight", "head/bias"}


def test_patches_are_squares_and_go_back(key):
    x = jnp.arange(2 * 4 * 4 * 2.0).reshape(2, 4, 4, 2)
    patches = SMALL._patches(x)
    np.testing.assert_array_equal(patches[1, 1], x[1, :2, 2:].reshape(-1))  # first row, second column
    np.testing.assert_array_equal(patches[0, 2], x[0, 2:, :2].reshape(-1))
    np.testing.assert_array_equal(SMALL._image(patches), x)


def test_one_block_by_hand(drawn):
    """x + gate · attention(modulated norm), then the same of the MLP, worked in NumPy for one head."""
    model = DiT(size=2, inputs=1, patch=1, embed=4, depth=1, heads=1, mlp=6)
    params = drawn(model)
    p = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), params["blocks"])
    x, condition = np.random.default_rng(0).normal(size=(4, 4)), np.random.default_rng(1).normal(size=(1, 4))
    parts = (condition @ p["modulation"]["weight"].reshape(4, 24)).reshape(6, 4) + p["modulation"]["bias"]
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts

    def norm(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    def dense(name, x):
        layer = p["attention"][name]
        return x @ layer["weight"].reshape(4, 4) + layer["bias"].reshape(4)

    y = norm(x) * (1 + scale) + shift
    scores = dense("query", y) @ dense("key", y).T / 2
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = x + gate * dense("out", weights @ dense("value", y))
    y = norm(wanted) * (1 + mlp_scale) + mlp_shift
    hidden = np.asarray(jax.nn.gelu(y @ p["up"]["weight"] + p["up"]["bias"]))
    wanted = wanted + mlp_gate * (hidden @ p["down"]["weight"] + p["down"]["bias"])
    block = jax.tree.map(lambda leaf: leaf[0], params["blocks"])
    got, _ = model._block(jnp.asarray(x, jnp.float32), block, jnp.asarray(condition, jnp.float32))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


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


def test_listed_and_stacked_blocks_agree(made):
    params, x, times, labels = made
    listed = {**params, "blocks": jann.unstacked(params["blocks"])}
    np.testing.assert_allclose(
        jax.jit(SMALL)(listed, x, times, labels), jax.jit(SMALL)(params, x, times, labels), atol=1e-5
    )


def test_places_matter(made):
    """Without positions, exchanged patches would come out exchanged and otherwise the same."""
    params, x, times, labels = made
    turned = jnp.roll(x, 2, axis=-2)
    model = jax.jit(SMALL)
    moved = model(params, turned, times, labels) - jnp.roll(model(params, x, times, labels), 2, axis=-2)
    assert np.abs(moved).max() > 1e-3


def test_gradients(made):
    params, x, times, labels = made
    weights = jax.random.normal(jax.random.key(3), x.shape)
    check_gradients(lambda p, x: (SMALL(p, x, times, labels) * weights).sum(), params, x, tolerance=1e-4)


def test_sizes_of_the_paper():
    """Parameters of DiT-S/2 and DiT-B/2 for ImageNet latents: 33 and 130 million (Peebles and Xie, table 1).

    Theirs put out a variance for each channel too, which ours do not.
    """
    assert round(jann.count(DiT(classes=1001)) / 1e6) == 33
    assert round(jann.count(DiT(embed=768, heads=12, classes=1001)) / 1e6) == 130
    assert jann.from_json(json.loads(json.dumps(jann.to_json(SMALL)))) == SMALL


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: DiT(size=28, patch=5), "must divide its size 28, got 5"),
        (lambda p: DiT(embed=6), "multiple of 4"),
        (lambda p: SMALL(p, jnp.ones((5, 4, 2)), 0, 0), r"takes x\[..., 4, 4, 2\], got \[5, 4, 2\]"),
        (lambda p: SMALL(p, jnp.ones((4, 4, 2)), 0), "a label is for a DiT with classes, and then always: classes=3"),
    ],
)
def test_bad_input(call, message, drawn):
    with pytest.raises(ValueError, match=message):
        call(drawn(SMALL))
