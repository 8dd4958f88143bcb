"""What experiments do alike: options that are 0 or empty are what was asked for, or refused, never the default."""

import sys

import numpy as np
import pytest

import jann
from experiments import autoencoder, corrupted_spans, diffusion, gan, masked_words, python_code, translate, vae
from experiments.reporting import at_least_one, command, given, over_seeds, plus_minus


def test_nothing_and_zero_are_given_and_none_is_not():
    assert given(hidden=(), steps=0, epochs=None) == {"hidden": (), "steps": 0}
    at_least_one(hidden=(1,), steps=1, epochs=None)
    with pytest.raises(SystemExit, match=r"--pretraining-steps 0: give at least one"):
        at_least_one(steps=1, pretraining_steps=0)
    with pytest.raises(SystemExit, match=r"--counts \(\): give at least one"):
        at_least_one(counts=())


@pytest.mark.parametrize(
    ("experiment", "option"),
    [
        (autoencoder, "epochs"), (vae, "epochs"), (gan, "epochs"), (gan, "samples"), (diffusion, "steps"),
        (diffusion, "depth"), (translate, "layers"), (masked_words, "steps"), (corrupted_spans, "steps"),
        (python_code, "problems"),
    ],
)  # fmt: skip
def test_an_option_of_zero_is_refused_where_it_makes_no_sense(experiment, option, tmp_path):
    with pytest.raises(SystemExit, match=f"--{option} 0: give at least one"):
        experiment.main(**{option: 0}, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_seed_has_a_mean_and_no_interval():
    assert plus_minus(over_seeds([0.2361]), ".2%") == "23.61%"
    # Student's t at 97.5 % with one degree of freedom is 12.706, and the error of the mean of both is 0.05.
    assert plus_minus(over_seeds([0.3, 0.4]), ".2%") == "35.00% ± 63.53%"
    assert plus_minus({"mean": 2.0, "low": 1.5, "high": 2.5}) == "2.0000 ± 0.5000"


def test_what_jann_says_is_one_line_and_other_errors_keep_their_traceback(monkeypatch, tmp_path):
    def another():
        jann.open_run(tmp_path, {"seeds": 1})
        jann.open_run(tmp_path, {"seeds": 2})

    def mistaken():
        np.zeros(0).reshape(0, 5, -1)

    monkeypatch.setattr(sys, "argv", ["experiment"])
    with pytest.raises(SystemExit, match="seeds was 1, is 2"):
        command(another)
    with pytest.raises(ValueError, match="reshape"):
        command(mistaken)
