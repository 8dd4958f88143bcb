"""Models as files."""

import copy
import enum
import json
import pickle
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.core import Model, stack
from jann.layers import batch_norm_spec, linear, linear_spec
from jann.models import MLP

MODEL = MLP(inputs=4, hidden=(8, 8), outputs=3, activation=jax.nn.gelu, dropout=0.1)


class Kind(enum.StrEnum):
    NARROW = "narrow"


def double(x):
    return 2 * x


class Pair(Model):
    """Models, a dtype, functions, a class, tuples in tuples and nothing at all as fields."""

    first: Model
    others: tuple[Model, ...] = ()
    dtype: type = jnp.float32
    activation: object = None
    kind: type = MLP
    windows: tuple = ((3, 3), (1, 1))

    def spec(self):
        return {"first": self.first.spec()}

    def apply(self, params, x, state=None, key=None):
        return self.first(params["first"], x), state


class Chain(Model):
    """A layer without parameters between two with, blocks declared once, and running statistics."""

    def spec(self):
        return {
            "chain": [linear_spec(4, 4), {}, linear_spec(4, 4), {}],
            "blocks": stack({"norm": batch_norm_spec(4)}, layers=2),
        }

    def apply(self, params, x, state=None, key=None):
        first, _, last, _ = params["chain"]
        return linear(last, jnp.tanh(linear(first, x))), state


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8])
def test_a_saved_model_comes_back_equal(key, tmp_path, dtype):
    params = jax.tree.map(lambda leaf: (10 * leaf).astype(dtype), MODEL.init(key))
    jann.save(tmp_path, MODEL, params)
    model, loaded = jann.load(tmp_path)
    assert model == MODEL and hash(model) == hash(MODEL)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


@pytest.mark.parametrize("listed", [False, True])
def test_layers_without_parameters_and_both_forms_of_depth_come_back(key, tmp_path, listed):
    params = Chain().init(key)
    if listed:
        params["blocks"] = jann.unstacked(params["blocks"])
    jann.save(tmp_path, Chain(), params)
    model, loaded = jann.load(tmp_path)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    x = jax.random.normal(key, (2, 4))
    np.testing.assert_array_equal(model(loaded, x), Chain()(params, x))


class Numbered(Model):
    """Names that are numbers, at the top and in blocks declared once."""

    def spec(self):
        pair = {"0": linear_spec(4, 4), "1": linear_spec(4, 4)}
        return {"0": pair, "1": stack({"pair": pair}, layers=3)}


@pytest.mark.parametrize("listed", [False, True])
def test_names_that_are_numbers_stay_names(tmp_path, drawn, listed):
    params = drawn(Numbered())
    if listed:
        params["1"] = jann.unstacked(params["1"])
    jann.save(tmp_path, Numbered(), params)
    loaded = jann.load(tmp_path)[1]
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_other_programs_read_the_names_and_numbers(key, tmp_path):
    from safetensors.numpy import load_file

    params = MODEL.init(key)
    jann.save(tmp_path, MODEL, params)
    arrays = load_file(tmp_path / "model.safetensors")
    assert sorted(arrays) == sorted(jann.flatten(params))
    np.testing.assert_array_equal(arrays["layers/1/weight"], params["layers"][1]["weight"])
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["model"] == "jann.models.mlp:MLP"
    assert described["fields"]["hidden"] == [8, 8]
    assert described["fields"]["activation"] == {"function": "jax.nn:gelu"}


def test_arrays_are_written_as_they_are_read_whatever_their_order_in_memory(key, tmp_path):
    params = jax.tree.map(np.asarray, MODEL.init(key))
    for form in (np.asfortranarray, lambda leaf: np.ascontiguousarray(leaf.T).T, lambda leaf: leaf[::-1].copy()[::-1]):
        jann.save(tmp_path, MODEL, jax.tree.map(form, params))
        jax.tree.map(np.testing.assert_array_equal, jann.load(tmp_path)[1], params)


