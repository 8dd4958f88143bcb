"""Through depth, scanned and unrolled; taps, edits, and what keeps them apart from plain calls."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.core import Model, ShapeError, stack
from jann.depth import TapError, apply_blocks, depth_keys, observe, scope, tap
from jann.layers import dropout, linear, linear_spec

pytestmark = pytest.mark.usefixtures("optimised")

LAYERS = 4
X = jax.random.normal(jax.random.key(1), (3, 5))


def block(x, p, key=None, gain=None):
    """A residual block with two taps, and an output of its own."""
    h = tap("hidden", jnp.tanh(linear(p, x)))
    h = dropout(h, 0.3, key)
    h = h if gain is None else h * gain
    x = tap("residual", x + h)
    return x, x.mean()


class Deep(Model):
    layers: int = LAYERS
    remat: object = False

    def spec(self):
        return {"blocks": stack(linear_spec(5, 5), layers=self.layers), "head": linear_spec(5, 2)}

    def apply(self, params, x, state=None, key=None):
        keys = depth_keys(key, self.layers)
        x, _ = apply_blocks(block, x, params["blocks"], keys, remat=self.remat)
        return tap("logits", linear(params["head"], x)), state


@pytest.fixture
def params(key):
    return Deep().init(key)


def listed(params):
    return {**params, "blocks": jann.unstacked(params["blocks"])}


def assert_close(a, b, rtol=1e-6, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def by_hand(params, x, edit=lambda h, i: h):
    for i, p in enumerate(jann.unstacked(params["blocks"])):
        x = x + edit(jnp.tanh(x @ p["weight"] + p["bias"][None]), i)
    return x @ params["head"]["weight"] + params["head"]["bias"][None]


# scanned and unrolled


def test_both_forms_are_the_written_out_formula(params):
    assert_close(Deep()(params, X), by_hand(params, X))
    assert_close(Deep()(listed(params), X), by_hand(params, X))


@pytest.mark.parametrize("noise", [None, jax.random.key(3)], ids=["no key", "dropout"])
def test_values_gradients_and_taps_agree_in_every_form(params, noise):
    def run(remat, params):
        def loss(params):
            output, taps = observe(Deep(remat=remat))(params, X, key=noise)
            return jnp.square(output).sum() + taps["hidden"][2].sum(), taps

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    (value, taps), grads = run(False, params)
    assert taps["hidden"].shape == (LAYERS, 3, 5)
    for remat in (False, True, jax.checkpoint_policies.dots_saveable):
        assert_close(run(remat, params), ((value, taps), grads), 1e-5, 1e-5)
        assert_close(run(remat, listed(params)), ((value, taps), listed(grads)), 1e-5, 1e-5)


def test_remat_recomputes(params):
    def products(remat):
        loss = jax.grad(lambda p: Deep(remat=remat)(p, X).sum())
        return str(jax.make_jaxpr(loss)(params)).count("dot_general")

    assert products(True) == products(False) + 1  # the forward product of the block, once more
    assert products(jax.checkpoint_policies.dots_saveable) == products(False)


@pytest.mark.parametrize("form", ["stacked", "list"])
def test_slots_come_as_nothing_stacked_or_listed(params, form):
    gains = [0.5, 1.0, 2.0, 0.0]
    given = gains if form == "list" else jnp.array(gains)
    expected = by_hand(params, X, lambda h, i: h * gains[i])
    for p in (params, listed(params)):
        x, outs = apply_blocks(block, X, p["blocks"], None, given)
        assert_close(linear(p["head"], x), expected)
        np.testing.assert_allclose(np.asarray(outs)[-1], x.mean(), rtol=1e-6)
        assert len(outs) == LAYERS


def test_a_slot_of_the_wrong_length_is_refused(params):
    with pytest.raises(ValueError, match="slot 1 has 3 entries for 4 blocks"):
        apply_blocks(block, X, params["blocks"], None, [1.0, 2.0, 3.0])


def test_depth_keys_are_folded_by_index(key):
    keys = depth_keys(key, 3)
    for i in range(3):
        np.testing.assert_array_equal(
            jax.random.key_data(keys[i]), jax.random.key_data(jax.random.fold_in(key, i))
        )
    longer = depth_keys(key, 5)
    np.testing.assert_array_equal(jax.random.key_data(longer[:3]), jax.random.key_data(keys))
    assert depth_keys(None, 3) is None


def test_the_program_does_not_grow_with_depth():
    def size(layers, form):
        model = Deep(layers)
        shapes = jax.eval_shape(lambda k: form(model.init(k)), jax.random.key(0))
        text = str(jax.make_jaxpr(jax.grad(lambda p: model(p, X).sum()))(shapes))
        return text.count("\n")

    assert size(4, lambda p: p) == size(24, lambda p: p)
    assert size(24, listed) > 3 * size(4, listed)


def test_a_wrong_shape_in_ablock_names_the_parameter(params):
    def wide(x, p):
        return linear(p, jnp.concatenate([x, x], -1)), None

    for blocks in (params["blocks"], jann.unstacked(params["blocks"])):
        with pytest.raises(ShapeError, match=r"takes inputs\[\.\.\., 5\], got \[3, 10\]"):
            apply_blocks(wide, X, blocks)
    with pytest.raises(ShapeError, match="^block parameter weight: "):
        apply_blocks(wide, X, params["blocks"])


# observing


@pytest.mark.parametrize("form", [lambda p: p, listed], ids=["scanned", "unrolled"])
def test_observe_hands_out_what_was_computed(params, form):
    output, taps = observe(Deep())(form(params), X)
    assert_close(output, Deep()(params, X))
    assert list(taps) == ["hidden", "residual", "logits"]
    x = X
    for i, p in enumerate(jann.unstacked(params["blocks"])):
        assert_close(taps["hidden"][i], jnp.tanh(linear(p, x)))
        x = x + taps["hidden"][i]
        assert_close(taps["residual"][i], x)
    assert_close(taps["logits"], output)


@pytest.mark.parametrize("form", [lambda p: p, listed], ids=["scanned", "unrolled"])
@pytest.mark.parametrize("remat", [False, True])
def test_edits_change_the_value_at_their_layer(params, form, remat):
    def ablate(value, layer):
        return jnp.where(layer == 2, 0.0, value)

    output, taps = observe(Deep(remat=remat), {"hidden": ablate})(form(params), X)
    assert_close(output, by_hand(params, X, lambda h, i: 0 * h if i == 2 else h))
    np.testing.assert_array_equal(taps["hidden"][2], 0)
    assert np.abs(taps["hidden"][1]).min() > 0

    seen = []
    observe(Deep(), {"logits": lambda value, layer: (seen.append(layer), value)[1]})(form(params), X)
    assert seen == [None]


@pytest.mark.parametrize("form", [lambda p: p, listed], ids=["scanned", "unrolled"])
def test_observing_composes_with_jit_vmap_and_grad(params, form):
    params = form(params)
    double = {"hidden": lambda value, layer: 2 * value}
    plain, edited = Deep()(params, X), by_hand({**params, "blocks": _scanned(params)}, X, lambda h, i: 2 * h)
    assert_close(jax.jit(observe(Deep(), double))(params, X)[0], edited)
    one_by_one, taps = jax.jit(jax.vmap(observe(Deep(), double), (None, 0)))(params, X)
    assert_close(one_by_one, edited)
    assert taps["hidden"].shape == (3, LAYERS, 5)  # the mapped axis first, then depth

    def with_shift(shift):
        return observe(Deep(), {"hidden": lambda value, layer: value + shift})(params, X)[0].sum()

    slope = jax.jit(jax.grad(with_shift))(0.0)
    numeric = (with_shift(1e-2) - with_shift(-1e-2)) / 2e-2
    np.testing.assert_allclose(slope, numeric, rtol=1e-3)
    assert_close(jax.jit(jax.vmap(jax.grad(with_shift)))(jnp.zeros(2)), jnp.full(2, slope), 1e-5)
    assert_close(Deep()(params, X), plain)


def _scanned(params):
    blocks = params["blocks"]
    return jann.stacked(blocks) if isinstance(blocks, list) else blocks


def test_plain_calls_are_never_disturbed(params):
    model = Deep()
    before, after = jax.jit(model), jax.jit(lambda p, x: model(p, x))
    zero = {"hidden": lambda value, layer: 0 * value}
    plain = before(params, X)
    edited = jax.jit(observe(model, zero))(params, X)[0]
    assert_close(edited, by_hand(params, X, lambda h, i: 0 * h))
    np.testing.assert_array_equal(before(params, X), plain)  # compiled before the edited one
    np.testing.assert_array_equal(after(params, X), plain)  # compiled after it
    np.testing.assert_array_equal(jax.jit(observe(model, zero))(params, X)[0], edited)
    recorded, taps = jax.jit(observe(model))(params, X)
    assert_close(recorded, plain)  # another program, which may round otherwise
    assert np.abs(taps["hidden"]).min() > 0


def test_an_inner_jit_without_taps_is_shared_safely(params):
    inner = jax.jit(jnp.sinh)

    def model(params, x):
        return tap("sinh", inner(x)).sum()

    plain = model(None, X)
    assert observe(model, {"sinh": lambda v, _: 0 * v})(None, X)[0] == 0
    assert model(None, X) == plain


def test_an_error_while_observed_leaves_nothing_behind(params):
    def fail(value, layer):
        raise RuntimeError("from the edit")

    with pytest.raises(RuntimeError, match="from the edit"):
        observe(Deep(), {"hidden": fail})(params, X)
    assert_close(Deep()(params, X), by_hand(params, X))
    assert list(observe(Deep())(params, X)[1]) == ["hidden", "residual", "logits"]


INNER = {
    "jit": lambda x: jax.jit(lambda v: tap("t", v))(x),
    "scan": lambda x: jax.lax.scan(lambda c, v: (c, tap("t", v)), 0, x)[1],
    "checkpoint": lambda x: jax.checkpoint(lambda v: tap("t", v))(x),
    "vmap": lambda x: jax.vmap(lambda v: tap("t", v))(x),
    "grad": lambda x: jax.grad(lambda v: tap("t", v).sum())(x),
}


@pytest.mark.parametrize("where", INNER)
def test_a_tap_that_cannot_come_out_raises(where):
    INNER[where](X)
    with pytest.raises(TapError, match="tap 't' stands inside an inner jit, scan, vmap, grad or checkpoint"):
        observe(INNER[where])(X)
    INNER[where](X)


def test_names_must_be_apart_and_met(params):
    def twice(x):
        return tap("a", x) + tap("a", x)

    with pytest.raises(TapError, match="two taps are named 'a': give one another name, or put a scope"):
        observe(twice)(X)
    with pytest.raises(TapError, match="no tap is named attention; met were: hidden, residual, logits"):
        observe(Deep(), {"attention": lambda v, layer: v})(params, X)
    with pytest.raises(TapError, match="met were: none"):
        observe(lambda x: x, {"a": lambda v, layer: v})(X)


def test_scopes_keep_two_models_apart(params):
    def both(params, x):
        with scope("teacher"):
            first = Deep()(params, x)
            with scope("inner"):
                tap("x", x)
        with scope("student"):
            return first - Deep()(params, 2 * x)

    taps = observe(both)(params, X)[1]
    assert [name for name in taps if "hidden" in name] == ["teacher/hidden", "student/hidden"]
    assert "teacher/inner/x" in taps
    _, alone = observe(Deep())(params, 2 * X)
    assert_close(taps["student/logits"], alone["logits"])
    zeroed = observe(both, {"student/logits": lambda v, layer: 0 * v})(params, X)[0]
    assert_close(zeroed, Deep()(params, X))


@pytest.mark.parametrize("outer", ["scanned", "unrolled"])
@pytest.mark.parametrize("inner", ["scanned", "unrolled"])
def test_nested_blocks_stack_their_taps_and_number_their_layers(key, outer, inner):
    params = jann.init(stack(stack(linear_spec(5, 5), layers=3), groups=2), key)

    def group(x, p):
        return apply_blocks(block, x, jann.unstacked(p) if inner == "unrolled" else p)

    def model(x):
        return apply_blocks(group, x, jann.unstacked(params) if outer == "unrolled" else params)[0]

    flat = jax.tree.map(lambda leaf: leaf.reshape(6, *leaf.shape[2:]), params)
    plain, flat_taps = observe(lambda x: apply_blocks(block, x, flat)[0])(X)
    output, taps = observe(model)(X)
    assert_close(output, plain)
    assert_close(taps["hidden"], flat_taps["hidden"].reshape(2, 3, 3, 5))

    def only(value, layer):
        group, i = layer
        return jnp.where((group == 1) & (i == 2), 0.0, value)

    edited = observe(model, {"hidden": only})(X)[1]["hidden"]
    np.testing.assert_array_equal(edited[1, 2], 0)
    assert_close(edited[0], taps["hidden"][0])
    assert_close(edited[1, :2], taps["hidden"][1, :2])


def test_blocks_that_differ_are_unrolled_with_what_each_has(key):
    specs = [linear_spec(5, 7), linear_spec(7, 5)]
    params = jann.init(specs, key)

    def grow(x, p):
        return tap("x", linear(p, x)), None

    output, taps = observe(lambda x: apply_blocks(grow, x, params)[0])(X)
    assert [value.shape for value in taps["x"]] == [(3, 7), (3, 5)]
    assert_close(output, linear(params[1], linear(params[0], X)))


def test_what_is_done_again_in_the_backward_pass_is_not_a_product(key):
    """A stacked tree keeps products, so that the gradient has as many of them as a list's, and less of the rest."""
    blocks = jax.random.normal(key, (3, 4, 4)) / 2
    x = jax.random.normal(key, (2, 4))

    def loss(blocks, **options):
        return apply_blocks(lambda x, p: (jnp.tanh(jnp.sin(x) @ p), None), x, blocks, **options)[0].sum()

    def operations(name, **options):
        text = str(jax.make_jaxpr(jax.grad(partial(loss, **options)))(blocks))
        return text.count(f" {name}")

    assert operations("dot_general") == operations("dot_general", remat=False)
    assert operations("tanh") > operations("tanh", remat=False)
    for remat in (True, False, jax.checkpoint_policies.dots_saveable):
        np.testing.assert_allclose(jax.grad(loss)(blocks), jax.grad(partial(loss, remat=remat))(blocks), rtol=1e-6)
