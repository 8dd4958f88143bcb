"""Flax modules under jann give what Flax gives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jann
from jann.models import from_flax

pytestmark = pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.8)(nn.Dense(16)(x)))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


class Plain(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(10, 4)(ids)
        for value in (x.mean(), x.max()):
            self.sow("losses", "size", value)
        return nn.Dense(3)(x)


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)])

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x))).mean((1, 2))
        self.norm.sow(nnx.Intermediate, "pooled", x)
        return self.layers[1](self.dropout(nnx.relu(self.layers[0](x))))


def make_net(rngs):
    return NNXNet(rngs)


@pytest.fixture
def linen():
    return from_flax(LinenMLP(), jnp.zeros((1, 5)), training={"train": True}, inference={"train": False})


@pytest.fixture
def x(key):
    return jax.random.normal(key, (8, 5))


@pytest.fixture
def images(key):
    return jax.random.normal(key, (6, 5, 5, 1))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), a, b)


def test_linen_inference_equals_flax(linen, x, key):
    params, state = linen.init(key), linen.state(key)
    state = jax.tree.map(lambda a: a + 0.3, state)
    output, after = linen.apply(params, x, state=state)
    same(output, LinenMLP().apply({"params": params, **state}, x, train=False))
    same(after, state)


def test_linen_training_equals_flax(linen, x, key):
    params, state = linen.init(key), linen.state(key)
    output, after = jax.jit(linen.apply)(params, x, state=state, key=key)
    rngs = {"dropout": jann.fold(key, "dropout"), "params": jann.fold(key, "params")}
    want, updated = LinenMLP().apply(
        {"params": params, **state}, x, train=True, rngs=rngs, mutable=["batch_stats"]
    )
    same(output, want)
    same(after, updated)
    mean = (x @ params["Dense_0"]["kernel"]).mean(0) + params["Dense_0"]["bias"]
    np.testing.assert_allclose(after["batch_stats"]["BatchNorm_0"]["mean"], 0.2 * mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_the_library_s_loop_trains_and_measures(kind, linen, x, images, key, tmp_path):
    """Every step leaves the state that Flax leaves, also inside other models; what is evaluated has it."""
    model, image = (linen, x) if kind == "linen" else (from_flax(make_net), images)
    data = {"image": image, "label": (image.reshape(len(image), -1)[:, 0] > 0).astype(jnp.int32)}
    optimizer = optax.adam(0.02)
    step, state = jann.make_step(jann.objective(model), optimizer), jann.start(model, optimizer, key)
    state, history = jann.train(step, lambda i: data, state, 60)
    params = jann.eval_params(state)
    assert jann.evaluate(jann.measure(model), params, data)["loss"] < history["loss"][0] / 2
    outer = jann.models.chain(model, jax.nn.relu)
    extra = {"statistics": jann.start_average([jann.split(model, params)[1], {}])}
    _, (_, extra) = jax.jit(jann.objective(outer))([state.params, {}], data, key, extra)
    _, after = jax.jit(model.apply)(params, image, key=jann.fold(key, "0"))
    same(jann.flatten(extra["statistics"].value[0]), jann.flatten(after))
    if kind == "nnx":
        jann.save(tmp_path, model, params)
        assert jann.load(tmp_path)[0] == model
        same(jann.load(tmp_path)[1], params)


def test_linen_without_state(key):
    model = from_flax(Plain(), jnp.zeros((2, 3), jnp.int32))
    ids = jnp.array([[1, 2, 9]])
    params = model.init(key)
    (output, state), seen = jann.observe(model.apply)(params, ids, key=key)
    same(output, Plain().apply({"params": params}, ids))
    assert state is None and model.state(key) is None
    table = params["Embed_0"]["embedding"][ids]
    same(seen, {"losses/size": table.mean(), "losses/size/1": table.max()})
    mask = jann.decay_mask(model)(params)
    assert mask == {"Embed_0": {"embedding": False}, "Dense_0": {"kernel": True, "bias": False}}


def test_a_missing_state_is_named(linen, x, key):
    with pytest.raises(ValueError, match=r"state=model.state\(key\)"):
        linen.apply(jann.split(linen, linen.init(key))[0], x)
    net = from_flax(make_net)
    with pytest.raises(ValueError, match=r"norm/mean, norm/var is missing: pass state=model.state\(key\)"):
        net.apply(jann.split(net, net.init(key))[0], jnp.zeros((1, 5, 5, 1)))


def test_parameters_in_a_chain_start_as_flax_does(key):
    """Inside a chain the parameters are drawn from the spec: Flax's initialiser, whatever Flax's scales are."""
    dense = nn.Dense(64, kernel_init=nn.initializers.normal(3.0), bias_init=nn.initializers.ones)
    model = jann.models.chain(from_flax(dense, jnp.zeros((1, 64))), jax.nn.relu)
    params = model.init(key)[0]
    assert 2.8 < params["kernel"].std() < 3.2 and (params["bias"] == 1).all()


def nnx_module(model, params, state):
    """The NNX module with these values, put there by hand."""
    net = NNXNet(nnx.Rngs(0))
    for name in ("kernel", "bias"):
        net.conv.__getattribute__(name)[...] = params["conv"][name]
        for i in range(2):
            getattr(net.layers[i], name)[...] = params["layers"][i][name]
    net.norm.scale[...], net.norm.bias[...] = params["norm"]["scale"], params["norm"]["bias"]
    net.norm.mean[...], net.norm.var[...] = state["norm"]["mean"], state["norm"]["var"]
    return net


def test_nnx_inference_equals_flax(images, key):
    model = from_flax(make_net)
    params, state = model.init(key), jax.tree.map(lambda a: a + 0.3, model.state(key))
    jann.check(model, params)
    output, after = jax.jit(model.apply)(params, images, state=state)
    net = nnx_module(model, params, state)
    net.eval()
    same(output, net(images))
    same(after, state)


def test_nnx_training_updates_the_state_as_flax_does(images, key):
    model = from_flax(make_net)
    params, state = model.init(key), model.state(key)
    (first, after), seen = jax.jit(jann.observe(model.apply))(params, images, state=state, key=key)
    assert {name: value.shape for name, value in seen.items()} == {"norm/pooled": (6, 4)}
    net = nnx_module(model, params, state)
    net.train()
    net(images)
    same(after, {"norm": {"mean": net.norm.mean[...], "var": net.norm.var[...]}})
    second, _ = jax.jit(model.apply)(params, images, state=state, key=jax.random.key(1))
    again, _ = model.apply(params, images, state=state, key=key)
    same(first, again)
    assert not np.allclose(first, second)


def test_nnx_gradients_flow(images, key):
    model = from_flax(make_net)
    params, state = model.init(key), model.state(key)
    grads = jax.grad(lambda p: jnp.square(model(p, images, state=state)).sum())(params)
    net = nnx_module(model, params, state)
    net.eval()
    want = nnx.grad(lambda net: jnp.square(net(images)).sum())(net)
    same(grads["layers"][0]["kernel"], want["layers"][0]["kernel"][...])
    same(grads["conv"]["kernel"], want["conv"]["kernel"][...])


def test_models_compare_by_value():
    build = lambda: from_flax(LinenMLP(), np.zeros((1, 5), np.float32), training={"train": True})  # noqa: E731
    assert build() == build() and hash(build()) == hash(build())
    assert from_flax(make_net) == from_flax(make_net)
