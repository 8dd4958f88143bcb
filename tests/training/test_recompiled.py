"""A step that is compiled again is named, with what changed; an ordinary run says nothing."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.models import MLP

MODEL = MLP(inputs=4, hidden=(8,), outputs=3)
OPTIMIZER = optax.inject_hyperparams(optax.adamw)(learning_rate=1e-2)
LOSS = jann.objective(MODEL, inputs="x")
RANDOM = np.random.default_rng(0)


class Stream:
    """Batches read on the host, of the size that `sizes` has for their chunk's first step."""

    def __init__(self, sizes):
        self.sizes = sizes

    def read(self, step, n):
        size = self.sizes.get(step, 16)
        return {"x": np.float32(RANDOM.normal(size=(n, size, 4))), "label": RANDOM.integers(0, 3, (n, size))}


@pytest.fixture
def step():
    """A new function, so that nothing of it is compiled yet."""
    return lambda train_state, batch: jann.make_step(LOSS, OPTIMIZER)(train_state, batch)


@pytest.fixture
def start(key):
    return jann.start(MODEL, OPTIMIZER, key)


def test_a_changing_batch_is_named_once(step, start):
    with pytest.warns(UserWarning) as caught:
        jann.fit(step, Stream({6: 7, 9: 5}), start, 12, every=3, progress=False)
    assert [str(warning.message) for warning in caught] == [
        "the step was compiled again at step 6: the batch's 'label' changed from int64[16] to int64[7], "
        "the batch's 'x' changed from float32[16,4] to float32[7,4]; "
        "keep shapes the same (pad or drop the last batch)"
    ]


def test_a_step_called_from_python_counts_too(step, start):
    with pytest.warns(UserWarning, match=r"again at step 4: .* to float32\[7,4\]; keep shapes the same"):
        list(jann.chunks(step, Stream({4: 7}), start, 6, 2, scan=False))


@pytest.mark.parametrize("scan", [True, False])
def test_a_state_that_changes_its_type_is_named(step, start, scan):
    given = start.replace(extra={"seen": jnp.asarray(0.0)})  # of weak type, as Python's numbers are

    def counting(train_state, batch):
        new, metrics = step(train_state, batch)
        return new.replace(extra={"seen": train_state.extra["seen"] + jnp.float32(1)}), metrics

    expected = f"again at step {3 if scan else 1}: the train state's 'extra/seen' changed from float32"
    with pytest.warns(UserWarning) as caught:
        list(jann.chunks(counting, Stream({}), given, 9, 3, scan=scan))
    assert len(caught) == 1 and expected in str(caught[0].message)
    assert "changed from float32[] of weak type to float32[]; start from a state such as" in str(caught[0].message)


@pytest.mark.parametrize("scan", [True, False])
def test_a_state_of_which_a_part_is_bound_to_a_device_is_put_there_whole(step, start, scan):
    given = start.replace(params=jax.device_put(start.params, jax.devices()[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = [state for state, _ in jann.chunks(step, Stream({}), given, 9, 3, scan=scan)]
    assert all(leaf.committed for leaf in jax.tree.leaves(states[-1]))
    assert not start.step.committed, "the caller's is left alone"


def test_an_ordinary_run_says_nothing(step, start, tmp_path):
    evaluate = jax.jit(lambda train_state: {"size": jnp.sum(train_state.params["layers"][0]["weight"])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (7, 12):  # a shorter last chunk; and on from there
            jann.fit(step, Stream({}), start, n, every=4, folder=tmp_path, evaluate=evaluate, progress=False)
        list(jann.chunks(step, Stream({}), start, 7, 4, scan=False))
