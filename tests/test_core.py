"""What is derived from the spec, and models as values."""

import dataclasses
import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.core import Model, Param, ShapeError, check, in_form_of, init, stack
from jann.layers import batch_norm_spec, layer_norm_spec, linear, linear_spec
from jann.models import MLP
from jann.trees import unstacked

pytestmark = pytest.mark.usefixtures("optimised")

MODEL = MLP(inputs=4, hidden=(8, 8), outputs=3)
BLOCK = {"norm": layer_norm_spec(4), "inner": linear_spec(4, 4)}


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


class Tower(Model):
    """A stem, equal blocks declared once, batch norm: every kind of leaf."""

    depth: int = 3

    def spec(self):
        return {
            "stem": linear_spec(4, 4),
            "blocks": stack({**BLOCK, "batch": batch_norm_spec(4)}, layers=self.depth),
            "head": linear_spec(4, 2, bias=False),
        }


# init


def test_init_folds_each_leaf_by_its_path(key):
    weight = MODEL.init(key)["layers"][1]["weight"]
    own = jax.random.fold_in(key, np.uint32(zlib.crc32(b"layers/1/weight")))
    np.testing.assert_array_equal(weight, jax.nn.initializers.lecun_normal()(own, (8, 8)))


JAX_INITIALISERS = {
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "xavier_uniform": jax.nn.initializers.xavier_uniform(),
    "normal": jax.nn.initializers.normal(0.02),
    "scaled": jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "normal"),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "ones": jax.nn.initializers.ones,
    "own": lambda key, shape, dtype: 0.3 * jax.random.normal(key, shape, dtype) + 0.1,
}


def test_init_draws_the_numbers_of_each_initialiser_alone_and_stacked(key):
    spec = {name: Param({"rows": 16, "columns": 24}, draw) for name, draw in JAX_INITIALISERS.items()}
    drawn = init({**spec, "blocks": stack({"normal": spec["normal"]}, layers=2)}, key)
    blocks = drawn.pop("blocks")["normal"]

    def alone(name, path):
        own = jax.random.fold_in(key, np.uint32(zlib.crc32(path.encode())))
        return JAX_INITIALISERS[name](own, (16, 24), jnp.float32)

    assert_equal(drawn, {name: alone(name, name) for name in spec})
    assert_equal(blocks, jnp.stack([alone("normal", f"blocks/{i}/normal") for i in range(2)]))


def test_init_takes_keys_of_the_old_kind():
    assert_equal(Tower().init(jax.random.PRNGKey(7)), Tower().init(jax.random.key(7)))


def test_init_of_an_equal_model_compiles_nothing(key):
    class Small(Model):
        width: int

        def spec(self):  # with an initialiser made anew each time
            return {"weight": Param({"inputs": 3, "outputs": self.width}, jax.nn.initializers.normal(0.1))}

    def compilations(function):
        names = []

        def listen(name, seconds, **_):
            names.append(name)

        jax.monitoring.register_event_duration_secs_listener(listen)
        function()
        jax.monitoring.unregister_event_duration_listener(listen)
        return names.count("/jax/core/compile/backend_compile_duration")

    assert compilations(lambda: Small(5).init(key)) > 0
    assert compilations(lambda: Small(5).init(key)) == 0


def test_init_agrees_under_jit_vmap_and_eval_shape(key):
    params = MODEL.init(key)
    assert_equal(jax.jit(MODEL.init)(key), params)
    keys = jax.random.split(key, 3)
    many = jax.vmap(MODEL.init)(keys)
    for i in range(3):
        assert_equal(jax.tree.map(lambda leaf: leaf[i], many), MODEL.init(keys[i]))  # noqa: B023
    shapes = jax.eval_shape(MODEL.init, key)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), params
    )


def test_stacked_blocks_start_as_listed_ones(key):
    one = init({"blocks": stack(BLOCK, layers=3)}, key)["blocks"]
    listed = init({"blocks": [BLOCK] * 3}, key)["blocks"]
    assert_equal(unstacked(one), listed)


def test_nested_stacks_start_as_nested_lists(key):
    group = {"local": stack(BLOCK, layers=2), "head": linear_spec(4, 4)}
    twice = init({"groups": stack(group, groups=3)}, key)["groups"]
    listed = init({"groups": [{"local": [BLOCK] * 2, "head": linear_spec(4, 4)}] * 3}, key)["groups"]
    for one, other in zip(unstacked(twice), listed, strict=True):
        assert_equal({**one, "local": unstacked(one["local"])}, other)
    directly = init({"groups": stack(stack(BLOCK, layers=2), groups=3)}, key)["groups"]
    assert_equal([unstacked(g) for g in unstacked(directly)], init({"groups": [[BLOCK] * 2] * 3}, key)["groups"])


