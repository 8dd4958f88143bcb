"""Batches: equal however the steps are cut, complete, and clear about what cannot be batched."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann.data
from jann.data.shuffle import round_keys, shuffled


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        yield


def numbered(n=23, size=5, seed=0, **options):
    """Examples whose values are their own numbers: 23 in batches of 5 make 4 steps an epoch, 3 left out."""
    arrays = {
        "x": np.arange(n, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32),
        "label": np.arange(n),
    }
    return jann.data.batches(arrays, size, jax.random.key(seed), **options)


def add_noise(batch, key):
    return {**batch, "x": batch["x"] + jax.random.normal(key, batch["x"].shape)}


def run(batches, step, n):
    """The batches of n steps, stacked, through a scan as training runs them."""
    return jax.lax.scan(lambda carry, planned: (carry, batches.take(planned)), 0, batches.plan(step, n))[1]


compiled = jax.jit(run, static_argnums=2)


@pytest.mark.parametrize("shuffle", [True, False])
def test_twenty_steps_are_ten_and_ten_bit_for_bit(shuffle):
    batches = numbered(transform=add_noise, shuffle=shuffle)
    whole = run(batches, 3, 20)  # from within an epoch, over five borders
    halves = [run(batches, 3, 10), compiled(batches, jnp.int32(13), 10)]
    for part in ("x", "label"):
        np.testing.assert_array_equal(whole[part], np.concatenate([half[part] for half in halves]))
    for i in range(20):
        single = batches(3 + i)
        np.testing.assert_array_equal(single["x"], whole["x"][i])
        np.testing.assert_array_equal(single["label"], whole["label"][i])


@pytest.mark.parametrize("n, size", [(23, 5), (5, 5), (7, 1)])
@pytest.mark.parametrize("start, steps", [(0, 9), (2, 13)])
def test_plans_of_any_length_agree_with_single_steps(n, size, start, steps):
    batches = numbered(n, size)
    plan = batches.plan(start, steps)
    assert plan["rows"].shape == (steps, size) and plan["rows"].dtype == jnp.int32
    np.testing.assert_array_equal(plan["step"], start + np.arange(steps))
    for i in range(steps):
        np.testing.assert_array_equal(plan["rows"][i], batches.plan(start + i, 1)["rows"][0])


def test_an_epoch_is_the_permutation_of_its_number():
    batches = numbered()
    for epoch in range(3):
        rounds = round_keys(jax.random.fold_in(jax.random.key(0), epoch), 23)
        order = shuffled(rounds[None], jnp.zeros(23, jnp.int32), jnp.arange(23), 23)
        np.testing.assert_array_equal(batches.plan(4 * epoch, 4)["rows"].ravel(), order[:20])


def test_each_epoch_visits_each_example_at_most_once_and_leaves_out_others():
    batches = numbered()
    assert (batches.examples, batches.steps_per_epoch) == (23, 4)
    labels = run(batches, 0, 40)["label"].reshape(10, 20)
    for epoch in labels:
        assert len(set(epoch.tolist())) == 20
    left_out = {frozenset(range(23)) - set(epoch.tolist()) for epoch in labels}
    assert len(left_out) > 5
    assert not np.array_equal(labels[0], labels[1])


def test_leaves_stay_together():
    batch = numbered()(7)
    np.testing.assert_array_equal(
        batch["x"], np.asarray(batch["label"], np.float32)[:, None] * np.ones((1, 2))
    )


def test_without_shuffling_the_order_is_the_datas():
    labels = run(numbered(shuffle=False), 0, 8)["label"]
    np.testing.assert_array_equal(labels.ravel(), np.tile(np.arange(20), 2))


def test_vmap_over_keys_is_each_key_by_itself():
    keys = jax.random.split(jax.random.key(5), 3)
    arrays = {"x": jnp.arange(23.0)[:, None], "label": jnp.arange(23)}

    def seen(key, step):
        return run(jann.data.batches(arrays, 5, key, add_noise), step, 6)

    together = jax.jit(jax.vmap(seen, in_axes=(0, None)))(keys, jnp.int32(2))
    staggered = jax.jit(jax.vmap(seen))(keys, jnp.array([2, 2, 2]))  # a step of its own for each
    seen = jax.jit(seen)
    for i, key in enumerate(keys):
        alone = seen(key, 2)
        for part in ("x", "label"):
            np.testing.assert_array_equal(together[part][i], alone[part])
            np.testing.assert_array_equal(staggered[part][i], alone[part])
    assert not np.array_equal(together["label"][0], together["label"][1])


def test_the_transforms_key_differs_from_step_to_step_and_is_not_the_permutations():
    batches = numbered(transform=lambda batch, key: {**batch, "key": jax.random.key_data(key)})
    keys = run(batches, 0, 12)["key"]
    assert len({tuple(key) for key in keys.tolist()}) == 12
    orders = [jax.random.key_data(jax.random.fold_in(jax.random.key(0), e)).tolist() for e in range(12)]
    assert not {tuple(key) for key in keys.tolist()} & {tuple(key) for key in orders}


def test_as_an_argument_it_compiles_once_for_other_keys_data_and_steps():
    traced = []

    @jax.jit
    def first(batches, step):
        traced.append(step)
        return batches(step)["label"]

    for seed in (0, 1):
        batches = numbered(seed=seed, transform=add_noise)
        np.testing.assert_array_equal(first(batches, 6), batches(6)["label"])
    assert len(traced) == 1
    leaves, tree = jax.tree.flatten(numbered())
    assert len(leaves) == 3 and isinstance(tree.unflatten(leaves), jann.data.Batches)


def test_a_plan_holds_what_its_steps_see_and_not_all_examples():
    batches = jann.data.batches(np.zeros((60_000, 1), np.uint8), 10, jax.random.key(0))
    text = str(jax.make_jaxpr(lambda batches: batches.plan(0, 300))(batches))
    assert "[300,10]" in text and " sort[" not in text
    assert max(int(n) for shape in re.findall(r"32\[([\d,]+)\]", text) for n in shape.split(",")) <= 300


@pytest.mark.parametrize(
    "arrays, size, message",
    [
        ({"image": np.zeros((8, 2)), "label": np.zeros(7)}, 2, "label has 7 examples and image has 8"),
        ({"a": {"b": np.zeros((4, 1))}, "c": np.zeros(3)}, 2, "c has 3 examples and a/b has 4"),
        ({"image": np.zeros((0, 2))}, 1, "image has no examples"),
        ({"image": np.zeros((8, 2))}, 9, "batch size 9 is larger than the data: choose at most its 8"),
        ({"image": np.zeros((8, 2))}, 0, "batch size 0: choose at least 1"),
        ({"image": np.zeros((8, 2)), "rate": np.float32(1)}, 2, "rate is a single number"),
        ({}, 1, "no arrays to batch"),
    ],
)
def test_what_cannot_be_batched_says_which_and_why(arrays, size, message):
    with pytest.raises(ValueError, match=message):
        jann.data.batches(arrays, size, jax.random.key(0))


def test_a_number_is_not_a_key():
    with pytest.raises(TypeError, match=r"jax\.random\.key\(3\)"):
        jann.data.batches(np.zeros((4, 1)), 2, 3)
