"""Learning to act: classic problems of control by proximal policy optimisation or deep Q-learning.

    python -m experiments.control
    python -m experiments.control --environment acrobot --method dqn

Environments, episodes and learning are one compiled program of seeds × learning rates. The learning rate is chosen by
the returns of the last episodes in training; reported are those of new episodes, in which the policy only does what it
thinks best. A run that was interrupted goes on with the same command.
"""

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from experiments.reporting import (
    at_least_one,
    command,
    given,
    interrupted,
    more_than_zero,
    plus_minus,
    save_figures,
    show_table,
    write_metrics,
    write_results,
)
from jann import control

POINTS = 20  # of each learning curve
ENVIRONMENTS = {"cartpole": control.CartPole(), "acrobot": control.Acrobot(), "pendulum": control.Pendulum()}
# 1: CleanRL's documentation, the last 100 episodes in training; 2: RL Baselines3 Zoo's benchmark.md, greedy
PUBLISHED = {
    ("cartpole", "ppo"): "492.4 ± 13.1 (1), 500.0 (2)",
    ("cartpole", "dqn"): "488.7 ± 16.1 (1), 500.0 (2)",
    ("acrobot", "ppo"): "-89.9 ± 6.3 (1), -73.5 (2)",
    ("acrobot", "dqn"): "-91.5 ± 7.2 (1), -76.6 (2)",
    ("pendulum", "ppo"): "-172.2 (2)",
}


@dataclasses.dataclass(frozen=True)
class PPO:
    """Of `jann.control.ppo_step`; the learning rate falls to 0 along a line, gradients are cut off at 0.5."""

    env_steps: int = 100_000  # of all lanes together
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    lanes: int = 8
    steps: int = 32
    epochs: int = 20
    minibatches: int = 1
    discount: float = 0.98
    trace: float = 0.8
    entropy: float = 0.0

    per_step = property(lambda self: self.lanes * self.steps)
    before = 0  # steps of the environment before the first of training

    def train(self, key, learning_rate, environment, model, n):
        """-> (the train state, curves [POINTS], how it acts at its best)"""
        updates = n * self.epochs * self.minibatches
        optimizer = optax.chain(
            optax.clip_by_global_norm(0.5), optax.adam(optax.linear_schedule(learning_rate, 0.0, updates), eps=1e-5)
        )
        step = control.ppo_step(
            model, environment, optimizer, steps=self.steps, epochs=self.epochs, minibatches=self.minibatches,
            discount=self.discount, trace=self.trace, entropy=self.entropy,
        )  # fmt: skip
        state, curves = followed(step, control.start_ppo(model, environment, optimizer, key, self.lanes), n)
        return state, curves, control.actor(model, state.params, greedy=True)


