"""What importing jann sets for the process: asked of fresh ones."""

import os
import subprocess
import sys

import jaxlib
import pytest

pytestmark = pytest.mark.usefixtures("optimised")

FAULTS = """
import resource
import jann, jax, jax.numpy as jnp

faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
large = jax.jit(lambda x: jax.lax.scan(lambda sum, y: (sum + y, sum * y), x, jnp.outer(x, x))[1].max())
x = jnp.ones(1 << 12)
counts = []
for _ in range(6):
    before = faults()
    large(x).block_until_ready()
    counts.append(faults() - before)
print(min(counts[2:]))
"""
AHEAD = """
import jann, jax, jax.numpy as jnp

long = jax.jit(lambda x: jax.lax.fori_loop(0, 200, lambda _, y: jnp.tanh(y @ x), x))
x = jnp.ones((400, 400))
long(x).block_until_ready()
print(not long(x).is_ready())
"""
FIRST_STEP = """
import jann, jann.data, jax, numpy as np, optax

compiled = []
jax.monitoring.register_event_duration_secs_listener(lambda name, _, **__: compiled.append(name))
key = jax.random.key(0)
arrays = {"image": np.ones((16, 8), np.float32), "label": np.arange(16) % 4}
model = jann.models.MLP(inputs=8, hidden=(16, 16), outputs=4, dropout=0.1)
optimizer = optax.adamw(1e-3, mask=jann.decay_mask(model))
batches = jann.data.batches(arrays, 4, jax.random.fold_in(key, 1))
step = jann.make_step(jann.objective(model), optimizer)
jax.block_until_ready(next(jann.chunks(step, batches, jann.start(model, optimizer, key), 1, 1)))
print(compiled.count("/jax/core/compile/backend_compile_duration"))
"""
FOLDER = "import jann, jax; print(jax.config.jax_compilation_cache_dir)"


def said(program, **environment):
    environment = {"JAX_PLATFORMS": "cpu", **os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a property of GNU's C library")
def test_memory_of_a_program_is_kept_for_its_next_run():
    pages = (1 << 26) // 4096
    assert int(said(FAULTS, JANN_KEEP_MEMORY="1")) < pages / 10
    assert int(said(FAULTS, JANN_KEEP_MEMORY="0")) > pages / 2
    beside = FAULTS.replace("faults =", "jann.cpu_devices(2)\nfaults =")
    assert int(said(beside, JANN_KEEP_MEMORY="1")) > pages / 2, "devices side by side have heaps of their own"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a property of GNU's C library")
def test_programs_that_wait_for_each_other_do_not_hold_memory_meanwhile():
    assert said(AHEAD, JANN_KEEP_MEMORY="1") == "False", "the thread that calls a program runs it"
    assert said(AHEAD, JANN_KEEP_MEMORY="0") == "True"
    assert said(AHEAD, JANN_KEEP_MEMORY="1", JAX_CPU_ENABLE_ASYNC_DISPATCH="1") == "True", "the user's choice counts"
    assert said(AHEAD.replace("long =", "jann.cpu_devices(2)\nlong ="), JANN_KEEP_MEMORY="1") == "True"


def test_programs_are_kept_in_a_folder_unless_one_is_named(tmp_path):
    cleared = {"JAX_COMPILATION_CACHE_DIR": ""}
    folder = said(FOLDER, XDG_CACHE_HOME=str(tmp_path), **cleared)
    if sys.platform.startswith("linux"):
        assert folder.startswith(str(tmp_path / "jann" / "compiled")) and os.path.isdir(folder)
    assert said(FOLDER, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    assert said(FOLDER, XDG_CACHE_HOME=str(tmp_path / "file"), **cleared) == "", "a folder that cannot be made"


def test_convolutions_are_xla_s_own_where_its_library_is_slower():
    flags = "import jann, os, jax; jax.jit(lambda x: x)(1.0); print(os.environ.get('XLA_FLAGS', ''))"
    asked = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
    assert (asked in said(flags, XLA_FLAGS="")) == jaxlib.__version__.startswith("0.10.")
    own = "--xla_cpu_experimental_ynn_fusion_type=individual_dot"
    assert said(flags, XLA_FLAGS=own) == own, "what the user asks for stays"


def test_few_programs_are_compiled_until_the_first_step_is_taken():
    # Two for the key, two to fold it, two arrays put on the device, three kernels, a zero, the optimiser's state, the
    # step. Operation by operation it was 30.
    assert int(said(FIRST_STEP)) <= 13
