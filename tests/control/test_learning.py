"""Episodes, what is learnt from them, and that it is what it should be where that is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special, stats

import jann
from jann import control


@dataclasses.dataclass(frozen=True)
class Chain:
    """Places 0 to 4 in a row: right (1) or left (0), and 1 for stepping right from the last, which ends it."""

    limit: int = 12
    observations, actions, continuous = 5, 2, False

    def reset(self, key):
        return jax.random.randint(key, (), 0, 5)

    def observe(self, state):
        return jax.nn.one_hot(state, 5)

    def step(self, state, action, key):
        new = state + 2 * action - 1
        return jnp.clip(new, 0, 4), (new == 5).astype(jnp.float32), new == 5


def follow(actions):
    """A policy that does these, whatever it sees: actions[steps, lanes] by the observed time"""
    return lambda observations, key: (jnp.full(len(observations), actions), key)


def test_episodes_end_and_begin_again():
    chain = Chain(limit=3)
    begun = control.Episode(jnp.asarray([3, 0]), jnp.zeros(2, jnp.int32), jnp.zeros(2))
    after, seen, _ = control.rollout(chain, follow(1), begun, jax.random.key(0), 3)
    places, following = seen.observation.argmax(-1), seen.next_observation.argmax(-1)
    np.testing.assert_array_equal(places[:2], [[3, 0], [4, 1]])
    np.testing.assert_array_equal(following[:, 1], [1, 2, 3])  # the episode's own, also where it was cut off
    np.testing.assert_array_equal(seen.terminated[:2], [[False, False], [True, False]])
    np.testing.assert_array_equal(seen.ended[:, 1], [False, False, True])
    assert not seen.terminated[2, 1]
    np.testing.assert_array_equal(seen.total[:2], [[0, 0], [1, 0]])
    assert after.time[1] == 0 and after.total[1] == 0
    for steps, ended in ((1, 0), (2, 1), (3, 2)):
        metrics = control.finished(jax.tree.map(lambda leaf, steps=steps: leaf[:steps], seen))
        assert metrics["episodes"] == ended and metrics["returns"] == min(ended, 1)


class Coin(Chain):
    """Pays 1 or 0 by chance."""

    def step(self, state, action, key):
        return state, jax.random.bernoulli(key).astype(jnp.float32), jnp.asarray(False)


def test_every_step_has_a_key_of_its_own():
    begun = control.start_episodes(Coin(), jax.random.key(0), 9)
    _, seen, _ = control.rollout(Coin(), follow(1), begun, jax.random.key(1), 99)
    assert abs(seen.reward.mean() - 0.5) < 0.06 and seen.reward.mean(0).std() > 0.01 and seen.reward.mean(1).std() > 0.1


def test_returns_are_of_one_episode_each():
    returns = control.episode_returns(Chain(limit=3), follow(1), jax.random.key(0), 200)
    begun = jax.vmap(Chain().reset)(jax.random.split(jann.fold(jax.random.key(0), "start"), 200))
    np.testing.assert_array_equal(returns, begun >= 2)  # the others are cut off on their way


def test_advantages_are_the_sums_of_their_definition():
    random, time, discount, trace = np.random.default_rng(0), 12, 0.9, 0.7
    rewards, values, following = random.normal(size=(3, time, 4))
    terminated, cut = random.random((2, time, 4)) < 0.2
    ended = terminated | cut
    delta = rewards + discount * np.where(terminated, 0, following) - values
    want = np.zeros((time, 4))
    for lane in range(4):
        for t in range(time):
            factor = 1.0
            for s in range(t, time):
                want[t, lane] += factor * delta[s, lane]
                factor *= discount * trace
                if ended[s, lane]:
                    break
    found = control.advantages(*map(jnp.asarray, (rewards, values, following, terminated, ended)), discount, trace)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_the_surrogate_stops_where_the_ratio_has_moved_enough():
    better = jnp.asarray([1.0, 1.0, -1.0, -1.0, 2.0])
    ratio = jnp.asarray([1.5, 0.5, 1.5, 0.5, 1.1])
    found, slope = jax.vmap(jax.value_and_grad(control.clipped_surrogate))(jnp.log(ratio), jnp.zeros(5), better)
    np.testing.assert_allclose(found, [1.2, 0.5, -1.5, -0.8, 2.2], rtol=1e-6)
    np.testing.assert_allclose(slope, [0, 0.5, -1.5, 0, 2.2], rtol=1e-6)


def test_distributions_equal_those_of_scipy():
    random = np.random.default_rng(0)
    logits, mean, wide = random.normal(size=(6, 3)), random.normal(size=(6, 2)), random.normal(size=2)
    chances = special.softmax(logits, 1)
    of_choices = control.Categorical(jnp.asarray(logits))
    of_numbers = control.Gaussian(jnp.asarray(mean), jnp.broadcast_to(jnp.asarray(wide), mean.shape))
    np.testing.assert_allclose(of_choices.entropy(), stats.entropy(chances, axis=1), rtol=1e-5)
    at = random.integers(0, 3, 6)
    np.testing.assert_allclose(of_choices.log_probability(jnp.asarray(at)), np.log(chances[range(6), at]), rtol=1e-5)
    normal = stats.norm(mean, np.exp(wide))
    x = random.normal(size=(6, 2))
    np.testing.assert_allclose(of_numbers.log_probability(jnp.asarray(x)), normal.logpdf(x).sum(1), rtol=1e-4)
    np.testing.assert_allclose(of_numbers.entropy(), normal.entropy().sum(1), rtol=1e-5)
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(of_choices.sample)(keys)
    for row in range(6):
        assert stats.chisquare(np.bincount(drawn[:, row], minlength=3), 4000 * chances[row]).pvalue > 1e-4
    drawn = jax.vmap(of_numbers.sample)(keys)
    assert stats.kstest((drawn[:, 0, 1] - mean[0, 1]) / np.exp(wide[1]), "norm").pvalue > 1e-4
    assert control.distribution({"logits": of_choices.logits}).mode().tolist() == logits.argmax(1).tolist()


def test_what_is_remembered_are_the_last_rows():
    replay = control.Replay.start({"x": jnp.zeros((), jnp.int32)}, 6)
    for n in range(5):
        replay = replay.add({"x": 2 * n + jnp.arange(2)})
        drawn = replay.sample(jax.random.key(n), 300)["x"]
        assert set(drawn.tolist()) == set(range(max(0, 2 * n - 4), 2 * n + 2))
    with pytest.raises(ValueError, match="4 rows at a time do not divide the capacity of 6"):
        replay.add({"x": jnp.arange(4)})


def test_a_long_run_does_not_count_beyond_what_a_number_holds():
    replay = control.Replay.start(jnp.zeros((), jnp.int32), 6)
    for n in range(40):
        replay = replay.add(3 * n + jnp.arange(3))
        assert replay.added == min(3 * n + 3, 6 + 3 * n % 6 + 3 - 6 * (3 * n % 6 == 3))
        np.testing.assert_array_equal(np.sort(replay.rows)[-3:], 3 * n + np.arange(3))


def test_any_action_is_taken_as_often_as_epsilon_says():
    model = jann.models.Linear(4, 4)
    params = {"weight": jnp.eye(4), "bias": jnp.zeros(4)}
    at = np.arange(8000) % 4
    actions = control.explorer(model, params, 0.4)(jnp.eye(4)[at], jax.random.key(0))[0]
    counts = np.bincount((np.asarray(actions) - at) % 4, minlength=4)
    assert stats.chisquare(counts, 8000 * np.array([0.7, 0.1, 0.1, 0.1])).pvalue > 1e-3
    np.testing.assert_array_equal(control.explorer(model, params)(jnp.eye(4), jax.random.key(0))[0], range(4))


@pytest.mark.parametrize("double", [True, False])
def test_updates_of_values_are_those_of_the_paper(double):
    chain, model, discount = Chain(limit=3), jann.models.MLP(5, (6,), 2), 0.9
    epsilon = optax.piecewise_constant_schedule(1.0, {2: 0.0})
    options = {"steps": 2, "batch_size": 16, "renew": 2, "discount": discount, "double": double, "epsilon": epsilon}
    step = jax.jit(lambda state: control.q_step(model, chain, optax.sgd(0.5), **options)(state, 0))
    state = control.start_q(model, chain, optax.sgd(0.5), jax.random.key(0), lanes=3, capacity=24, warm_up=6)
    for number in range(4):
        after, metrics = step(state)
        seen = after.extra["replay"].sample(jann.fold(jax.random.fold_in(state.key, state.step), "sample"), 16)
        target, ours = (np.asarray(model(p, seen.next_observation)) for p in (state.extra["target"], state.params))
        chosen = (ours if double else target).argmax(1)
        wanted = seen.reward + discount * ~np.asarray(seen.terminated) * target[range(16), chosen]

        def loss(params, seen=seen, wanted=wanted):
            return ((model(params, seen.observation)[jnp.arange(16), seen.action] - wanted) ** 2).mean()

        value, slopes = jax.value_and_grad(loss)(state.params)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
        jax.tree.map(
            lambda new, old, slope: np.testing.assert_allclose(new, old - 0.5 * slope, rtol=1e-4, atol=1e-6),
            after.params, state.params, slopes,
        )  # fmt: skip
        renewed = after.params if number % 2 else state.extra["target"]
        jax.tree.map(np.testing.assert_array_equal, after.extra["target"], renewed)
        state = after
    remembered = state.extra["replay"].rows
    assert (remembered.ended & ~remembered.terminated).any() and remembered.terminated.any()


def test_targets_of_double_learning_are_valued_by_the_other_network():
    theirs, ours = jnp.asarray([[1.0, 5.0], [1.0, 5.0]]), jnp.asarray([[2.0, 0.0], [2.0, 0.0]])
    ended = jnp.asarray([False, True])
    np.testing.assert_allclose(control.q_targets(jnp.ones(2), ended, theirs, ours, 0.5), [1.5, 1.0])
    np.testing.assert_allclose(control.q_targets(jnp.ones(2), ended, theirs, theirs, 0.5), [3.5, 1.0])


@pytest.mark.parametrize("double", [True, False])
def test_values_become_those_of_value_iteration(double):
    chain, discount = Chain(), 0.8
    best = np.zeros((5, 2))
    for _ in range(100):
        right = np.append(best.max(1)[1:], 0) * discount + np.eye(5)[4]
        best = np.stack([discount * best.max(1)[[0, 0, 1, 2, 3]], right], 1)
    model, optimizer = jann.models.Linear(5, 2), optax.adam(0.03)
    options = {"epsilon": 0.5, "batch_size": 32, "renew": 10, "discount": discount, "double": double}
    step = control.q_step(model, chain, optimizer, **options)
    state = control.start_q(model, chain, optimizer, jax.random.key(0), lanes=2, capacity=400, warm_up=100)
    state, history = jax.jit(lambda state: jann.train(step, lambda step: step, state, 600))(state)
    np.testing.assert_allclose(model(state.params, jnp.eye(5)), best, atol=0.02)
    assert history["loss"][-50:].mean() < 1e-3
    act = control.explorer(model, state.params)
    assert (control.episode_returns(chain, act, jax.random.key(1), 50) == 1).all()


def run_of_ppo(continuous=False):
    environment = control.Pendulum(limit=20) if continuous else Chain()
    model = jann.models.ActorCritic(environment.observations, environment.actions, (16,), continuous=continuous)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.02))
    step = control.ppo_step(model, environment, optimizer, steps=16, epochs=2, minibatches=4, discount=0.8)
    return environment, model, step, control.start_ppo(model, environment, optimizer, jax.random.key(0), lanes=4)


def test_a_policy_learns_the_shortest_way():
    chain, model, step, state = run_of_ppo()
    state, history = jax.jit(lambda state: jann.train(step, lambda step: step, state, 60))(state)
    logits = model(state.params, jnp.eye(5))[0]["logits"]
    assert (logits[:, 1] - logits[:, 0] > 1).all()
    assert 0.6 < history["entropy"][0] < np.log(2) and history["entropy"][-1] < 0.4
    right = 0.8 ** np.arange(4, -1, -1)
    np.testing.assert_allclose(model(state.params, jnp.eye(5))[1], right, atol=0.15)
    returns = control.episode_returns(chain, control.actor(model, state.params, greedy=True), jax.random.key(1), 20)
    assert (returns == 1).all()


def test_one_update_of_a_policy_is_that_of_the_paper():
    chain, model, discount, trace = Chain(limit=3), jann.models.ActorCritic(5, 2, (6,)), 0.9, 0.7
    options = {"steps": 16, "epochs": 1, "minibatches": 1, "discount": discount, "trace": trace, "entropy": 0.1}
    state = control.start_ppo(model, chain, optax.sgd(0.5), jax.random.key(0), lanes=3)
    after, metrics = jax.jit(control.ppo_step(model, chain, optax.sgd(0.5), value=0.3, **options))(state, 0)
    key = jann.fold(jax.random.fold_in(state.key, 0), "rollout")
    _, seen, _ = control.rollout(chain, control.actor(model, state.params), state.extra["episodes"], key, 16)
    assert (seen.ended & ~seen.terminated).any() and seen.terminated.any()

    values, following = (model(state.params, x)[1] for x in (seen.observation, seen.next_observation))
    better = np.zeros((17, 3))
    for t in reversed(range(16)):  # what comes after a cut counts by its value, and what comes after an end not at all
        delta = seen.reward[t] + discount * following[t] * ~seen.terminated[t] - values[t]
        better[t] = delta + discount * trace * better[t + 1] * ~seen.ended[t]
    better, targets = better[:16], better[:16] + np.asarray(values)
    better = (better - better.mean()) / better.std()

    def loss(params):
        policy, values = model(params, seen.observation)
        logs = jax.nn.log_softmax(policy["logits"])
        chosen = (logs * jax.nn.one_hot(seen.action, 2)).sum(-1)
        gain = (chosen * better).mean()  # whose gradient is that of the ratio, where that is still 1
        return 0.3 * ((values - targets) ** 2).mean() / 2 - gain + 0.1 * (jnp.exp(logs) * logs).sum(-1).mean()

    slopes = jax.grad(loss)(state.params)
    jax.tree.map(
        lambda new, old, slope: np.testing.assert_allclose(new, old - 0.5 * slope, rtol=1e-4, atol=1e-6),
        after.params, state.params, slopes,
    )  # fmt: skip
    np.testing.assert_allclose(metrics["value_error"], ((values - targets) ** 2).mean() / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["surrogate"], 0, atol=1e-6)


class Wide(jann.Model):
    """A distribution of its own in the place of ActorCritic's: twice as wide, and three times the mean."""

    inner: jann.models.ActorCritic

    def spec(self):
        return self.inner.spec()

    def apply(self, params, x, state=None, key=None):
        policy, values = self.inner(params, x)
        return (control.Gaussian(3 * policy["mean"], policy["log_deviation"] + jnp.log(2)), values), state


