"""What experiments do alike: options that are 0 or empty are what was asked for, or refused, never the default."""

import inspect
import math
import signal
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import experiments
import jann
from experiments import (
    autoencoder,
    corrupted_spans,
    diffusion,
    forecasting,
    gan,
    masked_words,
    music,
    python_code,
    speech_digits,
    translate,
    vae,
)
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    each_seed,
    given,
    more_than_zero,
    not_negative,
    over_seeds,
    plus_minus,
    show_table,
)
from experiments.schedules import warmup_cosine

TRAINING = [file.stem for file in Path(experiments.__path__[0]).glob("*.py") if "    seeds: int = " in file.read_text()]


def test_nothing_and_zero_are_given_and_none_is_not():
    assert given(hidden=(), steps=0, epochs=None) == {"hidden": (), "steps": 0}
    at_least_one(hidden=(1,), steps=1, epochs=None)
    with pytest.raises(SystemExit, match=r"--pretraining-steps 0: give at least one"):
        at_least_one(steps=1, pretraining_steps=0)
    with pytest.raises(SystemExit, match=r"--counts \(\): give at least one"):
        at_least_one(counts=())
    with pytest.raises(SystemExit, match=r"--seconds 0: give more than 0"):
        more_than_zero(seconds=0.0)
    for refuse in (more_than_zero, not_negative, below_one):
        refuse(rate=0.5, other=None)
        for value in (-0.1, math.inf, math.nan):
            with pytest.raises(SystemExit, match=f"--rate {value:g}: give "):
                refuse(rate=value)
    not_negative(rate=0.0)
    below_one(rate=0.0)
    with pytest.raises(SystemExit, match="--dropout 1: give from 0 to less than 1"):
        below_one(dropout=1.0)


@pytest.mark.parametrize(
    ("experiment", "option"),
    [
        (autoencoder, "epochs"), (vae, "epochs"), (gan, "epochs"), (gan, "samples"), (diffusion, "steps"),
        (diffusion, "depth"), (translate, "layers"), (masked_words, "steps"), (corrupted_spans, "steps"),
        (python_code, "problems"), (vae, "importance_samples"), (speech_digits, "batch_size"), (music, "epochs"),
        (forecasting, "lookback"),
    ],
)  # fmt: skip
def test_an_option_of_zero_is_refused_where_it_makes_no_sense(experiment, option, tmp_path):
    with pytest.raises(SystemExit, match=f"--{option.replace('_', '-')} 0: give at least one"):
        experiment.main(**{option: 0}, out=tmp_path)
    assert not list(tmp_path.iterdir())


NUMBERS = ["learning_rate", "weight_decay", "dropout", "average", "noise", "beta", "smoothing", "seconds"]
SIZES = ["hidden", "embed", "layers", "heads", "vocab", "latent", "residual", "skip"]


@pytest.mark.parametrize("name", TRAINING)
def test_what_is_no_number_and_a_size_of_zero_are_refused_by_their_names(name, tmp_path):
    """Before the run folder is made, and before anything is read."""
    main = import_module(f"experiments.{name}").main
    for option in inspect.signature(main).parameters:
        several = "tuple" in str(inspect.signature(main).parameters[option].annotation)
        for value in [math.nan] * (option in NUMBERS) + [0] * (option in SIZES):
            with pytest.raises(SystemExit, match=f"--{option.replace('_', '-')} {value}: give "):
                main(**{option: (value,) if several else value}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("experiment", [gan, diffusion])
def test_one_sample_is_refused_before_it_is_trained_for(experiment, tmp_path):
    with pytest.raises(SystemExit, match="--samples 1: they are judged by their covariance, give 2 or more"):
        experiment.main(samples=1, out=tmp_path)


@pytest.mark.parametrize("name", TRAINING)
def test_no_seeds_are_refused_before_the_run_folder_is_made(name, tmp_path):
    with pytest.raises(SystemExit, match="--seeds 0: give at least one"):
        import_module(f"experiments.{name}").main(seeds=0, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_next_seed_is_not_begun_when_ctrl_c_came_too_late_for_the_last(tmp_path, capsys):
    """What `jann.fit` does with a ctrl-C in its last chunk is to tell the Interrupt around it."""
    begun, before = [], signal.getsignal(signal.SIGINT)

    def one(folder, seed):
        begun.append(seed)
        if seed == 1:
            signal.getsignal(signal.SIGINT).__self__.asked = True

    with pytest.raises(SystemExit, match="130"):
        each_seed(tmp_path, 4, 0, one)
    assert begun == [0, 1] and "the same command goes on" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="130"):  # outside of a fit at once
        each_seed(tmp_path, 2, 2, lambda *_: signal.raise_signal(signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is before


def test_the_schedule_of_few_steps():
    assert warmup_cosine(0.5, 1)(0) == 0.5
    np.testing.assert_allclose([warmup_cosine(0.5, 2)(i) for i in range(3)], [0, 0.5, 0])
    np.testing.assert_allclose([warmup_cosine(0.5, 40)(i) for i in (1, 2, 21, 40)], [0.25, 0.5, 0.25, 0], atol=1e-7)


def test_a_table_shows_names_as_they_are(capsys):
    show_table([{"rmse_[m]": 0.5, "[/b]": "a [b] c"}], "[/of] three")
    said = capsys.readouterr().out
    assert all(part in said for part in ("rmse [m]", "[/b]", "a [b] c", "[/of] three"))


def test_one_seed_has_a_mean_and_no_interval():
    assert plus_minus(over_seeds([0.2361]), ".2%") == "23.61%"
    # Student's t at 97.5 % with one degree of freedom is 12.706, and the error of the mean of both is 0.05.
    assert plus_minus(over_seeds([0.3, 0.4]), ".2%") == "35.00% ± 63.53%"
    assert plus_minus({"mean": 2.0, "low": 1.5, "high": 2.5}) == "2.0000 ± 0.5000"


def test_what_jann_says_is_one_line_and_other_errors_keep_their_traceback(monkeypatch, tmp_path):
    def another():
        jann.open_run(tmp_path, {"seeds": 1})
        (tmp_path / "metrics.jsonl").touch()
        jann.open_run(tmp_path, {"seeds": 2})

    def mistaken():
        np.zeros(0).reshape(0, 5, -1)

    monkeypatch.setattr(sys, "argv", ["experiment"])
    with pytest.raises(SystemExit, match="seeds was 1, is 2"):
        command(another)
    with pytest.raises(ValueError, match="reshape"):
        command(mistaken)
