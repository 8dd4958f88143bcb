"""Layers against PyTorch's stored outputs, published formulas and properties."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jann import ShapeError, init, layers
from jann.analysis import check_gradients
from jann.layers import conv_spec

FILE = Path(__file__).parents[1] / "goldens" / "layers.safetensors"
GOLDEN = load_file(FILE)
with safe_open(FILE, "numpy") as file:
    CASES = json.loads(file.metadata()["cases"])


def cases(kind):
    return [pytest.param(kind + "/" + name, case, id=name) for name, case in CASES[kind].items()]


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# convolution and pooling


@pytest.mark.parametrize(("name", "case"), cases("conv"))
def test_conv_equals_pytorch(name, case):
    p = {"weight": GOLDEN[f"{name}/weight"], "bias": GOLDEN[f"{name}/bias"]}
    spec = layers.conv_spec(case["inputs"], case["outputs"], (case["window"],) * case["dims"], case["groups"])
    assert {n: param.shape for n, param in spec.items()} == {n: array.shape for n, array in p.items()}
    y = layers.conv(p, GOLDEN[f"{name}/x"], case["stride"], case["padding"], case["dilation"], case["groups"])
    close(y, GOLDEN[f"{name}/y"], 3e-5)


def test_windows_and_channels_that_do_not_fit_are_refused():
    p = {"weight": jnp.ones((3, 3, 1, 6))}
    with pytest.raises(ShapeError, match=r"takes x\[..., size, size, 1\], got \[2, 8, 8, 3\]"):
        layers.conv(p, jnp.ones((2, 8, 8, 3)))  # three groups only where they are asked for
    assert layers.conv(p, jnp.ones((2, 8, 8, 3)), groups=3).shape == (2, 8, 8, 6)
    x = jnp.ones((2, 2, 2, 1))
    for call, message in (
        (lambda: layers.conv(p, x, padding="valid"), r"leaves nothing by window \[3, 3\], dilation \[1, 1\] and pad"),
        (lambda: layers.max_pool(x, (3, 3)), r"x of shape \[2, 2, 2, 1\] leaves nothing by window \[3, 3\]"),
        (lambda: layers.average_pool(x, (2, 2), padding=2), "a window would see nothing but padding"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    number = np.int64(2)
    for call in (lambda: layers.max_pool(x, 2), lambda: layers.average_pool(x, number), lambda: conv_spec(1, 4, 2)):
        with pytest.raises(TypeError, match=r"window is a tuple, a size for each dimension: write \(2, 2\) for two"):
            call()
    four, p4 = (2,) * 4, {"weight": jnp.ones((2,) * 6)}
    for call in (lambda: conv_spec(1, 4, four), lambda: layers.conv(p4, x), lambda: layers.conv_transpose(p4, x)):
        with pytest.raises(ValueError, match=r"a window of one to three dimensions, got \[2, 2, 2, 2\]"):
            call()
    assert layers.average_pool(jnp.ones((3, 3, 3, 3, 1)), four, np.int32(1)).shape == (2, 2, 2, 2, 1)
    np.testing.assert_array_equal(layers.conv(p, x, padding=(1, 1)), layers.conv(p, x, padding=1))
    assert layers.conv(p, jnp.ones((0, 4, 4, 1))).shape == (0, 4, 4, 6)


@pytest.mark.parametrize(("name", "case"), cases("conv_transpose"))
def test_conv_transpose_equals_pytorch(name, case):
    p = {"weight": GOLDEN[f"{name}/weight"], "bias": GOLDEN[f"{name}/bias"]}
    y = layers.conv_transpose(p, GOLDEN[f"{name}/x"], case["stride"], case["padding"])
    close(y, GOLDEN[f"{name}/y"], 3e-5)


@pytest.mark.parametrize("padding", ["same", "valid", 1])
def test_conv_transpose_is_the_gradient_of_conv(padding, key):
    """<conv(x), y> = <x, conv_transpose(y)> with the kernel's inputs and outputs exchanged."""
    weight = jax.random.normal(key, (4, 4, 3, 5))
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3)) if padding != "valid" else jnp.ones((2, 8, 8, 3))
    y, pullback = jax.vjp(lambda x: layers.conv({"weight": weight}, x, 2, padding), x)
    cotangent = jax.random.normal(jax.random.key(2), y.shape)
    transposed = layers.conv_transpose({"weight": weight.swapaxes(-1, -2)}, cotangent, 2, padding)
    close(transposed, pullback(cotangent)[0], 3e-5)


