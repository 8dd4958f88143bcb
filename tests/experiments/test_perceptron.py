"""A line is enough for separable points and not for XOR."""

import json

import jax
import numpy as np

from experiments.perceptron import learn_by_rule, main, novikoff, separable, xor


def test_table(tmp_path):
    main(points=80, epochs=120, seeds=3, out=tmp_path / "run")
    rows = {
        (row["problem"], row["model"]): row["accuracy"]
        for row in json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    }
    for model in ("perceptron rule", "sigmoid neuron", "MLP, 8 hidden"):
        assert rows["separable", model]["mean"] == 1
    for model in ("perceptron rule", "sigmoid neuron"):
        assert rows["xor", model]["mean"] <= 0.75
    assert rows["xor", "MLP, 8 hidden"]["mean"] > 0.95
    assert len(list((tmp_path / "run").glob("*.png"))) == 8
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for (problem, model), accuracy in rows.items():
        last = [x["wrong"] for x in lines if (x["problem"], x["model"], x["epoch"]) == (problem, model, 120)]
        np.testing.assert_allclose(1 - np.array(last) / 80, accuracy["seeds"], rtol=1e-6)  # the curve ends at the table


def test_mistakes_stay_below_novikoffs_bound(key):
    for i in range(5):
        x, y = separable(jax.random.fold_in(key, i), 100)
        mistakes = learn_by_rule(key, x, y, 50)[1]["mistakes"]
        assert mistakes[-1] == 0 and 0 < mistakes.sum() <= novikoff(np.asarray(x), np.asarray(y))


def test_no_line_has_more_than_three_quarters_of_xor(key):
    """As many points around each corner, and near enough to it that no line can have one of each corner right."""
    x, y = xor(key, 400)
    corner = np.sign(x)
    assert (np.unique(corner, axis=0, return_counts=True)[1] == 100).all() and np.abs(x - corner).max() <= 0.5
    np.testing.assert_array_equal(y, corner[:, 0] != corner[:, 1])
