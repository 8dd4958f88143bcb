"""Which device holds which part of a parameter, on eight CPU devices in a process of their own."""

import subprocess
import sys
import textwrap

import jax
import pytest

import jann
from jann.layers import linear_spec

START = """
    import warnings
    import jax, numpy as np
    jax.config.update("jax_num_cpu_devices", 8)
    import jann
    from jann.layers import linear_spec
    from jax.sharding import AxisType, PartitionSpec as P

    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
"""


def printed(program):
    program = textwrap.dedent(START) + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_rule_for_an_axis_that_the_mesh_lacks_is_an_error():
    mesh = jax.make_mesh((1,), ("data",))
    with pytest.raises(ValueError, match="rule 'embed': the mesh has no axis model; it has data"):
        jann.shardings({"w": linear_spec(8, 16)}, mesh, {"embed": ("data", "model")})


def test_shardings_follow_the_rules_and_fall_back_with_a_warning():
    first, second, third, fourth = printed("""
        spec = {"a": linear_spec(8, 6), "b": linear_spec(6, 8)}
        rules = {"inputs": "data", "outputs": "model"}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            out = jann.shardings(spec, mesh, rules)
        print(out["a"]["weight"].spec == P("data", "model"), out["a"]["bias"].spec == P("model"))
        print(out["b"]["weight"].spec == P(None, "model"), [str(w.message) for w in caught])
        both = jann.shardings({"w": linear_spec(8, 16)}, mesh, {"outputs": ("data", "model"), "inputs": "data"})
        print(both["w"]["weight"].spec == P("data", "model"), both["w"]["bias"].spec == P(("data", "model")))
        placed = jax.device_put(jann.init(spec, jax.random.key(0)), out)
        print({s.data.shape for s in placed["a"]["weight"].addressable_shards})
    """)
    assert first == "True True"
    assert second == "True [\"b/weight: inputs=6 is not divisible over ('data',), so it is replicated\"]"
    assert third == "True True"  # a mesh axis splits one axis of a parameter only
    assert fourth == "{(2, 3)}"


def test_low_rank_factors_are_split_as_the_kernel_is():
    stacked, listed, parts, difference = printed("""
        model = jann.models.GPT2(vocab=11, positions=6, embed=8, layers=2, heads=2, hidden=12)
        random = np.random.default_rng(0)
        params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(model.init, jax.random.key(0)))
        params = jann.adapt.low_rank(model, params, rank=3, targets="qkv|mlp_out", key=jax.random.key(1))
        params = jax.tree.map(lambda leaf: np.float32(random.normal(size=leaf.shape)), params)
        rules = {"embed": "data", "heads": "model", "hidden": "model"}

        where = jann.shardings(model, mesh, rules, params)
        qkv, out = where["blocks"]["qkv"]["weight"], where["blocks"]["mlp_out"]["weight"]
        print([*qkv.parts(), qkv.base.spec == P(None, "data", None, "model"),
               qkv.down.spec == P(None, "data"), qkv.up.spec == P(None, None, None, "model"),
               qkv.scale.spec == P(),
               out.down.spec == P(None, "model"), out.up.spec == P(None, None, "data")])

        form = jann.core.listed(model, params)
        qkv = jann.shardings(model, mesh, rules, form)["blocks"][1]["qkv"]["weight"]
        print([qkv.base.spec == P("data", None, "model"), qkv.down.spec == P("data"),
               qkv.up.spec == P(None, None, "model"), qkv.scale.spec == P()])

        placed = jax.device_put(params, where)
        qkv = placed["blocks"]["qkv"]["weight"]
        print([part.addressable_shards[0].data.shape for part in (qkv.base, qkv.down, qkv.up)])
        tokens = np.arange(6)[None]
        model = jax.jit(model)
        print(abs(model(placed, tokens) - model(params, tokens)).max())
    """)
    assert stacked == str(["base", "down", "up", "scale"] + [True] * 6)
    assert listed == str([True] * 4)
    assert parts == "[(2, 2, 3, 1, 4), (2, 2, 3), (2, 3, 3, 1, 4)]"
    assert float(difference) < 1e-4