def test_two_blocks_do_not_start_the_same(key):
    first, second = unstacked(init({"blocks": stack(BLOCK, layers=2)}, key)["blocks"])
    assert not np.array_equal(first["inner"]["weight"], second["inner"]["weight"])


def test_adding_a_layer_moves_no_other(key):
    before = init({"b": linear_spec(4, 4), "d": linear_spec(4, 2)}, key)
    after = init({"a": linear_spec(2, 2), "b": linear_spec(4, 4), "c": linear_spec(4, 4), "d": linear_spec(4, 2)}, key)
    assert_equal({name: after[name] for name in before}, before)


def test_stacking_along_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="'layers' is already in inner/bias: give the outer stack another name"):
        stack(stack({"inner": linear_spec(2, 2)}, layers=2), layers=3)


def test_fan_in_multiplies_the_contracted_axes():
    assert Param({"window": 3, "inputs": 5, "outputs": 7}, into=("window", "inputs")).fan_in == 15
    assert Param({"outputs": 7}).fan_in == 1


# trees


def random_tree(random, depth=3):
    """Dicts and lists, nested at random, never empty; names that sort otherwise than they are written."""
    if depth == 0 or random.random() < 0.25:
        return np.asarray(random.normal(size=random.integers(1, 3)))
    below = [random_tree(random, depth - 1) for _ in range(random.integers(1, 12))]
    if random.random() < 0.4:
        return below
    names = [f"n_{i}" for i in random.permutation(len(below))]
    return dict(zip(names, below, strict=True))


@pytest.mark.parametrize("seed", range(25))
def test_flatten_and_unflatten_are_inverse(seed):
    tree = random_tree(np.random.default_rng(seed))
    flat = jann.flatten(tree)
    assert len(flat) == len(jax.tree.leaves(tree))
    back = jann.unflatten(flat)
    assert_equal(back, tree)
    assert list(jann.flatten(back)) == list(flat)  # also the order in which it was written


@pytest.mark.parametrize("seed", range(25))
def test_partition_and_combine_are_inverse(seed):
    random = np.random.default_rng(seed)
    tree = {"root": random_tree(random)}
    chosen = {path for path in jann.flatten(tree) if random.random() < 0.5}
    some, others = jann.partition(tree, lambda path, leaf: path in chosen)
    assert set(jann.flatten(some)) == chosen
    assert set(jann.flatten(others)) == set(jann.flatten(tree)) - chosen
    assert_equal(jann.combine(some, others), tree)
    assert_equal(jann.combine(others, some), tree)


def test_partition_by_pattern():
    params = MODEL.init(jax.random.key(0))
    biases, weights = jann.partition(params, "bias$")
    assert list(jann.flatten(biases)) == ["layers/0/bias", "layers/1/bias", "layers/2/bias"]
    assert jann.count(weights) == 4 * 8 + 8 * 8 + 8 * 3
    with pytest.raises(ValueError, match="no parameter path matches 'gamma'; the paths are: layers/0/bias, "):
        jann.partition(params, "gamma")


def test_combine_takes_the_later_of_two_leaves():
    assert jann.combine({"a": 1, "b": 2}, {"b": 3}) == {"a": 1, "b": 3}


# masks, splits, counts


@pytest.mark.parametrize("listed", [False, True])
def test_decay_and_split_know_both_forms_of_depth(key, listed):
    model = Tower()
    params = model.init(key)
    if listed:
        params["blocks"] = unstacked(params["blocks"])
    trained, statistics = jann.split(model, params)
    assert all(path.rsplit("/", 1)[1] in ("mean", "variance") for path in jann.flatten(statistics))
    assert jann.count(statistics) == 3 * (4 + 4)
    assert_equal(jann.combine(trained, statistics), params)
    mask = jann.flatten(jann.decay_mask(model)(trained))
    assert {path for path, decays in mask.items() if decays} == {p for p in mask if p.endswith("weight")}


def test_a_listed_spec_masks_stacked_parameters(key):
    class Listed(Tower):
        def spec(self):
            return {"blocks": [BLOCK] * 3}

    params = {"blocks": jann.stacked(Listed().init(key)["blocks"])}
    check(Listed(), params)
    mask = jann.decay_mask(Listed())(params)
    assert mask == {"blocks": {"inner": {"bias": False, "weight": True}, "norm": {"bias": False, "scale": False}}}


