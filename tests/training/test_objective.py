"""Criteria, and evaluation that is exact whatever the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.losses import sequence_log_probabilities
from jann.models import MLP

MODEL = MLP(inputs=4, hidden=(8,), outputs=3, dropout=0.5)


def examples(n, seed=0):
    random = np.random.default_rng(seed)
    return {"x": random.normal(size=(n, 4)).astype(np.float32), "label": random.integers(0, 3, n)}


def by_hand(params, arrays):
    p = [jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), layer) for layer in params["layers"]]
    h = np.maximum(arrays["x"] @ p[0]["weight"] + p[0]["bias"], 0)
    logits = h @ p[1]["weight"] + p[1]["bias"]
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    n = len(logits)
    return -log_p[np.arange(n), arrays["label"]].mean(), (logits.argmax(1) == arrays["label"]).mean()


@pytest.mark.parametrize("n, size", [(12, 4), (13, 4), (13, 12), (3, 500), (1, 1), (7, 7)])
def test_evaluation_is_exact_for_every_size(key, n, size):
    arrays, params = examples(n), MODEL.init(key)
    means = jann.evaluate(jann.measure(MODEL, inputs="x"), params, arrays, size=size)
    loss, accuracy = by_hand(params, arrays)
    np.testing.assert_allclose(means["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(means["accuracy"], accuracy, rtol=1e-6)


def weighted(params, batch):
    weight = batch["mask"].sum(1)
    return {"per_token": ((batch["value"] * batch["mask"]).sum(1), weight), "rows": weight > 2}


@pytest.mark.parametrize("size", [3, 4, 10])
def test_sums_with_weights_give_means_over_something_finer(size):
    random = np.random.default_rng(1)
    arrays = {"value": random.normal(size=(10, 6)).astype(np.float32), "mask": random.random((10, 6)) < 0.6}
    arrays["mask"] = arrays["mask"].astype(np.float32)
    means = jann.evaluate(weighted, None, arrays, size=size)
    expected = (arrays["value"] * arrays["mask"]).sum() / arrays["mask"].sum()
    np.testing.assert_allclose(means["per_token"], expected, rtol=1e-5)
    np.testing.assert_allclose(means["rows"], (arrays["mask"].sum(1) > 2).mean(), rtol=1e-6)


def halves(params, batch):
    return {"value": batch["x"][:, 0].astype(jnp.bfloat16)}


def test_half_precision_values_are_summed_in_single():
    arrays = {"x": np.ones((5000, 1), np.float32)}  # a bfloat16 sum sticks at 256
    assert jann.evaluate(halves, None, arrays, size=1000)["value"] == 1.0


def doubled(batch, key):
    assert key is None
    return {**batch, "x": 2 * batch["x"]}


def test_a_transform_is_applied_first(key):
    arrays, params = examples(9), MODEL.init(key)
    means = jann.evaluate(jann.measure(MODEL, inputs="x"), params, arrays, size=4, transform=doubled)
    np.testing.assert_allclose(means["loss"], by_hand(params, {**arrays, "x": 2 * arrays["x"]})[0], rtol=1e-5)


def test_a_nan_in_the_set_shows_once_and_only_where_it_is(key):
    def first(params, batch):
        return {"a": batch["x"][:, 0], "b": batch["x"][:, 1]}

    arrays = examples(10)
    arrays["x"][9, 1] = np.nan
    with jax.debug_nans(False):
        means = jann.evaluate(first, None, arrays, size=4)
    assert jnp.isnan(means["b"])
    np.testing.assert_allclose(means["a"], arrays["x"][:, 0].mean(), rtol=1e-5)


def test_nothing_to_evaluate_is_an_error(key):
    with pytest.raises(ValueError, match="label has no examples: its leading axis is empty"):
        jann.evaluate(jann.measure(MODEL, inputs="x"), MODEL.init(key), examples(0))
    with pytest.raises(ValueError, match="size=0: evaluate takes at least one example at a time"):
        jann.evaluate(jann.measure(MODEL, inputs="x"), MODEL.init(key), examples(3), size=0)


def test_losses_of_half_precision_convert_no_type_unasked():
    outputs, label = jnp.ones((2, 3), jnp.bfloat16), jnp.array([0, 2], jnp.uint8)
    with jax.numpy_dtype_promotion("strict"):
        squares = jann.regression(outputs, {"target": 3 * outputs})["loss"]
        loss = jann.classification(outputs, {"label": label})["loss"]
    np.testing.assert_array_equal(squares, 4)
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)


def test_regression_is_the_mean_squared_error():
    outputs, target = jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([[0.0, 0.0], [3.0, 1.0]])
    np.testing.assert_allclose(jann.regression(outputs, {"target": target})["loss"], [2.5, 8.0])
    with pytest.raises(ValueError, match=r"outputs \[2, 2\] and target \[2\] differ in shape"):
        jann.regression(outputs, {"target": target[:, 0]})


def test_the_objective_trains_with_noise_and_measures_without(key):
    params, batch = MODEL.init(key), examples(6)
    loss = jann.objective(MODEL, inputs="x")
    noisy, (metrics, extra) = loss(params, batch, key, "carried along")
    exact, _ = by_hand(params, batch)
    assert extra == "carried along" and set(metrics) == {"accuracy"}
    np.testing.assert_allclose(loss(params, batch, None)[0], exact, rtol=1e-5)
    assert abs(noisy - exact) > 1e-3
    assert jann.objective(MODEL, inputs="x") is loss  # so that fit does not compile again


def test_a_model_of_several_inputs_gets_them_in_order(key):
    model = jann.models.SequenceClassifier(4, 3, hidden=2)
    params = model.init(key)
    batch = {"x": jax.random.normal(key, (5, 6, 4)), "length": jnp.array([6, 1, 3, 0, 2]), "label": jnp.zeros(5, int)}
    inputs = ("x", "length")
    values = jann.measure(model, inputs=inputs)(params, batch)
    wanted = jann.classification(model(params, batch["x"], batch["length"]), batch)
    np.testing.assert_array_equal(values["loss"], wanted["loss"])
    loss, _ = jann.objective(model, inputs=inputs)(params, batch, None)
    np.testing.assert_allclose(loss, wanted["loss"].mean(), rtol=1e-6)


def test_language_counts_tokens_not_rows(key):
    logits = jax.random.normal(key, (2, 3, 5))
    batch = {"label": jnp.array([[0, 1, 2], [3, 4, 0]]), "weight": jnp.array([[1, 1, 1], [0, 0, 1]])}
    each = -jax.nn.log_softmax(logits)[jnp.arange(2)[:, None], jnp.arange(3)[None], batch["label"]]
    values = jann.language(logits, batch)
    np.testing.assert_allclose(values["loss"][0], [each[0].sum(), each[1, 2]], rtol=1e-6)
    np.testing.assert_array_equal(values["loss"][1], [3, 1])
    right = np.asarray(logits.argmax(-1) == batch["label"])
    np.testing.assert_array_equal(values["accuracy"][0], [right[0].sum(), right[1, 2]])
    np.testing.assert_allclose(jann.language(logits, {"label": batch["label"]})["loss"][0], each.sum(1), rtol=1e-6)


def test_a_loss_over_tokens_is_their_mean_in_training_and_in_evaluation(key):
    model = jann.models.GPT2(vocab=7, positions=8, embed=8, layers=1, heads=2)
    params = model.init(key)
    tokens = jax.random.randint(key, (5, 6), 0, 7)
    documents = jnp.array([[0, 0, 0, 1, 1, 1]] * 5)
    weight = jax.random.bernoulli(key, 0.5, (5, 6))
    batch = {"token": tokens, "label": tokens[:, ::-1], "weight": weight, "document": documents}
    inputs = ("token", None, None, "document")
    logits = model(params, tokens, documents=documents)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    wanted = (each * weight).sum() / weight.sum()
    loss, (metrics, _) = jann.objective(model, jann.language, inputs)(params, batch, None)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    exact = jann.evaluate(jann.measure(model, jann.language, inputs), params, batch, size=2)
    np.testing.assert_allclose(exact["loss"], wanted, rtol=1e-6)
    np.testing.assert_allclose(metrics["accuracy"], exact["accuracy"], rtol=1e-6)
    nothing = {**batch, "weight": jnp.zeros((5, 6))}
    assert jann.objective(model, jann.language, inputs)(params, nothing, None)[0] == 0


def test_a_span_costs_the_mean_of_its_ends_and_is_right_where_both_are():
    logits = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    begin, end = logits.argmax(1).T
    end[1] = (end[1] + 1) % 5
    values = jax.jit(jann.span)(logits, {"begin": begin, "end": end})
    each = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = [-(each[i, begin[i], 0] + each[i, end[i], 1]) / 2 for i in range(3)]
    np.testing.assert_allclose(values["loss"], wanted, rtol=1e-5)
    np.testing.assert_array_equal(values["accuracy"], [1, 0, 1])


def test_tokens_that_cannot_end_an_answer_take_no_part():
    logits = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    logits[:, 3:] += 50
    allowed = np.array([[True, False, True, False, False]] * 2)
    ends = {"begin": np.array([0, 2]), "end": np.array([2, 2])}

    @jax.jit
    @jax.value_and_grad
    def loss(logits, batch):
        return jann.span(logits, batch)["loss"].sum()

    value, grads = loss(logits, {**ends, "allowed": allowed})
    left, gradients = loss(logits[:, [0, 2]], {name: end // 2 for name, end in ends.items()})
    np.testing.assert_allclose(value, left, rtol=1e-6)
    np.testing.assert_allclose(grads[:, [0, 2]], gradients, rtol=1e-5, atol=1e-7)
    assert (np.asarray(grads)[~allowed] == 0).all()
    right = logits[:, [0, 2]].argmax(1) * 2 == np.stack([ends["begin"], ends["end"]], 1)
    found = jax.jit(jann.span)(logits, {**ends, "allowed": allowed})
    np.testing.assert_array_equal(found["accuracy"], right.all(1))
    assert loss(logits, {**ends, "begin": np.array([1, 2]), "allowed": allowed})[0] == jnp.inf


def test_accuracy_is_that_of_argmax_with_ties_and_nan_too():
    logits = np.random.default_rng(0).integers(0, 3, (500, 4)).astype(np.float32)  # many ties
    logits[np.random.default_rng(1).random(logits.shape) < 0.05] = np.nan
    with jax.debug_nans(False):
        for label in range(4):
            said = jann.classification(jnp.asarray(logits), {"label": jnp.full(500, label, jnp.uint8)})["accuracy"]
            # argmax may call a label the highest whose own logit is NaN
            right = (logits.argmax(-1) == label) & ~np.isnan(logits[:, label])
            np.testing.assert_array_equal(said, right)


def test_a_batch_without_what_is_read_from_it_says_what_it_holds(key):
    model = jann.models.MLP(3, (), 2)
    params, x = model.init(key), jnp.ones((4, 3))
    with pytest.raises(KeyError, match="input 'image' is not in the batch, which holds 'x', 'label': give inputs="):
        jann.objective(model)(params, {"x": x, "label": jnp.zeros(4, int)}, key)
    with pytest.raises(KeyError) as caught:
        jann.measure(model, inputs="x")(params, {"x": x, "y": jnp.zeros(4, int)})
    assert caught.value.args == ("label",)
    assert caught.value.__notes__ == ["classification reads it from the batch, which holds 'x', 'y'"]
    with pytest.raises(TypeError, match=r"a batch is a dict of arrays, such as .*; got tuple"):
        jann.objective(model)(params, (x, jnp.zeros(4, int)), key)


@pytest.mark.parametrize("criterion", [jann.classification, jann.language])
def test_labels_that_do_not_fit_the_logits_are_named(criterion):
    with pytest.raises(ValueError, match=r"label \[4, 5, 1\] for logits \[4, 5, 3\]: \[4, 5\] wanted"):
        criterion(jnp.zeros((4, 5, 3)), {"label": jnp.zeros((4, 5, 1), int)})
    with pytest.raises(TypeError, match="label is float32: it counts classes from 0, so give integers"):
        criterion(jnp.zeros((4, 5, 3)), {"label": jnp.zeros((4, 5))})


def test_values_that_are_not_of_each_example_are_refused(key):
    arrays = {"y": np.arange(750, dtype=np.float32)}
    for value, shape in ((lambda p, b: b["y"][:, None], r"\[500, 1\]"), (lambda p, b: b["y"].mean(), r"\[\]")):
        with pytest.raises(ValueError, match=f"measure gives 'v' as {shape} of 500 examples: one value of each"):
            jann.evaluate(lambda p, b, value=value: {"v": value(p, b)}, {}, arrays)
    with pytest.raises(ValueError, match="y has 700 examples and x has 750"):
        jann.evaluate(lambda p, b: {"v": b["y"]}, {}, {"x": arrays["y"], "y": arrays["y"][:700]})


def test_measuring_with_a_batchs_own_statistics_is_refused(key):
    model = jann.models.BatchNorm(3)
    params, _ = jann.split(model, model.init(key))
    batch = {"x": jnp.ones((4, 3)), "label": jnp.zeros(4, int)}
    with pytest.raises(ValueError, match=r"running statistics are missing: mean, variance\. Of a train state evaluate"):
        jann.measure(model, inputs="x")(params, batch)
    jann.measure(model, inputs="x")(model.init(key), batch)


def test_numbers_that_are_traced_and_lists_may_be_options(key):
    def loss(momentum):
        return jann.objective(MODEL, inputs=["x"], momentum=momentum)(MODEL.init(key), batch, key)[0]

    batch = jax.tree.map(jnp.asarray, examples(4))
    assert jax.jit(loss)(0.5) == loss(0.9)
    assert jann.objective(MODEL, inputs="x") is jann.objective(MODEL, inputs="x")


def test_negative_labels_count_nothing_in_a_text_and_are_no_class_elsewhere(key):
    logits, label = jax.random.normal(key, (2, 4, 5)), jnp.array([[1, 2, -100, -100], [4, 3, 2, 1]])
    weight = jnp.array([[1.0, 1, 0, 0], [1, 1, 1, 1]])
    plain = {"label": jnp.maximum(label, 0), "weight": weight}
    expected = jann.language(logits, plain)
    for batch in ({"label": label}, {"label": label, "weight": jnp.ones((2, 4))}):
        jax.tree.map(np.testing.assert_array_equal, jann.language(logits, batch), expected)
    np.testing.assert_array_equal(
        sequence_log_probabilities(logits, label), sequence_log_probabilities(logits, plain["label"], weight)
    )
    # what weighs nothing may have any logits and any label, and its gradient is 0
    labelled = {"label": label.at[0, 2].set(7).at[0, 3].set(1), "weight": weight}
    with jax.debug_nans(False):
        wild = logits.at[0, 2].set(jnp.nan).at[0, 3, 1].set(-jnp.inf)
        jax.tree.map(np.testing.assert_array_equal, jann.language(wild, labelled), expected)
        slope = jax.grad(lambda wild: sequence_log_probabilities(wild, labelled["label"], weight).sum())(wild)
        np.testing.assert_array_equal(slope[0, 2:], 0)
        losses = jann.classification(logits[0], {"label": jnp.array([0, -1, 4, 5])})["loss"]
        narrow = jann.classification(jnp.zeros((1, 200)), {"label": jnp.array([-1], jnp.int8)})["loss"]
        ends = jann.span(logits[..., :2], {"begin": jnp.array([0, -1]), "end": jnp.array([1, 1])})["loss"]
    np.testing.assert_array_equal(jnp.isnan(losses), [False, True, False, True])
    np.testing.assert_array_equal(jnp.isnan(ends), [False, True])
    np.testing.assert_array_equal(jnp.isnan(narrow), True)