@pytest.mark.parametrize(
    ("window", "stride", "padding"),
    [((4, 4), 2, "same"), ((5, 3), 2, "same"), ((2, 2), 3, "valid"), ((3,), (1,), 1), ((4,), 3, [(2, -1)]),
     ((3, 2, 4), (1, 2, 3), "same")],
)  # fmt: skip
def test_conv_transpose_equals_the_convolution_of_the_spread_input(window, stride, padding, key):
    """The form for CPUs against that for accelerators, output and gradients, in one to three dimensions."""
    weight = jax.random.normal(key, (*window, 2, 3))
    x = jax.random.normal(jax.random.key(1), (2, 3, 4, 5)[: 1 + len(window)] + (2,))
    stride = (stride,) * len(window) if isinstance(stride, int) else stride

    def dilated(weight, x):
        if padding == "same":
            return layers.convolution._dilated_convolution(x, weight, stride, "SAME")
        number = {"valid": 0}.get(padding, padding) if not isinstance(padding, list) else None
        sides = padding if number is None else [(number, number)] * len(window)
        pads = [(w - 1 - a, w - 1 - b) for w, (a, b) in zip(window, sides, strict=True)]
        return layers.convolution._dilated_convolution(x, weight, stride, pads)

    def ours(weight, x):
        return layers.conv_transpose({"weight": weight}, x, stride, padding)

    @jax.jit
    def output_and_gradients(weight, x):
        cotangent = jax.random.normal(jax.random.key(2), jax.eval_shape(dilated, weight, x).shape)
        pairs = [jax.vjp(form, weight, x) for form in (ours, dilated)]
        return [(y, *pullback(cotangent)) for y, pullback in pairs]

    for got, want in zip(*output_and_gradients(weight, x), strict=True):
        close(got, want, 3e-5)


@pytest.mark.parametrize(("padding", "size"), [("same", 10), ("valid", 11)])
def test_conv_transpose_sizes(padding, size):
    y = layers.conv_transpose({"weight": jnp.ones((3, 1, 1))}, jnp.ones((5, 1)), 2, padding)
    assert y.shape == (size, 1)
    assert y.sum() == (15 if padding == "valid" else y.sum()) and y.max() == 2
    narrow = layers.conv_transpose({"weight": jnp.ones((1, 1, 1))}, jnp.ones((5, 1)), 2, padding)
    assert narrow.shape == ({"same": 10, "valid": 9}[padding], 1) and narrow.sum() == 5


