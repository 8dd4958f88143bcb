"""Parts that stay frozen, and a trained body under a new head."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.adapt import frozen, transplant
from jann.models import BERT, MLP, Flatten, chain, resnet20

SENTENCES = BERT(11, 8, 2, 8, 2, 2, 12, head="sentence", labels=3)
TOKENS = np.array([[1, 4, 10, 7, 2], [3, 3, 9, 0, 5]])
BATCH = {"token": TOKENS, "label": np.array([0, 2])}


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("chosen", "paths"),
    [
        ("^head/", {"head/weight", "head/bias"}),
        ("^(head|pooler)/", {"head/weight", "head/bias", "pooler/weight", "pooler/bias"}),
    ],
)
def test_only_what_is_chosen_trains_and_has_state(chosen, paths, drawn, key):
    params = drawn(SENTENCES)
    train, rest = jann.partition(params, chosen)
    optimizer = optax.adam(1e-2)
    start = jann.TrainState.start(key, train, optimizer)
    adam = start.opt_state[0]
    assert set(jann.flatten(adam.mu)) == set(jann.flatten(adam.nu)) == set(jann.flatten(train)) == paths
    step = jann.make_step(frozen(jann.objective(SENTENCES, inputs="token"), rest), optimizer)
    state, history = jann.train(step, jax.tree.map(lambda leaf: jnp.stack([leaf] * 20), BATCH), start, 20)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    after = jann.combine(rest, state.params)
    changed = {path for path, leaf in jann.flatten(after).items() if np.any(leaf != jann.flatten(params)[path])}
    assert changed == paths


def test_last_blocks_of_a_list(drawn, key):
    """Where blocks are a list, a pattern may choose some of them."""
    params = jann.core.listed(SENTENCES, drawn(SENTENCES))
    train, rest = jann.partition(params, "^(blocks/1|head|pooler)/")
    grads = jax.jit(jax.grad(lambda train: SENTENCES(jann.combine(rest, train), TOKENS).sum()))(train)
    assert not jax.tree.leaves(grads["blocks"][0]) and jax.tree.leaves(grads["blocks"][1])
    whole = jax.jit(jax.grad(lambda params: SENTENCES(params, TOKENS).sum()))(params)
    for path, leaf in jann.flatten(grads).items():
        np.testing.assert_allclose(leaf, jann.flatten(whole)[path], rtol=1e-4, atol=1e-5)


def test_frozen_parameters_keep_running_statistics_as_they_are(drawn, key):
    """Batch norms whose statistics are frozen normalise by them."""
    model = resnet20(classes=3)
    train, rest = jann.partition(drawn(model), "^head/")
    loss = frozen(jann.objective(model), rest)
    images = {"image": np.ones((2, 8, 8, 3), np.float32), "label": np.array([0, 1])}
    value, (_, extra) = loss(train, images, key)
    logits = model(jann.combine(rest, train), images["image"])
    wanted = optax.softmax_cross_entropy_with_integer_labels(logits, images["label"])
    np.testing.assert_allclose(value, wanted.mean(), rtol=1e-5)
    assert extra is None


@pytest.mark.parametrize("head", ["features", "words"])
def test_a_sentence_head_on_a_pretrained_bert(head, drawn, key):
    before = dataclasses.replace(SENTENCES, head=head)
    given = drawn(before)
    made = transplant(SENTENCES, key, given)
    assert set(made.drawn) == {"head/weight", "head/bias", "pooler/weight", "pooler/bias"}
    assert set(made.taken) == set(jann.flatten(SENTENCES.spec())) - set(made.drawn)
    words = ["head/bias", "head/dense/bias", "head/dense/weight", "head/norm/bias", "head/norm/scale"]
    assert sorted(made.left) == (words[1:] if head == "words" else [])
    fresh = SENTENCES.init(key)
    for path, leaf in jann.flatten(made.params).items():
        np.testing.assert_array_equal(leaf, jann.flatten(fresh if path in made.drawn else given)[path])
    assert "drawn 4: " in repr(made) and "pooler/weight" in repr(made)


def test_a_new_head_for_other_classes_and_for_listed_blocks(drawn, key):
    ten, three = (chain(Flatten(3), MLP(16, (8,), outputs)) for outputs in (10, 3))
    made = transplant(three, key, drawn(ten))
    assert set(made.drawn) == {"1/layers/1/weight", "1/layers/1/bias"} and made.left == ()
    assert three(made.params, np.ones((2, 4, 4, 1), np.float32)).shape == (2, 3)
    equal(made.params[1]["layers"][0], drawn(ten)[1]["layers"][0])
    made = transplant(resnet20(classes=3), key, drawn(resnet20(classes=10)))
    assert set(made.drawn) == {"head/weight", "head/bias"}
    blocks = jann.core.listed(SENTENCES, drawn(SENTENCES))
    made = transplant(dataclasses.replace(SENTENCES, labels=5), key, blocks)
    assert set(made.drawn) == {"head/weight", "head/bias"} and isinstance(made.params["blocks"], list)
    with pytest.raises(ValueError, match="no leaf fits MLP.*it wants layers/0/weight.*given were blocks/"):
        transplant(MLP(2, (3,), 1), key, drawn(SENTENCES))
