"""A line is enough for separable points and not for XOR."""

import json

import jax
import numpy as np

from experiments.perceptron import learn_by_rule, main, novikoff, separable


def test_table(tmp_path):
    main(points=80, epochs=120, seeds=3, out=tmp_path / "run")
    rows = {
        (row["problem"], row["model"]): row["accuracy"]
        for row in json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    }
    for model in ("perceptron rule", "sigmoid neuron", "MLP, 8 hidden"):
        assert rows["separable", model]["mean"] == 1
    for model in ("perceptron rule", "sigmoid neuron"):
        assert rows["xor", model]["mean"] < 0.85
    assert rows["xor", "MLP, 8 hidden"]["mean"] > 0.95
    assert len(list((tmp_path / "run").glob("*.png"))) == 8


def test_mistakes_stay_below_novikoffs_bound(key):
    for i in range(5):
        x, y = separable(jax.random.fold_in(key, i), 100)
        _, mistakes = learn_by_rule(key, x, y, 50)
        assert mistakes[-1] == 0 and 0 < mistakes.sum() <= novikoff(np.asarray(x), np.asarray(y))