def test_convolutions_name_what_is_not_of_their_dimensions_or_leaves_nothing():
    p, x = {"weight": jnp.ones((3, 3, 2, 3))}, jnp.ones((2, 8, 8, 2))
    assert layers.conv_transpose(p, x, 1, (1, 4)).shape == (2, 8, 2, 3)
    for call, message in (
        (lambda: layers.conv_transpose(p, x, 1, 5), r"x of shape \[2, 8, 8, 2\] leaves nothing by window \[3, 3\]"),
        (lambda: layers.conv(p, x, (2,)), r"stride=\(2,\) is for 1 dimensions, and there are 2"),
        (lambda: layers.conv(p, x, 1, "same", (2,)), r"dilation=\(2,\) is for 1 dimensions"),
        (lambda: layers.max_pool(x, (2, 2), 2, (0, 0, 0)), r"padding=\(0, 0, 0\) is for 3 dimensions"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(("name", "case"), cases("pool"))
def test_pooling_equals_pytorch(name, case):
    pool = {"max": layers.max_pool, "average": layers.average_pool}[case["kind"]]
    y = pool(GOLDEN[f"{name}/x"], (case["window"],) * case["dims"], case["stride"], case["padding"])
    close(y, GOLDEN[f"{name}/y"])


def test_same_padding_gives_the_ceiling(key):
    x = jax.random.normal(key, (7, 9, 2))
    y = layers.conv({"weight": jnp.ones((3, 3, 2, 1))}, x, stride=2)
    assert y.shape == (4, 5, 1)
    close(y[1, 1, 0], x[1:4, 1:4].sum())


def test_causal_conv_sees_no_later_input(key):
    p = init(layers.conv_spec(2, 3, (3,)), key)
    x = jax.random.normal(key, (12, 2))

    def at(t, x):
        return layers.conv(p, x, padding="causal", dilation=2)[t].sum()

    for t in (0, 5, 11):
        seen = np.abs(jax.grad(at, 1)(t, x)).sum(-1) > 0
        assert set(np.flatnonzero(seen)) == {s for s in (t - 4, t - 2, t) if s >= 0}


def test_causal_padding_is_for_one_dimension():
    with pytest.raises(ValueError, match="one dimension"):
        layers.conv({"weight": jnp.ones((3, 3, 1, 1))}, jnp.ones((5, 5, 1)), padding="causal")


def test_global_pools(key):
    x = jax.random.normal(key, (2, 4, 5, 3))
    close(layers.global_average_pool(x), np.mean(x, (1, 2)))
    close(layers.global_max_pool(x), np.max(x, (1, 2)))
    close(layers.global_average_pool(x, dims=1), np.mean(x, 2))


# norms


def test_norms_equal_pytorch():
    x, p = GOLDEN["norm/x"], {"scale": GOLDEN["norm/scale"], "bias": GOLDEN["norm/bias"]}
    close(layers.layer_norm(p, x), GOLDEN["norm/layer"])
    close(layers.rms_norm({"scale": p["scale"]}, x), GOLDEN["norm/rms"])
    close(layers.group_norm(p, x, groups=3), GOLDEN["norm/group"])
    close(layers.group_norm(p, x, groups=6), GOLDEN["norm/instance"])


def test_batch_norm_equals_pytorch():
    x, p = GOLDEN["norm/x"], {"scale": GOLDEN["norm/scale"], "bias": GOLDEN["norm/bias"]}
    y, statistics = layers.batch_norm(p, x)
    close(y, GOLDEN["norm/batch"])
    close(statistics["mean"], GOLDEN["norm/batch_mean"])
    close(statistics["variance"], GOLDEN["norm/batch_variance"])
    fixed = {"mean": GOLDEN["norm/mean"], "variance": GOLDEN["norm/variance"]}
    y, statistics = layers.batch_norm({**p, **fixed}, x)
    close(y, GOLDEN["norm/batch_fixed"])
    assert statistics == {}


def test_batch_norm_statistics_carry_no_gradient(key):
    p = {"scale": jnp.ones(3), "bias": jnp.zeros(3)}
    gradient = jax.grad(lambda x: layers.batch_norm(p, x)[1]["variance"].sum())(jax.random.normal(key, (5, 3)))
    assert (gradient == 0).all()


def test_batch_norm_of_one_value_is_refused():
    with pytest.raises(ValueError, match="more than one value"):
        layers.batch_norm({"scale": jnp.ones(3), "bias": jnp.zeros(3)}, jnp.ones((1, 3)))


# embedding, dropout, threshold


def test_embedding_looks_up_and_marks_what_it_does_not_know():
    p = {"table": jnp.arange(6.0).reshape(3, 2)}
    with jax.debug_nans(False):
        rows = layers.embedding(p, jnp.array([[2, 0], [3, -1]]))
    close(rows[0], [[4, 5], [0, 1]])
    assert np.isnan(rows[1]).all()
    with pytest.raises(TypeError, match="integer"):
        layers.embedding(p, jnp.array([1.0]))


def test_dropout_keeps_the_mean(key):
    x = jnp.full(40_000, 3.0)
    y = layers.dropout(x, 0.3, key)
    assert abs(y.mean() - 3) < 4 * 3 * np.sqrt(0.3 / 0.7 / len(x))
    assert abs((y == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(x))
    close(np.unique(y), [0, 3 / 0.7])


def test_dropout_of_nothing_and_of_everything(key):
    x = jnp.array([-1.0, 0.5, 1e20])
    np.testing.assert_array_equal(layers.dropout(x, 0.0, key), x)
    np.testing.assert_array_equal(layers.dropout(x, 1.0, key), jnp.zeros(3))
    np.testing.assert_array_equal(jax.grad(lambda x: layers.dropout(x, 1.0, key).sum())(x), jnp.zeros(3))
    assert layers.dropout(x, 0.5, None) is x
    with pytest.raises(ValueError, match="dropout's rate=30 is a share of what is dropped: give 0 to 1"):
        layers.dropout(x, 30, key)
    with pytest.raises(TypeError, match="dropout takes floating-point inputs, got int32"):
        layers.dropout(jnp.arange(3), 0.5, key)
    with jax.debug_nans(False):
        assert jnp.isnan(jax.jit(layers.dropout)(x, 1.5, key)).all()


def test_a_constant_series_at_a_high_level_has_no_deviation():
    for level in (10000.3, 1234567.0):
        y, mean, deviation = layers.instance_norm(jnp.full((336, 2), level))
        np.testing.assert_array_equal(y, 0)
        close(mean, level)
        close(deviation, 1e-5**0.5)


def test_a_group_norm_without_its_axes_is_told():
    with pytest.raises(ValueError, match=r"dims=2 axes of space before the features, got \[5, 8\]"):
        layers.group_norm({"scale": jnp.ones(8)}, jnp.ones((5, 8)), 2)
    empty = jnp.ones((0, 3, 3, 8))
    assert layers.group_norm({"scale": jnp.ones(8), "bias": jnp.zeros(8)}, empty, 2).shape == empty.shape


def test_dropout_takes_a_traced_rate(key):
    x = jnp.ones((10_000,))
    zeroed = jax.jit(jax.vmap(lambda rate: (layers.dropout(x, rate, key) == 0).mean()))(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(zeroed, [0, 0.5, 1], atol=0.02)


def test_threshold():
    np.testing.assert_array_equal(layers.threshold(jnp.array([-1.0, 0.0, 1e-9, 2.0])), [0, 0, 1, 1])


# every layer

UNITS = {
    "linear": (layers.linear_spec(4, 3), layers.linear, (5, 4)),
    "linear_without_bias": (layers.linear_spec(4, 3, bias=False), layers.linear, (5, 4)),
    "conv_1d": (layers.conv_spec(4, 3, (3,)), lambda p, x: layers.conv(p, x, padding="causal"), (2, 6, 4)),
    "conv_2d": (layers.conv_spec(4, 6, (3, 3), groups=2), lambda p, x: layers.conv(p, x, 2, groups=2), (2, 5, 6, 4)),
    "conv_3d": (layers.conv_spec(4, 3, (2, 2, 2)), layers.conv, (2, 3, 3, 3, 4)),
    "conv_transpose": (layers.conv_spec(4, 3, (3, 3)), lambda p, x: layers.conv_transpose(p, x, 2), (2, 3, 3, 4)),
    "layer_norm": (layers.layer_norm_spec(4), layers.layer_norm, (5, 4)),
    "rms_norm": (layers.rms_norm_spec(4), layers.rms_norm, (5, 4)),
    "group_norm": (layers.group_norm_spec(4), lambda p, x: layers.group_norm(p, x, 2), (2, 3, 3, 4)),
    "batch_norm": (layers.batch_norm_spec(4), lambda p, x: layers.batch_norm(p, x)[0], (5, 4)),
    "max_pool": ({}, lambda p, x: layers.max_pool(x, (2, 2)), (2, 4, 4, 3)),
    "average_pool": ({}, lambda p, x: layers.average_pool(x, (3, 3), 2, "same"), (2, 5, 5, 3)),
    "global_max_pool": ({}, lambda p, x: layers.global_max_pool(x), (2, 4, 4, 3)),
    "global_average_pool": ({}, lambda p, x: layers.global_average_pool(x), (2, 4, 4, 3)),
}
units = pytest.mark.parametrize("name", UNITS)


def unit(name, key):
    """The layer with parameters that are all away from where they start."""
    spec, layer, shape = UNITS[name]
    params = jax.tree.map(lambda leaf: leaf + 0.3, init(spec, key))
    return params, layer, jax.random.normal(jax.random.fold_in(key, 1), shape)


@units
def test_gradients(name, key):
    params, layer, x = unit(name, key)
    weights = jax.random.normal(jax.random.key(3), jax.eval_shape(layer, params, x).shape)
    errors = check_gradients(lambda inputs: (layer(*inputs) * weights).sum(), (params, x), tolerance=1e-6)
    assert len(errors) == len(jax.tree.leaves(params)) + 1


def test_gradients_of_batch_norm_through_the_batch(key):
    params, x = init(layers.layer_norm_spec(4), key), jax.random.normal(key, (5, 4))
    weights = jax.random.normal(jax.random.key(3), (5, 4))
    check_gradients(lambda p: (layers.batch_norm(p[0], p[1])[0] * weights).sum(), (params, x), tolerance=1e-6)


@units
def test_one_example_a_batch_and_vmap_agree(name, key):
    params, layer, x = unit(name, key)

    @jax.jit
    def each_way(params, x):
        return layer(params, x), jax.vmap(layer, (None, 0))(params, x), layer(params, x[1]), layer(params, x[None])

    batch, mapped, one, more = each_way(params, x)
    close(mapped, batch, 2e-6)
    close(one, batch[1], 2e-6)
    close(more[0], batch, 2e-6)


@units
def test_dtype_of_the_input_is_kept(name, key):
    params, layer, x = unit(name, key)
    low = layer(params, x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16 and layer(params, x).dtype == jnp.float32
    np.testing.assert_allclose(low.astype(jnp.float32), layer(params, x), rtol=0.1, atol=0.1)


@units
def test_integers_are_refused(name, key):
    params, layer, x = unit(name, key)
    if name == "global_max_pool":
        pytest.skip("the largest of integers is well defined")
    with pytest.raises(TypeError, match=r"floating-point inputs, got int32.*x / 255"):
        layer(params, jnp.ones(x.shape, jnp.int32))


@units
def test_wrong_channels_are_named(name, key):
    params, layer, x = unit(name, key)
    if not params:
        pytest.skip("has no parameters")
    with pytest.raises(ShapeError, match=r"got \[.*5\]"):
        layer(params, jnp.ones((*x.shape[:-1], 5)))


# dropout


def test_no_noise_is_drawn_for_a_rate_written_as_zero(key):
    x = jnp.linspace(-2.0, 2.0, 12).reshape(3, 4)
    draws = jax.make_jaxpr(lambda rate: layers.dropout(x, rate, key))(0.0)
    assert "random_bits" in str(draws)  # a traced rate may be any rate
    assert "random_bits" not in str(jax.make_jaxpr(lambda: layers.dropout(x, 0.0, key))())
    close(layers.dropout(x, jnp.float32(0), key), layers.dropout(x, 0.0, key), 0)


def test_width_normal_is_as_published_at_768_and_larger_where_narrower():
    for width, depth, wanted in ((768, 0, 0.02), (192, 0, 0.04), (768, 12, 0.02 / 24**0.5)):
        drawn = layers.width_normal(width, depth)(jax.random.key(0), (width, 4 * width))
        assert abs(float(drawn.std()) / wanted - 1) < 0.01
    assert layers.width_normal(64) is layers.width_normal(64)
