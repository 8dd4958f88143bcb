"""The step, the scan over steps, chunks: against written-out JAX and Optax, and against themselves cut elsewhere."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.core import Model
from jann.layers import batch_norm, batch_norm_spec, linear, linear_spec
from jann.models import MLP
from jann.training.objective import is_highest
from jann.training.state import start_average, update_average
from jann.trees import copied

MODEL = MLP(inputs=4, hidden=(8,), outputs=3, dropout=0.1)
OBJECTIVE = jann.objective(MODEL, inputs="x")


def batches(step):
    """The batch of a step: 16 points, labelled by the signs of two of their coordinates."""
    x = jax.random.normal(jax.random.fold_in(jax.random.key(9), step), (16, 4))
    return {"x": x, "label": (x[:, 0] > 0).astype(jnp.int32) + (x[:, 1] > 0)}


@partial(jax.tree_util.register_dataclass, data_fields=["x"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Planned:
    """A stand-in for batches that are planned for a chunk at a time."""

    x: jax.Array

    def plan(self, step, n):
        return step + jnp.arange(n)

    def take(self, row):
        return jax.tree.map(lambda leaf: leaf[row % leaf.shape[0]], self.x)


class Stream:
    """A stand-in for batches that are read on the host."""

    def __init__(self):
        self.reads = []

    def read(self, step, n):
        self.reads.append((step, n))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *map(batches, range(step, step + n)))


def planned():
    return Planned(jax.vmap(batches)(jnp.arange(20)))


def bits(tree):
    return [np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
            for x in jax.tree.leaves(tree)]  # fmt: skip


def assert_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(bits(a), bits(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def assert_close(a, b, rtol=1e-6, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def run(step, source, train_state, n, every, scan=None):
    for train_state, _ in jann.chunks(step, source, train_state, n, every, scan):  # noqa: B007, B020
        pass
    return train_state


# the step


def test_a_step_is_the_written_out_step(key):
    optimizer = optax.adamw(1e-2, mask=jann.decay_mask(MODEL))
    train_state = jann.start(MODEL, optimizer, key)

    @jax.jit
    def raw(params, opt_state, batch, key):
        def loss(params):
            logits = MODEL(params, batch["x"], key=key)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return losses.mean(), is_highest(logits, batch["label"]).mean()

        (value, accuracy), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value, accuracy

    step = jax.jit(jann.make_step(OBJECTIVE, optimizer))
    params, opt_state = train_state.params, train_state.opt_state
    for i in range(3):
        train_state, metrics = step(train_state, batches(i))
        own = jax.random.fold_in(jax.random.fold_in(key, 0), i)
        params, opt_state, value, accuracy = raw(params, opt_state, batches(i), own)
        assert_bits((train_state.params, train_state.opt_state), (params, opt_state))
        assert_bits((metrics["loss"], metrics["accuracy"]), (value, accuracy))
        assert train_state.step == i + 1
        assert_bits(train_state.key, jax.random.fold_in(key, 0))


def test_accumulating_is_the_whole_batch(key):
    model = dataclasses.replace(MODEL, dropout=0.0)
    loss, optimizer = jann.objective(model, inputs="x"), optax.sgd(0.5)
    train_state = jann.start(model, optimizer, key)
    whole, metrics = jax.jit(jann.make_step(loss, optimizer))(train_state, batches(0))
    for parts in (2, 8):
        some, others = jax.jit(jann.make_step(loss, optimizer, accumulate=parts))(train_state, batches(0))
        assert_close((some.params, others), (whole.params, metrics))
    with pytest.raises(ValueError, match="accumulate=3 does not divide the batch of 16"):
        jann.make_step(loss, optimizer, accumulate=3)(train_state, batches(0))
    with pytest.raises(ValueError, match="accumulate=0: a batch has at least one part"):
        jann.make_step(loss, optimizer, accumulate=0)


def test_accumulated_parts_have_noise_of_their_own(key):
    """Two equal halves of a batch would else be dropped alike."""

    def loss(params, batch, key, extra=None):
        return params.sum() * 0 + jax.random.uniform(key), ({"noise": jax.random.uniform(key)}, extra)

    seen = []

    def noted(params, batch, key, extra=None):
        value, (metrics, extra) = loss(params, batch, key, extra)
        jax.debug.callback(lambda v: seen.append(float(v)), metrics["noise"])
        return value, (metrics, extra)

    train_state = jann.TrainState.start(key, jnp.ones(2), optax.sgd(0.1))
    jann.make_step(noted, optax.sgd(0.1), accumulate=4)(train_state, jnp.ones((8, 1)))
    jax.effects_barrier()
    assert len(set(seen)) == 4


def test_clipping_and_norms(key):
    optimizer = optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0))
    train_state = jann.start(MODEL, optimizer, key)
    after, metrics = jax.jit(jann.make_step(OBJECTIVE, optimizer, norms=True))(train_state, batches(0))
    moved = jax.tree.map(jnp.subtract, after.params, train_state.params)
    own = jax.random.fold_in(train_state.key, 0)
    grads = jax.grad(lambda p: OBJECTIVE(p, batches(0), own)[0])(train_state.params)
    flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads)])
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(flat), rtol=1e-5)
    np.testing.assert_allclose(metrics["update_norm"], 0.01, rtol=1e-5)
    assert_close(moved, jax.tree.map(lambda g: -0.01 * g / np.linalg.norm(flat), grads), 1e-3, 1e-7)


def test_the_average_of_weights_follows_its_formula(key):
    optimizer, decay = optax.sgd(0.5), 0.7
    train_state = jann.start(MODEL, optimizer, key, average_weights=True)
    step = jax.jit(jann.make_step(OBJECTIVE, optimizer, average=decay))
    expected = None
    for i in range(6):
        train_state, _ = step(train_state, batches(i))
        weight = np.asarray(train_state.params["layers"][0]["weight"], np.float64)
        rate = max(1 - decay, 1 / (i + 1))
        expected = weight if expected is None else expected + (weight - expected) * rate
        np.testing.assert_allclose(train_state.extra["average"].value["layers"][0]["weight"], expected, rtol=1e-5)
    jax.tree.map(
        np.testing.assert_array_equal, jann.eval_params(train_state), train_state.extra["average"].value
    )
    with pytest.raises(ValueError, match='average=... needs extra={"average": jann.start_average'):
        step(jann.start(MODEL, optimizer, key), batches(0))


def test_an_average_is_the_plain_mean_at_first():
    average = start_average(jnp.zeros(()))
    for n, value in enumerate([3.0, 5.0, 10.0], 1):
        average = update_average(average, jnp.float32(value), 0.99)
        np.testing.assert_allclose(average.value, np.mean([3.0, 5.0, 10.0][:n]), rtol=1e-6)


def test_the_average_of_half_precision_weights_moves_by_little_steps():
    train_state = jann.TrainState.start(jax.random.key(0), {"w": jnp.ones(2, jnp.bfloat16)}, optax.sgd(0.0))
    average = start_average(train_state.params)._replace(count=2000)
    new = {"w": jnp.full(2, 1.5, jnp.bfloat16)}
    average = jax.lax.fori_loop(0, 2000, lambda _, average: update_average(average, new, 0.999), average)
    np.testing.assert_allclose(average.value["w"], 1.5 - 0.5 * 0.999**2000, rtol=1e-4)
    assert jann.eval_params(train_state.replace(extra={"average": average}))["w"].dtype == jnp.bfloat16


def test_half_precision_is_for_computing_only(key):
    dtypes, names = [], ("x", "label", "target", "weight")

    def loss(params, batch, key, extra=None):
        value, rest = OBJECTIVE(params, batch, key, extra)
        dtypes.append(tuple(leaf.dtype for leaf in (params["layers"][0]["weight"], *map(batch.get, names))))
        return value, rest

    optimizer = optax.adam(1e-4)
    train_state = jann.start(MODEL, optimizer, key)
    batch = {**batches(0), "target": jnp.ones(16), "weight": jnp.ones(16)}
    half, metrics = jax.jit(jann.make_step(loss, optimizer, dtype=jnp.bfloat16))(train_state, batch)
    whole, exact = jax.jit(jann.make_step(OBJECTIVE, optimizer))(train_state, batches(0))
    assert dtypes == [(jnp.bfloat16, jnp.bfloat16, jnp.int32, jnp.float32, jnp.float32)]
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {jnp.dtype("float32")}
    assert metrics["loss"].dtype == jnp.float32
    np.testing.assert_allclose(metrics["loss"], exact["loss"], rtol=1e-2)
    # an update of 1e-4 would vanish beside weights kept in bfloat16
    moved = half.params["layers"][0]["weight"] - train_state.params["layers"][0]["weight"]
    np.testing.assert_allclose(np.abs(moved), 1e-4, rtol=0.02)


def test_the_learning_rate_of_a_schedule_is_logged(key):
    schedule = optax.linear_schedule(0.5, 0.1, 4)
    optimizer = optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.sgd)(learning_rate=schedule))
    train_state = jann.start(MODEL, optimizer, key)
    _, history = jax.jit(lambda s: jann.train(jann.make_step(OBJECTIVE, optimizer), batches, s, 6))(train_state)
    np.testing.assert_allclose(history["learning_rate"], [0.5, 0.4, 0.3, 0.2, 0.1, 0.1], rtol=1e-6)


def test_learning_rates_are_those_that_were_injected_each_with_its_place():
    params = {"w": jnp.ones(2), "learning_rate": jnp.ones(3)}

    def logged(optimizer):
        step = jann.make_step(lambda p, batch, key, extra=None: (p["w"].sum(), ({}, extra)), optimizer)
        return step(jann.TrainState.start(jax.random.key(0), params, optimizer), {})[1]

    rates = {name: optax.inject_hyperparams(optax.sgd)(rate) for name, rate in (("fast", 0.5), ("slow", 0.25))}
    assert logged(optax.adam(0.1)).keys() == {"loss"}
    assert logged(rates["fast"])["learning_rate"] == 0.5
    found = logged(optax.multi_transform(rates, {"w": "fast", "learning_rate": "slow"}))
    assert (found["learning_rate/fast"], found["learning_rate/slow"]) == (0.5, 0.25)


def test_transformations_that_ask_for_the_loss_get_it(key):
    def loss(params, batch, key, extra=None):  # Rosenbrock's valley, with its lowest point at (1, 1)
        x, y = params
        return (1 - x) ** 2 + batch * (y - x**2) ** 2, ({}, extra)

    optimizer = optax.lbfgs()
    start, batch = (jnp.float32(-1.0), jnp.float32(1.0)), jnp.float32(100.0)
    train_state = jann.TrainState.start(key, start, optimizer)

    def value(params):
        return loss(params, batch, None)[0]

    @jax.jit
    def raw(params, opt_state):
        now, grads = jax.value_and_grad(value)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params, value=now, grad=grads, value_fn=value)
        return optax.apply_updates(params, updates), opt_state

    _, history = jax.jit(lambda s: jann.train(jann.make_step(loss, optimizer), lambda i: batch, s, 40))(train_state)
    params, opt_state = start, optimizer.init(start)
    for i in range(5):
        np.testing.assert_allclose(history["loss"][i], value(params), rtol=1e-3)
        params, opt_state = raw(params, opt_state)
    assert history["loss"][-1] < 1e-6

    sam = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05), opaque_mode=True)
    uphill = optax.apply_updates(start, optax.tree.scale(0.05, jax.grad(value)(start)))
    downhill = optax.apply_updates(start, optax.tree.scale(-0.1, jax.grad(value)(uphill)))
    for wrapped in (sam, optax.chain(optax.identity(), sam)):
        after, _ = jann.make_step(loss, wrapped)(jann.TrainState.start(key, start, wrapped), batch)
        np.testing.assert_allclose(after.params, downhill, rtol=1e-5)

    plateau = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1))
    after, _ = jann.make_step(loss, plateau)(jann.TrainState.start(key, start, plateau), batch)
    np.testing.assert_allclose(after.opt_state[1].best_value, value(start))
    rarely = optax.MultiSteps(plateau, 1)
    after, _ = jann.make_step(loss, rarely)(jann.TrainState.start(key, start, rarely), batch)
    np.testing.assert_allclose(after.opt_state.inner_opt_state[1].best_value, value(start))


def test_traced_hyperparameters_compile_once(key):
    traces = []

    @jax.jit
    def final(learning_rate, decay):
        traces.append(1)
        optimizer = optax.sgd(learning_rate)
        train_state = jann.start(MODEL, optimizer, key, average_weights=True)
        step = jann.make_step(OBJECTIVE, optimizer, average=decay)
        return jann.eval_params(jann.train(step, batches, train_state, 3)[0])["layers"][0]["weight"]

    first, second = final(0.1, 0.5), final(0.5, 0.5)
    assert len(traces) == 1
    assert np.abs(first - second).max() > 1e-3


# batch norm


class Normed(Model):
    def spec(self):
        return {"first": linear_spec(4, 6, bias=False), "norm": batch_norm_spec(6), "last": linear_spec(6, 3)}

    def apply(self, params, x, state=None, key=None):
        h, statistics = batch_norm(params["norm"], linear(params["first"], x))
        return linear(params["last"], jax.nn.relu(h)), {"norm": statistics}


def test_running_statistics_follow_a_hand_computation(key):
    model, optimizer, momentum = Normed(), optax.sgd(0.3), 0.8
    train_state = jann.start(model, optimizer, key)
    assert set(train_state.params["norm"]) == {"scale", "bias"}
    step = jax.jit(jann.make_step(jann.objective(model, inputs="x", momentum=momentum), optimizer))
    mean = variance = 0.0
    for i in range(5):
        first = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), train_state.params["first"])
        h = np.asarray(batches(i)["x"], np.float64) @ first["weight"]
        rate = max(1 - momentum, 1 / (i + 1))
        mean, variance = mean + (h.mean(0) - mean) * rate, variance + (h.var(0, ddof=1) - variance) * rate
        train_state, _ = step(train_state, batches(i))
        kept = train_state.extra["statistics"].value["norm"]
        np.testing.assert_allclose(kept["mean"], mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(kept["variance"], variance, rtol=1e-5)
    x = np.asarray(batches(7)["x"], np.float64)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), train_state.params)
    h = (x @ p["first"]["weight"] - mean) / np.sqrt(variance + 1e-5)
    h = np.maximum(h * p["norm"]["scale"] + p["norm"]["bias"], 0)
    expected = h @ p["last"]["weight"] + p["last"]["bias"]
    np.testing.assert_allclose(model(jann.eval_params(train_state), batches(7)["x"]), expected, rtol=1e-4, atol=1e-5)


def test_statistics_that_do_not_fit_the_spec_are_named(key):
    class Forgetful(Normed):
        def apply(self, params, x, state=None, key=None):
            return super().apply(params, x)[0], None

    optimizer = optax.sgd(0.1)
    step = jann.make_step(jann.objective(Forgetful(), inputs="x"), optimizer)
    with pytest.raises(ValueError, match="of what the model returned as its state, nothing, norm/mean, norm/var"):
        step(jann.start(Forgetful(), optimizer, key), batches(0))


def test_running_statistics_are_trained_by_no_gradient(key):
    optimizer = optax.sgd(0.1)
    step = jann.make_step(jann.objective(Normed(), inputs="x"), optimizer)
    whole = Normed().init(key)
    with pytest.raises(ValueError, match=r"norm/mean is a running statistic, which no gradient trains: jann.start\("):
        step(jann.TrainState.start(key, whole, optimizer), batches(0))
    train, rest = jann.split(Normed(), whole)  # frozen, they are used, as where a trained network is adapted
    frozen = jann.make_step(jann.adapt.frozen(jann.objective(Normed(), inputs="x"), rest), optimizer)
    after, _ = jax.jit(frozen)(jann.TrainState.start(key, train, optimizer), batches(0))

    def by_hand(train):
        return jann.classification(Normed()(jann.combine(train, rest), batches(0)["x"]), batches(0))["loss"].mean()

    expected = jax.tree.map(lambda p, g: p - 0.1 * g, train, jax.grad(by_hand)(train))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), after.params, expected)


def test_statistics_among_other_state_are_found(key):
    class Carrying(Normed):
        def apply(self, params, x, state=None, key=None):
            logits, statistics = super().apply(params, x)
            return logits, {**statistics, "carry": jnp.ones(3)}

    optimizer = optax.sgd(0.1)
    ends = []
    for model in (Normed(), Carrying()):
        step = jann.make_step(jann.objective(model, inputs="x"), optimizer)
        ends.append(step(jann.start(model, optimizer, key), batches(0))[0].extra)
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_a_loss_of_ones_own_may_update_the_statistics_and_is_warned_of_if_not(key):
    def loss(params, batch, key, extra, update=True):
        logits, statistics = Normed().apply(params, batch["x"])
        extra = jann.training.update_statistics(extra, statistics) if update else extra
        return jann.classification(logits, batch)["loss"].mean(), ({}, extra)

    optimizer = optax.sgd(0.1)
    begin = jann.start(Normed(), optimizer, key)
    ours, _ = jann.make_step(loss, optimizer)(begin, batches(0))
    theirs, _ = jann.make_step(jann.objective(Normed(), inputs="x"), optimizer)(begin, batches(0))
    jax.tree.map(np.testing.assert_array_equal, jann.eval_params(ours), jann.eval_params(theirs))
    jann.eval_params(begin)
    forgetful, _ = jann.make_step(partial(loss, update=False), optimizer)(begin, batches(0))
    with pytest.warns(UserWarning, match="statistics of this train state never changed since the start: its loss"):
        jann.eval_params(forgetful)


def test_an_average_that_nobody_keeps_is_refused(key):
    optimizer = optax.sgd(0.1)
    begin = jann.start(Normed(), optimizer, key, average_weights=True)
    with pytest.raises(ValueError, match=r"keeps an average of the weights.* give make_step\(average=0.999\)"):
        jann.make_step(jann.objective(Normed(), inputs="x"), optimizer)(begin, batches(0))


def test_accumulated_weighted_losses_equal_those_of_the_whole_batch(key):
    class Words(jann.Model):
        def spec(self):
            return {"table": jann.Param({"tokens": 5, "vocab": 5}, jax.nn.initializers.normal(1.0))}

        def apply(self, params, tokens, state=None, key=None):
            return params["table"][tokens], state

    tokens = jax.random.randint(key, (6, 4), 0, 5)
    weight = jnp.array([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0.5, 0, 0, 0]])
    batch = {"token": tokens, "label": (tokens + 1) % 5, "weight": weight}
    optimizer = optax.sgd(1.0)
    begin = jann.start(Words(), optimizer, key)

    def criterion(logits, batch):  # each value a mean over something of its own
        of_row = (batch["token"][:, 0] * batch["number"], batch["number"])
        return {**jann.language(logits, batch), "row": of_row, "plain": batch["number"]}

    batch["number"] = jnp.array([1.0, 0, 3, 4, 0, 6])
    loss = jann.objective(Words(), criterion, "token")
    whole, metrics = jann.make_step(loss, optimizer)(begin, batch)
    for parts in (2, 3, 6):
        end, accumulated = jann.make_step(loss, optimizer, accumulate=parts)(begin, batch)
        np.testing.assert_allclose(end.params["table"], whole.params["table"], rtol=1e-5, atol=1e-7)
        assert accumulated.keys() == metrics.keys() == {"loss", "accuracy", "row", "plain"}
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), accumulated, metrics)


# train and chunks


@pytest.fixture(scope="module")
def adam():
    optimizer = optax.adamw(1e-2)
    return jann.make_step(jann.objective(Normed(), inputs="x"), optimizer, average=0.9), optimizer


def fresh(optimizer, seed=0):
    return jann.start(Normed(), optimizer, jax.random.key(seed), average_weights=True)


@pytest.mark.parametrize("source", [batches, planned, Stream], ids=["function", "planned", "stream"])
def test_every_cut_gives_the_same_bits(adam, source):
    step, optimizer = adam
    source = source if source is batches else source()
    whole = run(step, source, fresh(optimizer), 20, 20)
    assert_bits(run(step, source, fresh(optimizer), 20, 7), whole)
    assert_bits(run(step, source, run(step, source, fresh(optimizer), 13, 7), 7, 1), whole)
    if isinstance(source, Stream):
        assert source.reads[:4] == [(0, 20), (0, 7), (7, 7), (14, 6)]


@pytest.mark.parametrize("source", [batches, planned, Stream], ids=["function", "planned", "stream"])
def test_steps_called_from_python_are_those_of_the_scan(adam, source):
    step, optimizer = adam
    source = source if source is batches else source()
    *_, (whole, metrics) = jann.chunks(step, source, fresh(optimizer), 7, 7)
    *_, (called, own) = jann.chunks(step, source, fresh(optimizer), 7, 7, scan=False)
    assert_close((called.params, called.extra, own), (whole.params, whole.extra, metrics), 1e-4, 1e-6)
    assert_bits(run(step, source, run(step, source, fresh(optimizer), 3, 3, False), 4, 2, False), called)
    assert called.step == 7


def test_ten_and_ten_are_twenty_in_one_scan(adam):
    step, optimizer = adam
    train = jax.jit(jann.train, static_argnums=(0, 1, 3))
    whole, history = train(step, batches, fresh(optimizer), 20)
    half, first = train(step, batches, fresh(optimizer), 10)
    again, second = train(step, batches, half, 10)
    assert_bits(again, whole)
    assert_bits(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second), history)
    stacked = jax.vmap(batches)(jnp.arange(20))
    assert_bits(jax.jit(lambda s: jann.train(step, stacked, s, 20))(fresh(optimizer))[0], whole)
    for every in (20, 10, 8):
        ends = [copied(end) for end, _ in jann.chunks(step, stacked, fresh(optimizer), 20, every)]
        assert_bits(ends[-1], whole)


def test_the_given_state_outlives_its_chunks(adam):
    step, optimizer = adam
    given = fresh(optimizer)
    before = bits(given)
    first = run(step, batches, given, 7, 7)
    for a, b in zip(bits(given), before, strict=True):
        np.testing.assert_array_equal(a, b)
    kept = run(step, batches, first, 7, 7)
    assert_bits(run(step, batches, first, 7, 7), kept)


def test_a_copy_has_memory_of_its_own(key):
    room = np.zeros(1024 + 16, np.float32)
    host = room[-room.ctypes.data % 64 // 4 :][:1024]  # so placed that JAX could keep it
    given = {"device": jnp.arange(3.0), "key": key, "host": host}
    kept = copied(given)
    host[:] = 1
    with jax.debug_nans(False):  # which keeps inputs
        jax.jit(lambda x: x + 1, donate_argnums=0)(given["device"])
    assert given["device"].is_deleted()
    np.testing.assert_array_equal(kept["device"], [0, 1, 2])
    np.testing.assert_array_equal(kept["host"], np.zeros(1024))
    np.testing.assert_array_equal(jax.random.key_data(kept["key"]), jax.random.key_data(key))


def test_a_yielded_state_gives_its_memory_to_the_next(adam):
    step, optimizer = adam
    jax.clear_caches()
    with jax.debug_nans(False):  # which keeps inputs, to run again what gave a NaN
        states = [state for state, _ in jann.chunks(step, batches, fresh(optimizer), 14, 7)]
    assert states[0].params["first"]["weight"].is_deleted()
    assert not states[1].params["first"]["weight"].is_deleted()


def test_chunks_compile_once(adam):
    traces = []

    def counted(train_state, batch):
        traces.append(1)
        return adam[0](train_state, batch)

    run(counted, batches, fresh(adam[1]), 20, 5)
    run(counted, batches, fresh(adam[1], seed=1), 20, 5)
    assert len(traces) == 1


@pytest.mark.parametrize("source", [batches, planned, Stream], ids=["function", "planned", "stream"])
def test_an_ensemble_is_its_members(adam, source):
    step, optimizer = adam
    source = source if source is batches else source()
    members = jax.vmap(lambda key: jann.start(Normed(), optimizer, key, average_weights=True))
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    *_, (together, metrics) = jann.chunks(step, source, members(keys), 6, 3)
    assert metrics["loss"].shape == (3, 3)
    for i in range(3):
        *_, (alone, own) = jann.chunks(step, source, fresh(optimizer, seed=i), 6, 3)
        assert_close(jax.tree.map(lambda leaf: leaf[i], together.params), alone.params, 1e-5, 1e-6)  # noqa: B023
        assert_close(jax.tree.map(lambda leaf: leaf[i], together.extra), alone.extra, 1e-5, 1e-6)  # noqa: B023
        np.testing.assert_allclose(metrics["loss"][:, i], own["loss"], rtol=1e-5)
    again = run(step, source, run(step, source, members(keys), 3, 3), 3, 3)
    assert_bits(again, together)


def test_wrong_sources_and_lengths_are_refused(adam):
    step, optimizer = adam
    with pytest.raises(ValueError, match="n=0: train takes at least one step"):
        jann.train(step, batches, fresh(optimizer), 0)
    with pytest.raises(ValueError, match="n=4, every=0: both must be at least 1"):
        next(jann.chunks(step, batches, fresh(optimizer), 4, 0))
    with pytest.raises(ValueError, match=r"must be stacked \[n=3, batch, ...\], but {'x': \(16,\), 'label': \(16,\)}"):
        jann.train(step, batches(0), fresh(optimizer), 3)
    with pytest.raises(ValueError, match=r"must be stacked \[n=10, batch, ...\], but"):  # not those of one chunk
        next(jann.chunks(step, jax.vmap(batches)(jnp.arange(5)), fresh(optimizer), 10, 5))
    for call in (jann.train, partial(jann.chunks, every=2)):
        with pytest.raises(TypeError, match="batches hold a generator, which cannot be compiled: jann.data.batches"):
            next(iter(call(step, (batches(i) for i in range(4)), fresh(optimizer), n=4)))
    with pytest.raises(TypeError, match="a stream is read on the host.*: give it to jann.chunks or jann.fit"):
        jann.train(step, Stream(), fresh(optimizer), 3)
