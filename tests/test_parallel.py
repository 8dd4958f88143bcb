"""Which device holds which part of a parameter, on eight CPU devices in a process of their own."""

import subprocess
import sys
import textwrap

import jax
import pytest

import jann
from jann.layers import linear_spec

SHARDINGS = """
    import warnings
    import jax, numpy as np
    jax.config.update("jax_num_cpu_devices", 8)
    import jann
    from jann.layers import linear_spec
    from jax.sharding import PartitionSpec as P

    mesh = jax.make_mesh((4, 2), ("data", "model"))
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
"""


def test_a_rule_for_an_axis_that_the_mesh_lacks_is_an_error():
    mesh = jax.make_mesh((1,), ("data",))
    with pytest.raises(ValueError, match="rule 'embed': the mesh has no axis model; it has data"):
        jann.shardings({"w": linear_spec(8, 16)}, mesh, {"embed": ("data", "model")})


def test_shardings_follow_the_rules_and_fall_back_with_a_warning():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SHARDINGS)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    first, second, third, fourth = done.stdout.splitlines()
    assert first == "True True"
    assert second == "True [\"b/weight: inputs=6 is not divisible over ('data',), so it is replicated\"]"
    assert third == "True True"  # a mesh axis splits one axis of a parameter only
    assert fourth == "{(2, 3)}"
