"""Losses against values worked by hand, and what they are minimised by."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.losses import (
    angular_margin_loss,
    ctc_loss,
    preference_loss,
    quantile_loss,
    sequence_log_probabilities,
    triplet_loss,
)


def test_quantile_loss_by_hand():
    outputs = jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    loss = quantile_loss(outputs, jnp.array([2.0, 0.0]), (0.1, 0.5, 0.9))
    # too low by 1: 0.1; right: 0; too high by 1: 0.1. Then too high by 1, 2, 3: 0.9, 1.0, 0.3
    np.testing.assert_allclose(loss, [[0.1, 0.0, 0.1], [0.9, 1.0, 0.3]], rtol=1e-6, atol=1e-7)


def test_the_gradient_vanishes_at_the_samples_quantiles():
    sample = jnp.asarray(np.random.default_rng(0).normal(size=2001), jnp.float32)
    levels = (0.1, 0.5, 0.9)
    grad = jax.grad(lambda q: quantile_loss(jnp.broadcast_to(q, (2001, 3)), sample, levels).sum(-1).mean())
    at = jnp.quantile(sample, jnp.array(levels))
    np.testing.assert_allclose(grad(at), 0, atol=1e-3)
    assert (grad(at + 0.1) > 0.01).all() and (grad(at - 0.1) < -0.01).all()


@pytest.mark.parametrize(
    ("shape", "levels", "message"),
    [((4, 2), (0.1, 0.5, 0.9), "3 quantiles"), ((4, 1), (1.0,), "must lie between 0 and 1")],
)
def test_what_does_not_fit(shape, levels, message):
    with pytest.raises(ValueError, match=message):
        quantile_loss(jnp.zeros(shape), jnp.zeros(4), levels)


def test_log_probabilities_of_sequences_by_hand():
    logits = np.log(np.float32([[[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]], [[0.2, 0.2, 0.6], [0.1, 0.1, 0.8]]]))
    labels = np.array([[0, 2], [2, 1]])
    wanted = np.log([0.5 * 0.125, 0.6 * 0.1])
    found = sequence_log_probabilities(logits + 3, labels)  # a softmax does not see what is added to all
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    found = sequence_log_probabilities(logits, labels, np.array([[0, 1], [1, 0]]))
    np.testing.assert_allclose(found, np.log([0.125, 0.6]), rtol=1e-5)


def said(letters, blank):
    return tuple(letter for letter, _ in itertools.groupby(letters) if letter != blank)


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_loss_is_of_all_ways_to_say_the_labels(blank):
    a, b = {0, 1, 2} - {blank}
    logits = np.random.default_rng(0).normal(size=(2, 2, 4, 3))
    log_p = np.array(jax.nn.log_softmax(logits)).astype(np.float64)
    labels = np.array([[[a, b, -1], [a, a, blank]], [[-100, b, -100], [-1, -1, -1]]])
    lengths = np.array([[4, 3], [2, 4]])
    found = ctc_loss(logits, labels, lengths, blank)
    for row in np.ndindex(2, 2):
        wanted, time = tuple(x for x in labels[row].tolist() if x >= 0 and x != blank), int(lengths[row])
        ways = [way for way in itertools.product(range(3), repeat=time) if said(way, blank) == wanted]
        total = sum(np.exp(log_p[row][np.arange(time), list(way)].sum()) for way in ways)
        np.testing.assert_allclose(found[row], -np.log(total), rtol=1e-5)
    np.testing.assert_allclose(ctc_loss(logits[0, 0], labels[0, 0], blank=blank), found[0, 0], rtol=1e-5)
    errors = jann.analysis.check_gradients(lambda x: ctc_loss(x, labels, lengths, blank).sum(), logits, tolerance=1e-3)
    assert errors
    assert ctc_loss(logits[:0], labels[:0]).shape == (0, 2)
    assert ctc_loss(logits[0, 0, :2], np.array([a, a]), blank=blank) > 9e4  # there must be a blank between them


def test_ctc_loss_of_what_does_not_fit():
    with pytest.raises(ValueError, match=r"logits \[2, 4, 3\], labels \[3, 2\]: .* same leading axes wanted"):
        ctc_loss(jnp.zeros((2, 4, 3)), jnp.ones((3, 2), int))
    with pytest.raises(ValueError, match=r"and lengths \[\]"):
        ctc_loss(jnp.zeros((2, 4, 3)), jnp.ones((2, 2), int), jnp.array(4))


def test_preference_loss_by_hand():
    """log p: policy -1 and -3, reference -2 and -2.5: rewards 0.5 and -0.25 with beta 0.5, a margin of 0.75"""
    values = preference_loss(*map(jnp.float32, (-1, -3, -2, -2.5)), beta=0.5)
    np.testing.assert_allclose(values["chosen_reward"], 0.5)
    np.testing.assert_allclose(values["rejected_reward"], -0.25)
    np.testing.assert_allclose(values["loss"], np.log(1 + np.exp(-0.75)), rtol=1e-6)
    assert values["accuracy"] == 1
    same = preference_loss(*jnp.float32([[-1, -5], [-3, -3], [-1, -5], [-3, -3]]))
    np.testing.assert_allclose(same["loss"], np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(same["accuracy"], 0)


def test_gradient_of_the_preference_loss():
    """-beta sigmoid(-margin) for the chosen, the same upwards for the rejected, none for the reference (equation 7)"""
    given = [jnp.float32(x) for x in (-1, -3, -2, -2.5)]
    grads = jax.grad(lambda *given: preference_loss(*given, beta=0.5)["loss"], range(4))(*given)
    slope = 0.5 / (1 + np.exp(0.75))
    np.testing.assert_allclose(grads, [-slope, slope, 0, 0], rtol=1e-5)


def test_a_model_that_is_trained_on_preferences_comes_to_prefer_them(key):
    """Of two answers to a prompt, that which is chosen gets likelier than it was, the rejected one less likely."""
    model = jann.models.GPT2(vocab=7, positions=8, embed=8, layers=1, heads=2)
    params = model.init(key)
    tokens = jax.random.randint(key, (2, 16, 6), 0, 6)
    tokens = tokens.at[0, :, 3:].set(5).at[1, :, 3:].set(2)  # [chosen and rejected, pairs, time], a prompt of 3
    weight = jnp.broadcast_to(jnp.arange(5) >= 2, (2, 16, 5))

    def log_probabilities(params):
        return sequence_log_probabilities(model(params, tokens[..., :-1]), tokens[..., 1:], weight)

    reference = log_probabilities(params)

    def loss(params, batch, key, extra=None):
        values = preference_loss(*log_probabilities(params), *reference, beta=0.1)
        means = {name: value.mean() for name, value in values.items()}
        return means.pop("loss"), (means, extra)

    optimizer = optax.adam(1e-2)
    step = jann.make_step(loss, optimizer)
    state, history = jann.train(step, lambda n: {}, jann.TrainState.start(key, params, optimizer), 30)
    np.testing.assert_allclose(history["loss"][0], np.log(2), rtol=1e-5)
    assert history["loss"][-1] < 0.4 and history["accuracy"][-1] == 1
    chosen, rejected = log_probabilities(state.params) - reference
    assert (chosen > 0).all() and (rejected < 0).all()


@pytest.mark.parametrize("margin", [0.0, 0.3, 1.5])
def test_angular_margin_loss_is_of_the_turned_angle(margin):
    angles = np.array([[0.2, 1.0, 2.0], [1.5, 0.4, 3.0], [0.1, 2.5, 1.2]])
    labels = np.array([0, 2, 1])  # the second and third own angles go beyond π with the margins above
    own = angles[np.arange(3), labels]
    turned = np.where(own + margin <= np.pi, np.cos(own + margin), np.cos(own) - margin * np.sin(margin))
    logits = np.cos(angles)
    logits[np.arange(3), labels] = turned
    wanted = np.log(np.exp(10 * logits).sum(-1)) - 10 * turned
    found = angular_margin_loss(jnp.cos(angles), labels, margin, scale=10.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    of_one = angular_margin_loss(jnp.cos(angles[0]), labels[0], margin, 10.0)
    np.testing.assert_allclose(of_one, wanted[0], rtol=1e-5, atol=1e-6)


def test_angular_margin_loss_without_a_margin_is_cross_entropy():
    cosines = np.float32(np.random.default_rng(0).uniform(-1, 1, (6, 4)))
    labels = np.arange(6) % 4
    wanted = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(7 * cosines), jnp.asarray(labels))
    np.testing.assert_allclose(angular_margin_loss(cosines, labels, 0.0, 7.0), wanted, rtol=1e-5)


def test_angular_margin_loss_rises_with_the_angle_and_its_gradient_is_finite():
    def loss(angle):
        return angular_margin_loss(jnp.stack([jnp.cos(angle), jnp.zeros(())]), jnp.array(0), 0.5, 8.0)

    losses = np.array([loss(angle) for angle in np.linspace(0, np.pi, 30)])
    assert (np.diff(losses) > 0).all(), "also beyond π − margin"
    gradient = jax.grad(lambda c: angular_margin_loss(c, jnp.array([0, 1, 0]), 0.5, 64.0).sum())
    assert jnp.isfinite(gradient(jnp.array([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]))).all()
    with pytest.raises(ValueError, match=r"labels \[4\] for cosines \[3, 2\]"):
        angular_margin_loss(jnp.zeros((3, 2)), jnp.zeros(4, int))


@pytest.mark.parametrize("hardest", [True, False])
def test_triplet_loss_takes_the_hardest_or_all_of_the_batch(hardest):
    random = np.random.default_rng(0)
    embeddings, labels = random.normal(size=(2, 9, 5)), random.integers(0, 3, (2, 9))
    wanted = np.zeros((2, 9))
    for row, of, (x, own) in itertools.product(range(2), range(9), [(embeddings, labels)]):
        distance = np.linalg.norm(x[row] - x[row, of], axis=-1)
        positives = [distance[j] for j in range(9) if own[row, j] == own[row, of] and j != of]
        negatives = [distance[j] for j in range(9) if own[row, j] != own[row, of]]
        triplets = [max(0, 0.7 + a - b) for a, b in itertools.product(positives, negatives)]
        broken = [loss for loss in triplets if loss > 0]
        wanted[row, of] = max(triplets, default=0) if hardest else np.mean(broken) if broken else 0
    assert (wanted > 0).any()
    embeddings = np.float32(embeddings)
    found = triplet_loss(embeddings, labels, 0.7, hardest)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    found = triplet_loss(embeddings[0], labels[0], 0.7, hardest)
    np.testing.assert_allclose(found, wanted[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hardest", [True, False])
def test_triplet_loss_of_examples_without_a_triplet_and_of_equal_ones(hardest):
    on_a_line = jnp.array([[0.0], [1.0], [3.0]])
    # 0: own 1, other 3; 1: own 1, other 2; the third is alone
    np.testing.assert_allclose(triplet_loss(on_a_line, jnp.array([4, 4, 7]), 1.5, hardest), [0.0, 0.5, 0.0], atol=1e-6)
    np.testing.assert_array_equal(triplet_loss(on_a_line, jnp.array([2, 2, 2]), 1.5, hardest), [0, 0, 0])
    gradient = jax.grad(lambda x: triplet_loss(x, jnp.array([0, 0, 1, 1]), 0.2, hardest).sum())(jnp.ones((4, 3)))
    np.testing.assert_array_equal(gradient, np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"embeddings \[4, 3\] and labels \[3\]"):
        triplet_loss(jnp.ones((4, 3)), jnp.zeros(3, int))