def test_saving_again_replaces_the_files_and_leaves_no_others(key, tmp_path):
    jann.save(tmp_path, MODEL, MODEL.init(key))
    newer = MODEL.init(jax.random.fold_in(key, 1))
    jann.save(tmp_path, MODEL, newer)
    np.testing.assert_array_equal(jann.load(tmp_path)[1]["layers"][0]["weight"], newer["layers"][0]["weight"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_nested_models_functions_dtypes_and_classes_go_through_json():
    model = Pair(MODEL, (MODEL, MLP(2, (3,), 1)), jnp.bfloat16, double, MLP, ((5, 5),))
    back = jann.from_json(json.loads(json.dumps(jann.to_json(model))))
    assert back == model and hash(back) == hash(model)
    assert back.activation is double and back.kind is MLP and back.dtype is jnp.bfloat16
    assert back.others[1].hidden == (3,)
    kept = jann.from_json(jann.to_json(Pair(MODEL, dtype=np.dtype("float16"))))
    assert kept.dtype == np.dtype("float16") and hash(kept) == hash(Pair(MODEL, dtype=np.dtype("float16")))


@pytest.mark.parametrize(
    "function", [jax.nn.relu, jax.nn.silu, jax.nn.softmax, jnp.tanh, jnp.sin, jax.lax.rsqrt, jnp.maximum, double]
)
def test_public_functions_come_back_as_themselves(function):
    back = jann.from_json(json.loads(json.dumps(jann.to_json(Pair(MODEL, activation=function)))))
    assert back.activation is function


@pytest.mark.parametrize(
    "value",
    [
        lambda x: x, partial(jax.nn.leaky_relu, negative_slope=0.1), jax.nn.initializers.normal(0.1), frozenset({1}),
        Kind.NARROW,
    ],
    ids=["lambda", "partial", "closure", "frozenset", "enum"],
)
def test_what_cannot_be_imported_is_refused_by_field(key, tmp_path, value):
    with pytest.raises(TypeError, match=r"Pair\.activation is .*, which cannot be saved: "):
        jann.save(tmp_path, Pair(MODEL, activation=value), {"first": MODEL.init(key)})
    assert not list(tmp_path.iterdir())

    class Local(Pair):
        pass

    with pytest.raises(TypeError, match="Local cannot be saved: define it in a module, not within a function"):
        jann.save(tmp_path, Local(MODEL), {"first": MODEL.init(key)})
    with pytest.raises(TypeError, match=r"MLP\.activation is .*, which cannot be saved"):
        jann.to_json(Pair(MLP(4, (8,), 3, activation=value)))


@pytest.mark.parametrize("function", [jax.nn.relu, jnp.tanh, double])
def test_copies_and_pickles_are_the_model(function):
    model = Pair(MLP(4, (8,), 3, activation=function), activation=function, windows=((3, 3), (function,)))
    for again in (copy.copy(model), copy.deepcopy({"config": model})["config"], pickle.loads(pickle.dumps(model))):
        assert again == model and again.first.activation is function and again.windows[1][0] is function


def test_a_description_that_does_not_fit_says_where():
    good = jann.to_json(MODEL)
    with pytest.raises(ValueError, match="MLP has no field width; it has activation, dropout, hidden, inputs, outputs"):
        jann.from_json({**good, "fields": {**good["fields"], "width": 8}})
    with pytest.raises(ValueError, match="cannot import Gone from jann.models.mlp: "):
        jann.from_json({**good, "model": "jann.models.mlp:Gone"})
    with pytest.raises(ValueError, match="cannot import MLP from no_such_module: "):
        jann.from_json({**good, "model": "no_such_module:MLP"})
    with pytest.raises(ValueError, match="jann.layers:linear is not a jann model"):
        jann.from_json({**good, "model": "jann.layers:linear"})
    with pytest.raises(ValueError, match="cannot import swoosh from jax.nn"):
        jann.from_json({**good, "fields": {**good["fields"], "activation": {"function": "jax.nn:swoosh"}}})
    with pytest.raises(ValueError, match="MLP cannot be made as it is described: .* missing .* 'hidden'"):
        jann.from_json({**good, "fields": {"inputs": 4, "outputs": 3}})
    with pytest.raises(ValueError, match='the description of a model is {"model": '):
        jann.from_json({"architectures": ["BertModel"]})


def test_parameters_of_another_shape_are_not_written(key, tmp_path):
    jann.save(tmp_path, MODEL, MODEL.init(key))
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(jann.ShapeError, match=r"layers/0/weight: wanted \[inputs=4, outputs=8\], got \[5, 8\]"):
        jann.save(tmp_path, MODEL, MLP(5, (8, 8), 3).init(key))
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_damaged_files_are_named(key, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no model\.json: give a folder written by jann\.save"):
        jann.load(tmp_path)
    jann.save(tmp_path, MODEL, MODEL.init(key))
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"safetensors is damaged or truncated \(.*\): copy or save it again"):
            jann.load(tmp_path)
    weights.write_bytes(whole)
    description = tmp_path / "model.json"
    description.write_text(description.read_text()[:-20])
    with pytest.raises(ValueError, match=r"model\.json is not whole JSON"):
        jann.load(tmp_path)


def test_an_unfinished_run_gives_its_last_checkpoint(key, tmp_path):
    params = MODEL.init(key)
    (tmp_path / "model.json").write_text(json.dumps(jann.to_json(MODEL)))
    with pytest.raises(jann.CheckpointError, match="checkpoints does not exist: there is no checkpoint to read"):
        jann.load(tmp_path)
    with jann.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"params": params, "opt_state": jnp.ones(2)})
    model, loaded = jann.load(tmp_path)
    assert model == MODEL
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_running_statistics_come_back_from_an_unfinished_run(key, tmp_path):
    import optax

    train_state = jann.start(Chain(), optax.sgd(0.1), key)
    (tmp_path / "model.json").write_text(json.dumps(jann.to_json(Chain())))
    with jann.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, train_state)
    loaded = jann.load(tmp_path)[1]
    jax.tree.map(np.testing.assert_array_equal, loaded, jann.eval_params(train_state))


def test_loading_leaves_a_run_that_is_writing_alone(key, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(jann.to_json(MODEL)))
    with jann.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"params": MODEL.init(key)})
    unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    jann.load(tmp_path)
    assert unfinished.exists()
    with jann.Checkpoints(tmp_path) as checkpoints:  # while the run itself clears away what a kill left behind
        assert checkpoints.steps() == [1]
    deadline = time.monotonic() + 10  # Orbax clears in the background
    while unfinished.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not unfinished.exists()
