"""What a user may get wrong: every error names the thing and the mend, and nothing that was there is lost."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.models import MLP

MODEL = MLP(inputs=4, hidden=(8, 8), outputs=3)
OPTIMIZER = optax.adam(1e-2)
LOSS = jann.objective(MODEL, inputs="x")
STEP = jann.make_step(LOSS, OPTIMIZER)


def batches(step):
    x = jax.random.normal(jax.random.fold_in(jax.random.key(9), step), (16, 4))
    return {"x": x, "label": (x[:, 0] > 0).astype(jnp.int32)}


def poisoned(step, at=13):
    """As `batches`, with one NaN in the batch of one step."""
    batch = batches(step)
    return {**batch, "x": batch["x"].at[5, 2].set(jnp.where(step == at, jnp.nan, batch["x"][5, 2]))}


mended = partial(poisoned, at=-1)  # of one form with `poisoned`, so that XLA rounds both in the same way


def start(model=MODEL, optimizer=OPTIMIZER):
    return jann.start(model, optimizer, jax.random.key(0))


def fit(n=20, source=batches, train_state=None, step=STEP, **options):
    train_state = start() if train_state is None else train_state
    return jann.fit(step, source, train_state, n, **{"every": 5, "progress": False, **options})


def assert_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, (a.step, a.params, a.opt_state), (b.step, b.params, b.opt_state))


def files(folder):
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def nans():
    with jax.debug_nans(False):
        yield


# inputs and options


def test_what_is_no_loss_step_state_or_optimiser_is_told():
    step = r"a step takes \(train_state, batch\), and objective.*loss takes \(params.*: of a loss, jann.make_step\(l"
    state = r"a train state is wanted, got dict: jann.start\(model, optimizer, key\) makes one"
    for call, message in (
        (lambda: jann.train(LOSS, batches, start(), 3), step),
        (lambda: fit(step=LOSS), step),
        (lambda: jann.train(STEP, batches, start().params, 3), state),
        (lambda: fit(train_state=start().params), state),
        (lambda: jann.make_step(MODEL, OPTIMIZER), r"MLP is a model: jann.objective\(model\) makes a loss of it"),
        (lambda: jann.make_step(LOSS, 1e-3), r"an optimiser is wanted, got float: give one of Optax"),
        (lambda: jann.make_step(lambda params, batch: 0.0, OPTIMIZER), r"a loss takes \(params, batch, key, extra"),
        (lambda: jann.diagnose(STEP, start(), batches(0)), r"a loss takes \(params, batch, key, extra"),
        (lambda: jann.TrainState.start(0, MODEL.init(jax.random.key(0)), OPTIMIZER), "key is the number 0: give a key"),
        (lambda: jann.start(MLP, OPTIMIZER, jax.random.key(0)), r"MLP is a class: give a model of it, MLP\(...\)"),
        (lambda: jann.start(MODEL, jax.random.key(0), OPTIMIZER), "an optimiser is wanted, got"),
        (lambda: jann.objective(MLP), "MLP is a class"),
        (lambda: jann.measure(lambda x: x), "a model is wanted, got function"),
        (lambda: jann.evaluate(LOSS, {}, {"x": [[1.0]]}), "x/0/0 is a float: give arrays"),
        (lambda: jann.make_step(3, OPTIMIZER), r"a loss is a function \(params, batch, key, extra=None\), got int"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_a_state_of_another_optimiser_is_told():
    with pytest.raises((AttributeError, TypeError, ValueError)) as caught:
        jann.make_step(LOSS, optax.sgd(0.1, momentum=0.9))(start(), batches(0))
    assert "the train state was started with another optimiser than the step's" in caught.value.__notes__


def test_what_losses_and_criteria_return_is_told():
    def alone(params, batch, key, extra=None):
        return MODEL(params, batch["x"]).mean()

    with pytest.raises(TypeError, match=r"a loss returns \(scalar, \(dict of metrics, extra\)\), got arrays of shap"):
        jann.make_step(alone, OPTIMIZER)(start(), batches(0))
    for criterion, got in ((lambda y, b: {"cost": y.mean(-1)}, "'cost'"), (lambda y, b: y.mean(), ".*Tracer")):
        step = jann.make_step(jann.objective(MODEL, criterion, "x"), OPTIMIZER)
        with pytest.raises(ValueError, match=f'a criterion returns {{"loss": of each example, ...}}, got {got}'):
            step(start(), batches(0))


def test_a_wrong_input_size_is_an_error_before_anything_is_trained(tmp_path):
    def narrow(step):
        return {**batches(step), "x": batches(step)["x"][:, :3]}

    message = r"MLP, parameter layers/0/weight: a weight of shape \[4, 8\] takes inputs\[\.\.\., 4\], got \[16, 3\]"
    with pytest.raises(jann.ShapeError, match=message):
        fit(source=narrow, folder=tmp_path)
    assert_bits(fit(folder=tmp_path)[0], fit()[0])  # the folder can still be used


def test_integer_inputs_are_refused():
    def raw(step):
        return {**batches(step), "x": jnp.ones((16, 4), jnp.uint8)}

    with pytest.raises(TypeError, match="linear takes floating-point inputs, got uint8: scale them first"):
        fit(source=raw)


def test_parameters_of_another_model_are_refused():
    with pytest.raises(jann.ShapeError, match=r"layers/0/weight: wanted \[inputs=4, outputs=8\], got \[5, 8\]"):
        fit(train_state=start(MLP(5, (8, 8), 3)))


def test_a_list_where_a_tuple_belongs():
    with pytest.raises(TypeError, match=r"MLP.hidden must be hashable, got list \[8, 8\]: write the tuple \(8, 8\)"):
        MLP(inputs=4, hidden=[8, 8], outputs=3)


def test_a_number_where_a_tuple_or_a_key_belongs():
    with pytest.raises(TypeError, match=r"MLP.hidden must be a tuple, got the number 8: write \(8,\)"):
        MLP(inputs=4, hidden=8, outputs=3)
    with pytest.raises(TypeError, match=r"key is the number 7: give a key, such as jax.random.key\(7\)"):
        MLP(4, (8,), 3).init(7)
    for needs_key in (lambda: jann.start(MLP(4, (8,), 3), optax.sgd(0.1), 7), lambda: jann.sweep(dict, seeds=1, key=7)):
        with pytest.raises(TypeError, match="key is the number 7"):
            needs_key()
    with pytest.raises(TypeError, match="key is the number 7"):
        jann.fold(7, "noise")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n": 0}, "n=0: fit takes at least one step"),
        ({"n": -3}, "n=-3: fit takes at least one step"),
        ({"every": -1}, "n=20, every=-1: both must be at least 1"),
        ({"patience": 2}, r"patience needs best=\(metric, 'max' or 'min'\) to know what improves"),
        ({"patience": 0, "best": ("loss", "min")}, "patience=0: it counts entries that are not better, at least one"),
        ({"best": ("loss", "lowest")}, r"best=\('loss', 'lowest'\): the second part is 'max' or 'min'"),
        ({"best": ("score", "max")}, r"best=\('score', 'max'\): there is no 'score' among \['step', .*'loss'"),
        ({"tensorboard": True}, "tensorboard=True needs a folder for the event files"),
        ({"source": jnp.ones((5, 16, 4))}, r"must be stacked \[n=20, batch, ...\], but {'': \(5,\)} differ: "),
    ],
)
def test_unknown_and_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


# folders


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(jann.RunFolderError, match="cannot write the run folder .*/file/run: .*; choose another"):
        fit(folder=tmp_path / "file" / "run")
    with pytest.raises(jann.RunFolderError, match="cannot write the run folder .*/file: "):
        fit(folder=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(jann.RunFolderError, match="has a backslash in its name: choose another"):
        fit(folder=tmp_path / "a\\b")
    with pytest.raises(ValueError, match="keep=0: at least the latest checkpoint is kept"):
        fit(folder=tmp_path / "run", keep=0)


@pytest.mark.parametrize("other", [MLP(4, (6, 6), 3), MLP(4, (8, 8), 3, activation=jax.nn.tanh)])
def test_the_folder_of_another_model_is_refused_untouched(tmp_path, other):
    fit(folder=tmp_path, model=MODEL)
    before = files(tmp_path)
    with pytest.raises(jann.RunFolderError, match="holds a run of another configuration .*: choose another"):
        step = jann.make_step(jann.objective(other, inputs="x"), OPTIMIZER)
        fit(folder=tmp_path, model=other, train_state=start(other), step=step)
    assert files(tmp_path) == before
    assert jann.load(tmp_path)[0] == MODEL


def test_the_checkpoint_of_another_model_or_optimizer_is_refused_untouched(tmp_path):
    whole, _ = fit(folder=tmp_path)
    before = files(tmp_path)
    other = MLP(4, (6, 6), 3)
    with pytest.raises(jann.CheckpointError) as error:
        fit(40, folder=tmp_path, train_state=start(other), step=jann.make_step(jann.objective(other), OPTIMIZER))
    assert "params.layers.0.weight: [4, 8] in the checkpoint, wanted [4, 6]" in str(error.value)
    assert str(error.value).endswith(
        "give this run a folder of its own, or the model and optimiser that the checkpoint was made with"
    )
    plain = optax.sgd(0.1)
    with pytest.raises(jann.CheckpointError, match="opt_state.0.mu.layers.0.bias: only in the checkpoint"):
        fit(40, folder=tmp_path, train_state=start(optimizer=plain), step=jann.make_step(LOSS, plain))
    assert files(tmp_path) == before
    assert_bits(fit(folder=tmp_path)[0], whole)


def test_a_truncated_checkpoint_is_named_and_without_it_the_run_goes_on(tmp_path):
    fit(15, folder=tmp_path, save_every=5)
    damaged = tmp_path / "checkpoints" / "15"
    largest = max((f for f in damaged.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(jann.CheckpointError, match="checkpoints/15 is damaged .* to go on from step 10"):
        fit(20, folder=tmp_path)
    shutil.rmtree(damaged)
    end, history = fit(20, folder=tmp_path)
    assert_bits(end, fit(20)[0])
    assert history["step"].tolist() == [5, 10, 15, 20]


def test_truncated_weights_are_named_and_the_run_can_be_finished_again(tmp_path):
    end, _ = fit(folder=tmp_path, model=MODEL)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged or truncated \(.*\): copy or save it again"):
        jann.load(tmp_path)
    fit(folder=tmp_path, model=MODEL)  # nothing is left to train; it writes the model
    jax.tree.map(np.testing.assert_array_equal, jann.load(tmp_path)[1], end.params)


def test_a_configuration_cut_in_half_is_named(tmp_path):
    fit(folder=tmp_path, model=MODEL)
    (tmp_path / "model.json").write_text(json.dumps(jann.to_json(MODEL))[:30])
    with pytest.raises(jann.RunFolderError, match=r"model.json is not whole JSON"):
        fit(folder=tmp_path, model=MODEL)


# numbers that are not


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_nan_in_the_data_stops_the_run_at_its_step(tmp_path, nans, on_disk):
    folder = tmp_path if on_disk else None
    with pytest.raises(jann.NonFiniteError) as error:
        fit(source=poisoned, folder=folder)
    found = error.value
    assert found.step == 13 and isinstance(found, FloatingPointError)
    assert "the loss of step 13 is nan; the last good state is that of step 10 (error.train_state)" in str(found)
    assert_bits(found.train_state, fit(10, mended)[0])
    # the good state is of use: up to the bad batch, which diagnose then names
    at_fault, _ = jax.jit(lambda s: jann.train(STEP, poisoned, s, 3))(found.train_state)
    diagnosis = jann.diagnose(LOSS, at_fault.params, poisoned(found.step), at_fault.key)
    assert diagnosis.origin == "batch: x" and diagnosis.params == ()
    assert_bits(fit(10, mended, found.train_state)[0], fit(20, mended)[0])
    if on_disk:  # and the same command with better data goes on
        assert_bits(fit(source=mended, folder=folder)[0], fit(20, mended)[0])


def test_a_nan_in_the_first_chunk_gives_the_beginning_back(tmp_path, nans):
    for folder in (None, tmp_path):
        with pytest.raises(jann.NonFiniteError, match="step 13 is nan; the last good state is that of step 0"):
            fit(source=poisoned, every=20, folder=folder)


def test_of_an_ensemble_the_others_go_on(tmp_path, nans):
    members = jax.vmap(lambda key: jann.start(MODEL, OPTIMIZER, key))(jax.vmap(jax.random.key)(jnp.arange(3)))
    well, history = fit(train_state=members)
    bad = members.replace(params=jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), members.params))
    best = {"best": ("loss", "min"), "patience": 2}
    with pytest.warns(UserWarning, match=r"members 1 \(step 0\) have a loss .* not finite; the others go on") as warned:
        end, seen = fit(train_state=bad, folder=tmp_path, **best)
    assert len(warned) == 1  # not in each chunk
    others = np.array([0, 2])
    assert_bits(*(jax.tree.map(lambda leaf: leaf[others], state) for state in (end, well)))
    np.testing.assert_array_equal(seen["loss"][:, others], history["loss"][:, others])
    assert np.isnan(seen["loss"][:, 1]).all()
    with jann.Checkpoints(tmp_path, best=("loss", "min")) as checkpoints:
        assert checkpoints.best_step() == int(seen["step"][seen["loss"][:, others].mean(1).argmin()])


def test_an_ensemble_without_a_finite_member_stops(nans):
    members = jax.vmap(lambda key: jann.start(MODEL, OPTIMIZER, key))(jax.vmap(jax.random.key)(jnp.arange(2)))
    bad = members.replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, members.params))
    with pytest.raises(jann.NonFiniteError, match=r"the loss of step 0 is \[nan, nan\]"):
        fit(train_state=bad)


def test_parameters_that_become_nan_after_a_finite_loss_are_not_kept(tmp_path, nans):
    def loss(params, batch, key, extra=None):  # the root's slope at zero is infinite: only the update is not finite
        edge = jnp.where(batch["step"] == 9, 0.0, 1.0)
        return jnp.sqrt(jnp.square(params["w"]).sum() * edge), ({}, extra)

    optimizer = optax.sgd(0.1)
    train_state = jann.TrainState.start(jax.random.key(0), {"w": jnp.ones(3)}, optimizer)
    step = jann.make_step(loss, optimizer)
    with pytest.raises(jann.NonFiniteError) as error:
        fit(source=lambda i: {"step": i}, train_state=train_state, step=step, folder=tmp_path)
    assert str(error.value).startswith("step 9 made parameters that are not finite, from a loss of 0.0; the last good")
    assert error.value.step == 9 and int(error.value.train_state.step) == 5
    assert jann.diagnose(loss, error.value.train_state.params, {"step": 9}).origin == "gradients: w"
    with jann.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [5]


def test_a_learning_rate_far_too_high_is_stopped(nans):
    wild = optax.sgd(1e30)
    with pytest.raises(jann.NonFiniteError) as error:
        fit(train_state=start(optimizer=wild), step=jann.make_step(LOSS, wild), every=1)
    assert jnp.isfinite(jax.flatten_util.ravel_pytree(error.value.train_state.params)[0]).all()
