"""Bahdanau's encoder-decoder: gradients, the source's padding, decoding, and that it learns to reverse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.analysis import check_gradients
from jann.models import AttentionSeq2Seq

MODEL = AttentionSeq2Seq(source_vocab=6, target_vocab=5, embed=3, hidden=4, maxout=3)


@pytest.fixture
def made(drawn, key):
    source, target = jax.random.randint(key, (2, 6), 0, 6), jax.random.randint(key, (2, 4), 0, 5)
    return drawn(MODEL), source, target


def test_gradients(made):
    params, source, target = made
    weights = jax.random.normal(jax.random.key(3), (2, 4, 5))
    lengths = np.array([6, 3])
    errors = check_gradients(lambda p: (MODEL(p, source, target, lengths) * weights).sum(), params, tolerance=1e-4)
    assert errors.keys() == jann.flatten(params).keys()


def test_the_sources_padding_is_not_seen(made):
    params, source, target = made
    lengths = np.array([6, 3])
    run = jax.jit(jann.observe(MODEL))
    logits, seen = run(params, source, target, lengths)
    np.testing.assert_allclose(logits[1], MODEL(params, source[1, :3], target[1]), rtol=1e-4, atol=1e-5)
    moved, _ = run(params, source.at[1, 3:].set(0), target, lengths)
    np.testing.assert_array_equal(moved, logits)
    np.testing.assert_allclose(seen["attention"].sum(-1), np.ones((2, 4)), rtol=1e-5)
    np.testing.assert_array_equal(seen["attention"][1, :, 3:], 0)
    empty = MODEL(params, source, target, np.array([0, 3]))
    assert np.isfinite(empty).all()


def test_attention_is_the_papers_formula(made):
    params, source, target = made
    _, seen = jann.observe(MODEL)(params, source[0], target[0])
    state = MODEL.encode(params, source[0])
    align, s = params["align"], state["decoder"]["hidden"]
    scores = [
        jnp.tanh(s @ align["query"]["weight"] + align["query"]["bias"] + h @ align["key"]["weight"])
        @ align["score"]["weight"][:, 0]
        for h in state["memory"]
    ]
    np.testing.assert_allclose(seen["attention"][0], jax.nn.softmax(jnp.stack(scores)), rtol=1e-5, atol=1e-6)


def test_decoding_step_by_step_is_teacher_forcing(made):
    params, source, target = made
    want = MODEL(params, source, target)
    state = MODEL.encode(params, source)
    for t in range(4):
        logits, state = MODEL.decode(params, target[:, t : t + 1], state)
        np.testing.assert_allclose(logits[:, 0], want[:, t], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="give it to decode"):
        MODEL.apply(params, source, target, state=state)


def test_it_learns_to_reverse(key):
    """Words of up to five of six letters, backwards: unseen ones come out right, and it looks at them backwards."""
    model = AttentionSeq2Seq(source_vocab=6, target_vocab=7, embed=16, hidden=32, maxout=32)  # token 6 starts

    def draw(key):
        source = jax.random.randint(jann.fold(key, "letters"), (32, 5), 0, 6)
        lengths = jax.random.randint(jann.fold(key, "lengths"), (32,), 2, 6)
        places = jnp.arange(5)[None]
        mirrored = jnp.take_along_axis(source, jnp.clip(lengths[:, None] - 1 - places, 0, 4), axis=1)
        return {"source": source, "lengths": lengths, "label": mirrored, "weight": places < lengths[:, None]}

    def loss(params, batch, key, extra=None):
        begin = jnp.full((32, 1), 6)
        target = jnp.concatenate([begin, batch["label"][:, :-1]], 1)
        logits = model(params, batch["source"], target, batch["lengths"])
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return (nats * batch["weight"]).sum() / batch["weight"].sum(), ({}, extra)

    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 600))  # at rest, so that machines' rounding tells little
    step = jann.make_step(loss, optimizer)

    @jax.jit
    def trained(key):
        state = jann.start(model, optimizer, key)
        return jann.train(step, lambda n: draw(jax.random.fold_in(key, n)), state, 600)[0].params

    params, unseen = trained(key), draw(jax.random.key(9))
    got = jax.jit(lambda p, s, n: model.greedy(p, s, 6, 5, n))(params, unseen["source"], unseen["lengths"])
    right = ((got == unseen["label"]) | ~unseen["weight"]).all(-1)
    assert right.mean() > 0.95
    target = jnp.concatenate([jnp.full((32, 1), 6), unseen["label"][:, :-1]], 1)
    _, seen = jann.observe(model)(params, unseen["source"], target, unseen["lengths"])
    whole = unseen["lengths"] == 5
    looked = seen["attention"][whole].argmax(-1)
    assert (looked[:, 0] >= 3).mean() > 0.9 and (looked[:, 4] <= 1).mean() > 0.9