def test_in_form_of_stacks_blocks_that_hold_a_stack():
    spec = {"groups": [{"blocks": stack(BLOCK, layers=2)}] * 3}
    params = init({"groups": stack({"blocks": stack(BLOCK, layers=2)}, groups=3)}, jax.random.key(0))
    check(spec, params)
    assert in_form_of(spec, params)["groups"]["blocks"]["inner"]["weight"].shape == (3, 2, 4, 4)


def test_count_and_summary():
    assert jann.count(MODEL) == (4 * 8 + 8) + (8 * 8 + 8) + (8 * 3 + 3) == 139
    text = repr(jann.summary(MODEL))
    lines = text.splitlines()
    assert lines[0] == "MLP(inputs=4, hidden=(8, 8), outputs=3)"
    assert "layers/1/weight  inputs=8, outputs=8          64" in lines
    assert lines[-1] == "139 parameters, 0.00 MiB in float32"
    # stem 20, three blocks of (norm 8 + inner 20 + batch norm 8 trained and 8 running), head 8
    assert repr(jann.summary(Tower())).splitlines()[-1].startswith("160 parameters, ")
    assert repr(jann.summary(Tower())).endswith("136 trained, * running statistics")


def test_what_cannot_be_in_a_spec_is_named(key):
    class Net(Model):
        kind: str

        def spec(self):
            return {
                "array": {"out": {"w": jnp.zeros((8, 2))}},
                "sizes": {"w": (8, 2)},
                "number": [{0: linear_spec(8, 2)}],
                "slash": {"a/b": linear_spec(8, 2)},
                "nothing": None,
            }[self.kind]

    for kind, message in (
        ("array", r"^Net.spec\(\), out/w: wanted a Param, such as Param\(.*\), got an array of shape \[8, 2\]"),
        ("sizes", r"^Net.spec\(\), w/0: wanted a Param, such as Param\(.*\), got int"),
        ("number", r"^Net.spec\(\), 0: names are strings, got 0: write '0', or a list"),
        ("slash", r"^Net.spec\(\): the name 'a/b' has a slash, as paths have: nest dicts, or rename it"),
        ("nothing", r"^Net.spec\(\): wanted a Param, such as Param\(.*\), got NoneType"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            Net(kind).init(key)
    with pytest.raises(TypeError, match=r"^the spec, w: wanted a Param"):
        init({"w": 3}, key)
    with pytest.raises(TypeError, match=r"Param takes axes by name, such as dict\(.*\), got \(8, 2\)"):
        Param((8, 2))
    with pytest.raises(TypeError, match=r"the sizes of a Param are whole numbers, got {'outputs': 4.0}"):
        linear_spec(8, 4.0)
    with pytest.raises(ValueError, match=r"the sizes of a Param are at least 1, got {'outputs': 0}"):
        linear_spec(8, 0)


# checks


def test_check_lists_every_parameter_that_does_not_fit(key):
    params = MODEL.init(key)
    params["layers"][0]["weight"] = params["layers"][0]["weight"].T
    del params["layers"][1]["bias"]
    params["layers"][2]["gain"] = jnp.ones(3)
    with pytest.raises(ShapeError) as error:
        MODEL(params, jnp.ones((2, 4)))
    assert str(error.value).splitlines() == [
        "parameters do not fit MLP(inputs=4, hidden=(8, 8), outputs=3):",
        "  layers/0/weight: wanted [inputs=4, outputs=8], got [8, 4]",
        "  layers/1/bias: missing, wanted [outputs=8]",
        "  layers/2/gain: unexpected",
        "model.init(key) makes parameters that fit",
    ]


def test_check_takes_both_forms_of_depth_and_no_statistics(key):
    params = Tower().init(key)
    check(Tower(), params)
    check(Tower(), {**params, "blocks": unstacked(params["blocks"])})
    check(Tower(), jann.split(Tower(), params)[0])
    with pytest.raises(ShapeError, match="blocks: wanted a list of 3, got 2"):
        check(Tower(), {**params, "blocks": unstacked(params["blocks"])[:2]})


class Linear(Model):
    inputs: int
    outputs: int

    def spec(self):
        return linear_spec(self.inputs, self.outputs)

    def apply(self, params, x, state=None, key=None):
        return linear(params, x), state


def test_a_subclass_may_give_its_parents_apply_other_parameters(drawn):
    class Deeper(Linear):
        def spec(self):
            return {"base": super().spec(), "head": linear_spec(self.outputs, 1)}

        def apply(self, params, x, state=None, key=None):
            hidden, state = super().apply(params["base"], x, state=state)
            return linear(params["head"], hidden), state

    model = Deeper(4, 3)
    params, x = drawn(model), np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(model(params, x), linear(params["head"], linear(params["base"], x)))
    with pytest.raises(ShapeError, match=r"Deeper, parameter base/weight: "):
        model(params, x[:, :3])
    with pytest.raises(ShapeError, match=r"base/weight: wanted \[inputs=5"):
        Deeper(5, 3)(params, x)
    with pytest.raises(ShapeError, match=r"weight: wanted \[inputs=5"):
        type("Same", (Linear,), {})(5, 3)(params["base"], x)


def test_an_apply_that_forgets_the_state_is_told(drawn):
    class Net(Linear):
        def apply(self, params, x, state=None, key=None):
            y = linear(params, x)
            return y if state is None else (y, y, state)

    message = r"Net.apply must return \(output, state\), got an array of shape \[2, 2\]: write `return y, state`"
    for function in (Net(4, 2).apply, jax.jit(Net(4, 2))):
        with pytest.raises(TypeError, match=message):
            function(drawn(Net(4, 2)), np.ones((2, 4), np.float32))
    with pytest.raises(TypeError, match="got a tuple of 3"):
        Net(4, 2).apply(drawn(Net(4, 2)), np.ones((2, 4), np.float32), state=0)


def test_a_wrong_input_names_the_parameter(key):
    with pytest.raises(ShapeError, match=r"MLP, parameter layers/0/weight: .* takes inputs\[\.\.\., 4\], got \[2, 5\]"):
        jax.jit(MODEL)(MODEL.init(key), jnp.ones((2, 5)))


# models as values


def test_no_key_draws_nothing():
    with pytest.raises(TypeError, match=r"parameters are drawn with a key, such as jax.random.key\(0\), got None"):
        MODEL.init(None)


def test_models_compare_hash_and_print_by_value():
    same = MLP(inputs=4, hidden=(8, 8), outputs=3, activation=jax.nn.relu)
    assert same == MODEL and hash(same) == hash(MODEL) and len({same, MODEL}) == 1
    other = dataclasses.replace(MODEL, activation=jax.nn.gelu, dropout=0.5)
    assert other != MODEL
    assert repr(other) == "MLP(inputs=4, hidden=(8, 8), outputs=3, activation=jax.nn.gelu, dropout=0.5)"
    assert repr(MLP(4, (8,), 2)) == "MLP(inputs=4, hidden=(8,), outputs=2)"


def test_equal_models_share_one_compilation(key):
    traces = []

    run = jax.jit(lambda model, params, x: (traces.append(1), model(params, x))[1], static_argnums=0)
    params = MODEL.init(key)
    for _ in range(3):
        run(MLP(inputs=4, hidden=(8, 8), outputs=3), params, jnp.ones((2, 4)))
    assert len(traces) == 1


def test_unhashable_fields_are_refused_by_name():
    with pytest.raises(TypeError, match=r"MLP.hidden must be hashable, got list \[8, 8\]: write the tuple \(8, 8\)"):
        MLP(inputs=4, hidden=[8, 8], outputs=3)
    with pytest.raises(TypeError, match="MLP.inputs must be hashable, got ndarray .*: arrays belong in params"):
        MLP(inputs=np.ones(3), hidden=(8,), outputs=3)
    with pytest.raises(TypeError, match=r"MLP.hidden must be hashable, got dict {'a': 1}: write a tuple of pairs, or"):
        MLP(inputs=4, hidden={"a": 1}, outputs=3)


def test_a_model_with_an_init_of_its_own_is_refused():
    with pytest.raises(TypeError, match="Own is a dataclass: in place of __init__ declare its fields, such as `n"):

        class Own(Model):
            def __init__(self, n):
                self.n = n


def test_numbers_of_numpy_are_numbers():
    model = MLP(inputs=np.int64(4), hidden=(np.int32(8), 8), outputs=np.uint8(3), dropout=np.float32(0.5))
    assert repr(model) == "MLP(inputs=4, hidden=(8, 8), outputs=3, dropout=0.5)"
    assert jann.from_json(json.loads(json.dumps(jann.to_json(model)))) == model
    assert linear_spec(np.int32(4), {"heads": np.int64(2)}) == linear_spec(4, {"heads": 2})
    assert type(linear_spec(4, np.int32(2))["weight"].size) is int


def test_a_composite_names_the_inner_parameter(key):
    class Pair(Model):
        first: Model
        second: Model

        def spec(self):
            return {"first": self.first.spec(), "second": linear_spec(3, 2)}

        def apply(self, params, x, state=None, key=None):
            return linear(params["second"], self.first(params["first"], x)[..., :2]), state

    pair = Pair(MODEL, MODEL)
    with pytest.raises(ShapeError, match="Pair, parameter second/weight: .* got"):
        pair(pair.init(key), jnp.ones((1, 4)))