def test_a_model_may_bring_a_distribution_of_its_own():
    model, pendulum = Wide(jann.models.ActorCritic(3, 1, (4,), continuous=True)), control.Pendulum(limit=20)
    state = control.start_ppo(model, pendulum, optax.adam(0.01), jax.random.key(0), 4)
    _, metrics = jax.jit(control.ppo_step(model, pendulum, optax.adam(0.01), steps=4, epochs=1, minibatches=1))(
        state, 0
    )
    np.testing.assert_allclose(metrics["entropy"], stats.norm(0, 2).entropy(), rtol=1e-5)


@pytest.mark.parametrize("continuous", [False, True])
def test_a_run_goes_on_bit_for_bit(tmp_path, continuous):
    _, model, step, state = run_of_ppo(continuous)
    batches, options = lambda step: step, {"every": 2, "progress": False}
    whole, history = jann.fit(step, batches, state, 6, **options)
    jann.fit(step, batches, state, 2, folder=tmp_path, model=model, **options)
    after, again = jann.fit(step, batches, state, 6, folder=tmp_path, model=model, **options)
    for part in ("params", "opt_state", "extra"):
        for a, b in zip(*(jax.tree.leaves(getattr(state, part)) for state in (after, whole)), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(again["loss"], history["loss"])
    assert jann.load(tmp_path)[0] == model


def test_what_does_not_fit_is_refused():
    _, model, _, state = run_of_ppo()
    step = control.ppo_step(model, Chain(), optax.adam(0.1), steps=16, minibatches=5)
    with pytest.raises(ValueError, match="minibatches=5 does not divide the 64 steps seen: 16 of each of 4 lanes"):
        step(state, 0)
    with pytest.raises(ValueError, match="lanes=0: at least one"):
        control.start_episodes(Chain(), jax.random.key(0), 0)
    with pytest.raises(ValueError, match="Pendulum takes numbers for actions, and Q-learning chooses among a few"):
        control.start_q(jann.models.Linear(3, 1), control.Pendulum(), optax.adam(0.1), jax.random.key(0))
