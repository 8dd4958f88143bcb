"""Real handwritten digits: an MLP, seeds × learning rates as one compiled program.

    python -m experiments.digits --hidden 64 64 --seeds 16

The 1,797 digits come with scikit-learn, so nothing is downloaded. The learning rate is chosen on validation images;
test images are only reported. A run that was interrupted goes on with the same command.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    interrupted,
    mistakes,
    more_than_zero,
    not_negative,
    plus_minus,
    save_figures,
    show_table,
    write_metrics,
    write_results,
)

POINTS = 40  # of each learning curve


def prepare(batch: dict, key: jax.Array | None = None, noise: float = 0.0) -> dict:
    """image[..., 8, 8, 1] of 0..16 -> image[..., 64] of 0..1, with Gaussian noise where there is a key."""
    image = batch["image"].reshape(*batch["image"].shape[:-3], 64).astype("float32") / 16
    if key is not None:
        image = image + noise * jax.random.normal(key, image.shape)
    return {**batch, "image": image}


def experiment(key, learning_rate, model, arrays, steps, batch_size, noise, weight_decay):
    """One run: -> test accuracy, curves [POINTS] and the trained parameters. A pure function, made to be swept."""
    train, validation, test = arrays
    optimizer = optax.adamw(
        optax.cosine_decay_schedule(learning_rate, steps), weight_decay=weight_decay, mask=jann.decay_mask(model)
    )
    step = jann.make_step(jann.objective(model), optimizer)
    batches = jann.data.batches(train, batch_size, jax.random.fold_in(key, 1), partial(prepare, noise=noise))
    evaluate = partial(jann.evaluate, jann.measure(model))

    def some_steps(train_state, _):
        train_state, history = jann.train(step, batches, train_state, steps // POINTS)
        validated = evaluate(train_state.params, validation)
        return train_state, {
            "train_loss": history["loss"].mean(),
            "validation_loss": validated["loss"],
            "validation_accuracy": validated["accuracy"],
        }

    train_state, curves = jax.lax.scan(some_steps, jann.start(model, optimizer, key), length=POINTS)
    return {
        "test_accuracy": evaluate(train_state.params, test)["accuracy"],
        "validation_accuracy": curves["validation_accuracy"][-1],
        "curves": curves,
        "params": train_state.params,
    }


def main(
    hidden: tuple[int, ...] = (128, 128),
    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03),
    seeds: int = 8,
    steps: int = 2000,
    batch_size: int = 64,
    dropout: float = 0.2,
    noise: float = 0.2,
    weight_decay: float = 0.01,
    seed: int = 0,
    out: Path = Path("runs/digits"),
) -> None:
    """Trains an MLP on scikit-learn's handwritten digits, every seed at every learning rate, in one compiled program.

    Args:
        hidden: Sizes of the hidden layers.
        learning_rates: Peaks of the cosine schedule, each tried with every seed.
        seeds: Runs at each learning rate.
        steps: Steps of each run; a multiple of 40.
        batch_size: Images in a step.
        dropout: Probability with which a hidden unit is left out of a training step.
        noise: Standard deviation of the noise added to training pixels (which lie in 0..1).
        weight_decay: Decay of the kernels (AdamW).
        seed: The number from which all random keys come.
        out: The run folder. The same command goes on with an interrupted run.
    """
    at_least_one(learning_rates=learning_rates, seeds=seeds, batch_size=batch_size)
    at_least_one(hidden=min(hidden or (1,)))
    not_negative(noise=noise, weight_decay=weight_decay)
    below_one(dropout=dropout)
    for rate in learning_rates:
        more_than_zero(learning_rates=rate)
    if steps < POINTS or steps % POINTS:
        raise SystemExit(f"--steps {steps}: give a multiple of {POINTS}, the points of a learning curve")
    config = {name: value for name, value in locals().items() if name != "out"}
    jann.cpu_devices()
    dataset = jann.data.load("digits")
    model = jann.models.MLP(inputs=64, hidden=hidden, outputs=10, dropout=dropout)
    print(dataset, jann.summary(model), sep="\n\n", end="\n\n")
    folder = jann.open_run(out, config)
    arrays = (dataset.train, prepare(dataset.validation), prepare(dataset.test))
    run = partial(
        experiment, model=model, arrays=arrays, steps=steps, batch_size=batch_size, noise=noise,
        weight_decay=weight_decay,
    )  # fmt: skip
    swept = jann.sweep(
        run, seeds=seeds, key=jax.random.key(seed), folder=folder / "sweep", learning_rate=list(learning_rates)
    )
    if not swept.complete:
        print(swept)
        interrupted(folder)
    report(folder, dataset, model, swept, steps)


def report(folder: Path, dataset, model, swept, steps) -> None:
    """Writes results and metrics, prints the table, writes the best model and figures; exits if that model diverged."""
    names = [f"{point['learning_rate']:g}" for point in swept.points]
    rows = [{**row, "parameters": jann.count(model)} for row in swept.rows()]
    write_results(folder, rows)
    curves = [swept.results(i)["curves"] for i in range(len(swept.points))]
    at = steps // POINTS * np.arange(1, POINTS + 1)
    write_metrics(folder, [
        {"learning_rate": point["learning_rate"], "seed": seed, "step": int(at[j]),
         **{name: float(values[seed, j]) for name, values in curve.items()}}
        for point, curve in zip(swept.points, curves, strict=True) for seed in range(swept.seeds) for j in range(POINTS)
    ])  # fmt: skip

    best = swept.best("validation_accuracy")
    results = swept.results(best)
    median = int(np.argsort(results["validation_accuracy"])[swept.seeds // 2])
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[median]), results["params"])
    show_table(
        [{k: v for k, v in row.items() if k != "parameters"} for row in rows],
        f"Digits: mean ± 95 % interval over {swept.seeds} seeds",
    )
    if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise SystemExit(f"learning rate {names[best]} diverged, and none did better: try lower --learning-rates")
    jann.save(folder, model, params)
    test = prepare(dataset.test)
    (logits, taps) = jann.observe(model)(params, test["image"])
    logits, labels = np.asarray(logits), test["label"]
    shown = int(np.flatnonzero(logits.argmax(-1) == labels)[0])
    layers = [test["image"][shown], *(taps[f"hidden_{i}"][shown] for i in range(len(model.hidden))), logits[shown]]
    weights = [np.asarray(layer["weight"]) for layer in params["layers"]]
    label = "learning rate "
    figures = {
        "validation_accuracy": jann.plots.curves(
            {label + n: c["validation_accuracy"] for n, c in zip(names, curves, strict=True)},
            ylabel="validation accuracy", x=at,
        ),
        "loss": jann.plots.curves(
            {"train": curves[best]["train_loss"], "validation": curves[best]["validation_loss"]},
            ylabel="cross-entropy (nats)", x=at, log_y=True, title=f"Learning rate {names[best]}",
        ),
        "confusion": jann.plots.confusion_matrix(labels, logits.argmax(-1), dataset.classes),
        "network": jann.plots.network(weights, activations=[np.asarray(a) for a in layers], labels=dataset.classes),
    }  # fmt: skip
    wrong = mistakes(dataset, dataset.test["image"], labels, logits)
    save_figures(folder, **figures, **({"mistakes": wrong} if wrong else {}))
    chosen = plus_minus(rows[best]["test_accuracy"], ".2%")
    print(
        f"chosen on validation: learning rate {names[best]}, test accuracy {chosen}\n"
        f"wrote {folder}; jann.load({str(folder)!r}) gives the model back"
    )


if __name__ == "__main__":
    command(main)
