"""The comparison with rivals: the same work or an error, ratios by round, tables that say what was wanted."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.side_by_side import __main__ as command
from experiments.side_by_side.cases import CASES
from experiments.side_by_side.harness import Bar, Timing, check_same, speed_ratios, time_rivals
from experiments.side_by_side.report import markdown, summary
from experiments.side_by_side.worker import covered


@pytest.fixture
def case():
    rivals = dict.fromkeys(("ours", "theirs"))
    bars = (Bar("ours", "theirs", times=1.3), Bar("ours", "theirs", seconds=0.5))
    return replace(CASES["small_mlp"], rivals=rivals, reference="ours", bars=bars)


def test_rivals_take_turns_at_the_same_work():
    said = []
    found = time_rivals(CASES["small_mlp"], ["jann_step", "raw_step"], rounds=2, seconds=0.01, say=said.append)
    assert said == ["round 1 of 2", "round 2 of 2"]
    for timing in found.values():
        assert len(timing.figures) == 2 and min(timing.figures) > 0
        assert (np.array(timing.whole) <= timing.figures).all()


def test_other_work_is_an_error():
    check_same({"a": np.array([1.0, 2.0]), "b": np.array([1.0, 2.00005])})
    for losses in ([1.0, 2.1], [1.0, np.nan], [1.0]):
        with pytest.raises(ValueError, match="b does not do the work of a"):
            check_same({"a": np.array([1.0, 2.0]), "b": np.array(losses)})
    check_same({"limit": np.array([]), "a": np.array([1.0]), "other limit": np.array([]), "b": np.array([1.0])})
    check_same({"limit": np.array([])})


def test_ratios_are_of_the_same_round(case):
    ours, theirs = Timing([10.0, 40.0]), Timing([5.0, 10.0])
    np.testing.assert_array_equal(speed_ratios(case, ours, theirs), [2, 4])
    np.testing.assert_array_equal(speed_ratios(replace(case, unit="s"), ours, theirs), [0.5, 0.25])


def test_summary_judges_by_medians(case):
    ours = Timing([13.0, 14.0, 12.0], [6.0, 7.0, 6.0])
    found = summary(case, {"ours": ours, "theirs": Timing([10.0] * 3, [10.0] * 3)})
    assert found["rows"][0]["median"] == 13 and found["rows"][0]["with_compilation"] == 6
    assert [bar["met"] for bar in found["bars"]] == [True, False]
    slower = summary(case, {"ours": Timing([12.0] * 3, [12.0] * 3), "theirs": Timing([10.0] * 3, [10.0] * 3)})
    assert not slower["bars"][0]["met"]
    text = markdown(found, {"cpu": "a processor", "cores": 2, "load": 0.1, "versions": {"jax": "1.0"}}, rounds=3)
    assert "| ours at least 1.3 × as fast as theirs | 1.30 (1.20 – 1.40) | met |" in text
    assert "| with compilation |" in text and "a processor, 2 cores" in text


def test_compilation_is_counted_once_where_spans_lie_in_each_other():
    assert covered([(0, 4), (1, 2), (3, 5), (7, 8)]) == 6
    assert covered([]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"case": "mlp"}, "--case mlp: there are small_mlp"),
        ({"rivals": ("jax",)}, "--rivals jax: small_mlp has jann_train"),
        ({"rounds": 0}, "--rounds 0"),
    ],
)
def test_unknown_options_are_named(options, message):
    with pytest.raises(SystemExit, match=message):
        command.main(**options)


def test_a_case_in_seconds_times_whole_processes():
    found = time_rivals(CASES["import"], ["jax"], rounds=1, seconds=0.01, say=lambda _: None)
    assert 0.1 < found["jax"].figures[0] < 60