def test_shardings_answer_in_the_form_of_the_parameters(key):
    model = jann.models.chain(jann.models.Linear(4, 4), jann.models.BatchNorm(4))
    mesh, params = jax.make_mesh((1,), ("data",)), model.init(key)
    trained, _ = jann.split(model, params)
    for form in (params, trained):
        assert jann.flatten(jann.shardings(model, mesh, {}, form)).keys() == jann.flatten(form).keys()
    with pytest.raises(jann.ShapeError, match="unexpected"):
        jann.shardings(model, mesh, {}, [{**params[0], "gain": params[0]["bias"]}, params[1]])


def test_a_train_state_with_sharded_parameters_trains_as_one_program():
    (said,) = printed("""
        import optax
        from jann.models import MLP

        warnings.simplefilter("error")  # as that of a step that is compiled again
        model, optimizer = MLP(inputs=4, hidden=(16,), outputs=8), optax.adam(1e-2)
        key = jax.random.key(0)
        params = model.init(key)
        split = jax.device_put(params, jann.shardings(model, mesh, {"outputs": "model"}))
        starts = [jann.TrainState.start(key, each, optimizer) for each in (params, split)]
        random = np.random.default_rng(0)
        batch = {"image": random.normal(size=(16, 4)).astype("f"), "label": np.arange(16) % 8}
        step = jann.make_step(jann.objective(model), optimizer)
        ends = [list(jann.chunks(step, lambda step: batch, state, 6, 2))[-1][0] for state in starts]
        alone, together = (jax.tree.leaves(end.replace(key=None)) for end in ends)
        same = all(np.allclose(a, b, atol=1e-5) for a, b in zip(alone, together, strict=True))
        print(same, len(ends[0].step.devices()), len(ends[1].step.devices()))
    """)
    assert said == "True 1 8"


def test_a_linear_layer_keeps_batch_and_time_split():
    said = printed("""
        from jann.layers import linear

        p = jann.init(linear_spec(8, {"heads": 2, "head": 8}), jax.random.key(0))
        x = jax.device_put(np.ones((8, 4, 8), "f"), jax.NamedSharding(mesh, P("data", "model")))
        print(jax.jit(linear)(p, x).sharding.spec == P("data", "model"))
    """)
    assert said == ["True"]


def test_a_run_on_a_mesh_goes_on_and_the_mesh_may_be_as_jax_makes_it(tmp_path):
    """Its parameters are split, or its batches alone."""
    split, differs, resumed, resumed_on_split_batches = printed(f"""
        import optax
        model, optimizer = jann.models.MLP(6, (8,), 4), optax.adam(1e-2)
        params = model.init(jax.random.key(0))
        on_two = jann.shardings(model, jax.make_mesh((4, 2), ("data", "model")), {{"inputs": "model"}})
        step = jann.make_step(jann.objective(model, inputs="x"), optimizer)
        batches = lambda i: {{"x": jax.random.normal(jax.random.key(i), (8, 6)), "label": jax.numpy.arange(8) % 4}}

        def run(params, n, folder=None, batches=batches):
            state = jann.TrainState.start(jax.random.key(1), params, optimizer)
            return jann.fit(step, batches, state, n, every=4, folder=folder, progress=False)[0]

        sharded = jax.device_put(params, on_two)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # none that the step is compiled again
            end = run(sharded, 8)
        # XLA would split the biases too
        where = [jax.tree.map(lambda leaf: leaf.sharding, tree) for tree in (end.params, end.opt_state[0].mu)]
        print(where == [on_two, on_two])
        whole = run(params, 8).params
        print(max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), end.params, whole))) < 1e-5)
        run(sharded, 4, "{tmp_path}")
        again = run(sharded, 8, "{tmp_path}")
        print(all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), end.params, again.params))))
        rows = jax.device_put(jax.vmap(batches)(jax.numpy.arange(8)), jax.NamedSharding(mesh, P(None, "data")))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            end = run(params, 8, None, rows)
            run(params, 4, "{tmp_path}/split", jax.tree.map(lambda leaf: leaf[:4], rows))
            again = run(params, 8, "{tmp_path}/split", rows)
        print(all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), end.params, again.params))))
    """)
    assert (split, differs, resumed, resumed_on_split_batches) == ("True", "True", "True", "True")