@dataclasses.dataclass(frozen=True)
class DQN:
    """Of `jann.control.q_step`; epsilon falls from 1 to 0.05 in the first half."""

    env_steps: int = 500_000
    learning_rates: tuple[float, ...] = (2.5e-4,)
    lanes: int = 1
    steps: int = 10
    batch_size: int = 128
    capacity: int = 10_000
    warm_up: int = 10_000
    renew: int = 50
    discount: float = 0.99

    per_step = property(lambda self: self.lanes * self.steps)
    before = property(lambda self: self.lanes * self.warm_up)

    def train(self, key, learning_rate, environment, model, n):
        optimizer = optax.adam(learning_rate)
        step = control.q_step(
            model, environment, optimizer, epsilon=optax.linear_schedule(1.0, 0.05, n // 2), steps=self.steps,
            batch_size=self.batch_size, renew=self.renew, discount=self.discount,
        )  # fmt: skip
        start = control.start_q(model, environment, optimizer, key, self.lanes, self.capacity, self.warm_up)
        state, curves = followed(step, start, n)
        return state, curves, control.explorer(model, state.params)


METHODS = {
    ("cartpole", "ppo"): PPO(),
    ("acrobot", "ppo"): PPO(500_000, steps=128, epochs=4, minibatches=4, discount=0.99, trace=0.95, entropy=0.01),
    ("pendulum", "ppo"): PPO(
        300_000, lanes=4, steps=256, epochs=10, minibatches=16, discount=0.95, trace=0.95
    ),
    ("cartpole", "dqn"): DQN(),
    ("acrobot", "dqn"): DQN(),
}  # fmt: skip


def followed(step, state, n):
    """n steps -> (the train state, {name: [POINTS]}), each point a mean over its part of the episodes, or steps"""

    def some_steps(state, _):
        state, history = jann.train(step, lambda number: number, state, n // POINTS)
        mean = history.pop("returns").sum() / history.pop("episodes").sum()
        return state, {"return": mean, **{name: values.mean() for name, values in history.items()}}

    return jax.lax.scan(some_steps, state, length=POINTS)


def experiment(key, learning_rate, environment, method, model, n, episodes):
    """One run: -> returns, curves [POINTS] and the trained parameters. A pure function, made to be swept."""
    state, curves, act = method.train(key, learning_rate, environment, model, n)
    returns = control.episode_returns(environment, act, jann.fold(key, "evaluation"), episodes)
    return {
        "test_return": returns.mean(),
        "training_return": curves["return"][-1],
        "curves": curves,
        "params": state.params,
    }


def main(
    environment: Literal["cartpole", "acrobot", "pendulum"] = "cartpole",
    method: Literal["ppo", "dqn"] = "ppo",
    learning_rates: tuple[float, ...] | None = None,
    env_steps: int | None = None,
    hidden: tuple[int, ...] | None = None,
    seeds: int = 8,
    episodes: int = 100,
    seed: int = 0,
    out: Path = Path("runs/control"),
) -> None:
    """Learns to control a cart and pole, an acrobot or a pendulum, every seed at every learning rate, in one program.

    Args:
        environment: The problem, as Gymnasium's CartPole-v1, Acrobot-v1 or Pendulum-v1.
        method: Proximal policy optimisation, or deep Q-learning, which chooses among a few actions.
        learning_rates: Each tried with every seed; by default those of the problem and method.
        env_steps: Steps of the environment in a run, all its episodes together; by default as the learning rates.
        hidden: Sizes of the hidden layers, by default 64 64 for ppo and 120 84 for dqn.
        seeds: Runs at each learning rate.
        episodes: New episodes in which each run is evaluated.
        seed: The number from which all random keys come.
        out: The run folder. The same command goes on with an interrupted run.
    """
    if (environment, method) not in METHODS:
        raise SystemExit(f"--method {method} chooses among a few actions, and {environment} takes a number: give ppo")
    problem = ENVIRONMENTS[environment]
    settings = dataclasses.replace(
        METHODS[environment, method], **given(learning_rates=learning_rates, env_steps=env_steps)
    )
    at_least_one(learning_rates=settings.learning_rates, seeds=seeds, episodes=episodes)
    at_least_one(hidden=min(hidden or (1,)))
    for rate in settings.learning_rates:
        more_than_zero(learning_rates=rate)
    least = settings.before + POINTS * problem.limit * settings.lanes
    if settings.env_steps < least:
        raise SystemExit(
            f"--env-steps {settings.env_steps}: give at least {least}, an episode of {problem.limit} steps in each of "
            f"{settings.lanes} lanes for each of the {POINTS} points of a learning curve"
        )
    config = {"environment": environment, "method": method, "hidden": hidden, "seeds": seeds, "episodes": episodes,
              "seed": seed, **dataclasses.asdict(settings)}  # fmt: skip
    jann.cpu_devices()
    if method == "ppo":
        model = jann.models.ActorCritic(
            problem.observations, problem.actions, hidden or (64, 64), continuous=problem.continuous
        )
    else:
        model = jann.models.MLP(problem.observations, hidden or (120, 84), problem.actions)
    print(problem, jann.summary(model), sep="\n\n", end="\n\n")
    folder = jann.open_run(out, config)
    n = -(-(settings.env_steps - settings.before) // (settings.per_step * POINTS)) * POINTS
    steps = settings.before + n * settings.per_step
    run = partial(experiment, environment=problem, method=settings, model=model, n=n, episodes=episodes)
    begin = time.perf_counter()
    swept = jann.sweep(
        run, seeds=seeds, key=jax.random.key(seed), folder=folder / "sweep",
        learning_rate=list(settings.learning_rates),
    )  # fmt: skip
    if not swept.complete:
        print(swept)
        interrupted(folder)
    took, total = time.perf_counter() - begin, seeds * len(settings.learning_rates) * steps
    print(f"{total:,} steps of the environment in {took:.1f} s: {total / took:,.0f} a second, with all learning")
    report(folder, problem, settings, model, swept, steps, PUBLISHED[environment, method])


def report(folder: Path, environment, settings, model, swept, env_steps: int, published: str) -> None:
    """Writes results and metrics, prints the table, writes the best model and figures; exits if that model diverged."""
    names = [f"{point['learning_rate']:g}" for point in swept.points]
    title = type(environment).__name__
    rows = [{**row, "env_steps": env_steps, "published": published} for row in swept.rows()]
    write_results(folder, rows)
    curves = [swept.results(i)["curves"] for i in range(len(swept.points))]
    at = settings.before + (env_steps - settings.before) // POINTS * np.arange(1, POINTS + 1)
    write_metrics(folder, [
        {"learning_rate": point["learning_rate"], "seed": seed, "env_steps": int(at[j]),
         **{name: float(values[seed, j]) for name, values in curve.items()}}
        for point, curve in zip(swept.points, curves, strict=True) for seed in range(swept.seeds) for j in range(POINTS)
    ])  # fmt: skip
    show_table(rows, f"{title}: mean return ± 95 % interval over {swept.seeds} seeds")

    best = swept.best("training_return")
    results = swept.results(best)
    median = int(np.argsort(results["training_return"])[swept.seeds // 2])
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[median]), results["params"])
    if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise SystemExit(f"learning rate {names[best]} diverged, and none did better: try lower --learning-rates")
    jann.save(folder, model, params)
    actor = isinstance(settings, PPO)
    act = control.actor(model, params, greedy=True) if actor else control.explorer(model, params)
    joints, total = shown(environment, act, jax.random.key(0))
    frames = np.linspace(0, len(joints) - 1, min(24, len(joints))).round().astype(int)
    label = "learning rate "
    save_figures(
        folder,
        returns=jann.plots.curves(
            {label + n: c["return"] for n, c in zip(names, curves, strict=True)},
            ylabel="return of an episode, in training", xlabel="steps of the environment", x=at, title=title,
        ),
        episode=jann.plots.motion(
            joints[frames], [f"{frame * environment.seconds:.1f} s" for frame in frames],
            title=f"{title}: an episode of the trained policy, return {total:.0f}",
        ),
    )  # fmt: skip
    found = plus_minus(rows[best]["test_return"], ".1f")
    print(
        f"chosen in training: learning rate {names[best]}, return {found}\n"
        f"wrote {folder}; jann.load({str(folder)!r}) gives the model back"
    )


def shown(environment, act, key) -> tuple[np.ndarray, float]:
    """One episode -> (joints[frames, points, 2], its return)"""
    begun = control.start_episodes(environment, key, 1)

    def step(episodes, key):
        after, seen, _ = control.rollout(environment, act, episodes, key, 1)
        return after, (environment.joints(episodes.state[0]), seen)

    _, (joints, seen) = jax.jit(partial(jax.lax.scan, step))(begun, jax.random.split(key, environment.limit))
    last = int(np.argmax(seen.ended[:, 0, 0]))
    return np.asarray(joints[: last + 1]), float(seen.total[last, 0, 0])


if __name__ == "__main__":
    command(main)
