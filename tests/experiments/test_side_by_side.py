"""The comparison with rivals: the same work or an error, ratios by round, tables that say what was wanted."""

import json
import math
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

import jann
from experiments.side_by_side import __main__ as command
from experiments.side_by_side import scaling
from experiments.side_by_side.cases import (
    CASES,
    checkpoint,
    decode,
    decoders,
    diffusion,
    first_step,
    forward,
    gpt,
    gpt_124m,
    lenet,
    loading,
    memory,
    pause,
    pipeline,
    resnet20,
    restore,
    small_mlp,
    unets,
    vit,
)
from experiments.side_by_side.harness import Bar, Timing, check_same, speed_ratios, time_rivals
from experiments.side_by_side.report import markdown, summary
from experiments.side_by_side.worker import covered, measured

MACHINE = {"cpu": "a processor", "cores": 2, "load": 0.1, "versions": {"jax": "1.0"}}
TINY = decoders.Sizes(vocab=11, time=8, embed=16, layers=2, heads=2)
SMALL = {
    small_mlp: {"PORTION": 20},
    forward: {"SIZES": TINY, "PORTION": 1},
    gpt: {"SIZES": TINY},
    decode: {"PROMPT": 2, "NEW": 6},
    lenet: {"BATCH": 4, "PORTION": 3},
    resnet20: {"BATCH": 4, "SIZE": 8, "WIDTHS": (4, 8), "DEPTH": 1},
    vit: {"SIZE": 8, "BATCH": 2, "EMBED": 16, "LAYERS": 2, "HEADS": 2, "HIDDEN": 32, "PORTION": 1},
    diffusion: {"SIZE": 4, "BATCH": 2, "STEPS": 3, "SIZES": unets.Sizes(1, (8, 16), 1, (1,), 4)},
    pipeline: {"EXAMPLES": 50, "SHAPE": (2, 2, 1), "BATCH": 4, "PORTION": 15},
    loading: {"VOCAB": 64, "EMBED": 32, "LAYERS": 2, "HEADS": 4, "HIDDEN": 64},
    checkpoint: {"SIZES": (8, 16, 4)},
    pause: {"STEPS": 1},
}


@pytest.fixture
def small():
    """Every case at a size that takes no time."""
    with pytest.MonkeyPatch.context() as patch, jax.numpy_rank_promotion("allow"):
        for module, constants in SMALL.items():
            for name, value in constants.items():
                patch.setattr(module, name, value)
        yield


def first_losses(case, rivals, **start):
    """{rival: its first losses}, in this process"""
    return {
        name: np.asarray(measured(case.rivals[name]({**case.start(), **start})(1)).losses)[..., : case.checked]
        for name in rivals
    }


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
    text = markdown(found, MACHINE, rounds=3)
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


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "time_rivals", pytest.fail)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="--out: the folder cannot be made .*/file.*: choose another"):
        command.main(out=tmp_path / "file")


def test_a_case_in_seconds_times_whole_processes():
    found = time_rivals(CASES["import"], ["jax"], rounds=1, seconds=0.01, say=lambda _: None)
    assert 0.1 < found["jax"].figures[0] < 60


def test_tables_say_what_part_of_the_limit_each_reaches(case):
    timings = {"ours": Timing([6.0], [6.0], [130.0]), "theirs": Timing([3.0], [3.0], [100.0])}
    timings["peak"] = Timing([8.0], [8.0], limit=True)
    bars = (Bar("ours", "theirs", memory=1.2), Bar("ours", seconds=7), Bar("ours", "absent", times=2))
    found = summary(replace(case, bars=bars), timings)
    assert [row["of_limits"]["peak"]["median"] for row in found["rows"]] == [0.75, 0.375, 1]
    assert [(bar["bar"], bar["met"]) for bar in found["bars"]] == [
        ("ours at most 1.2 × the memory of theirs", False), ("ours at most 7 s", True),
    ]  # fmt: skip
    text = markdown(found, MACHINE, rounds=1)
    assert "| part of the limit, peak | peak memory, MB |" in text
    assert "| ours | 6 | 6 – 6 | 1.00 (1.00 – 1.00) | 0.75 | 130 |" in text
    less = markdown(summary(replace(case, unit="MB", bars=()), timings), MACHINE, rounds=1)
    assert "| theirs | 3 | 3 – 3 | 0.50 (0.50 – 0.50) | 2.67 |" in less and "times as much as ours" in less


def test_a_limit_is_who_has_no_losses_where_others_have():
    found = time_rivals(CASES["memory"], ["arrays"], rounds=1, seconds=0.01, say=lambda _: None)
    assert not found["arrays"].limit and found["arrays"].figures == found["arrays"].megabytes


@pytest.mark.parametrize(
    ("name", "rivals"),
    [
        ("forward", ["raw", "jann", "jann_list", "linen", "nnx", "nnx_cached", "empty"]),
        ("lenet", ["linen", "jann"]),
        ("resnet20", ["linen", "jann"]),
        ("vit", ["linen", "jann"]),
        ("diffusion", ["loop", "jann"]),
        ("pipeline", ["numpy", "jann", "jann_step"]),
    ],
)
def test_rivals_do_the_same_work(small, name, rivals):
    losses = first_losses(CASES[name], rivals)
    check_same(losses)
    assert np.ptp(losses[rivals[0]]) > 1e-3  # they can tell other work apart
    assert losses.pop("empty", np.zeros(0)).size == 0
    assert all(found.size for found in losses.values())


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # PyTorch copies from it
@pytest.mark.parametrize(
    ("library", "name", "rivals"),
    [
        ("keras", "small_mlp", ["raw_step", "keras", "keras_stateless"]),
        ("keras", "forward", ["raw", "keras"]),
        ("torch", "small_mlp", ["raw_step", "torch"]),
        ("torch", "gpt", ["raw", "jann", "torch"]),
        ("torch", "diffusion", ["loop", "torch"]),
        ("transformers", "decode", ["jann", "transformers"]),
    ],
)
def test_rivals_outside_jax_do_the_same_work(small, monkeypatch, library, name, rivals):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip(library)
    starts = {"gpt": partial(gpt.start, TINY, 2), "decode": partial(decode.start, 3)}
    case = CASES[name]
    losses = first_losses(replace(case, start=starts.get(name, case.start)), rivals)
    check_same(losses)
    assert np.ptp(losses[rivals[0]]) > 1e-3


def test_rows_are_decoded_together_as_alone(small):
    together, alone = (decode.jann(decode.start(rows))(1) for rows in (3, 1))
    assert np.shape(together) == (3, decode.NEW) and together[0] == alone[0]


def test_the_largest_gpt_is_gpt2_but_for_positions():
    shapes = jax.eval_shape(decoders.jann_model(gpt_124m.SIZES).init, jax.random.key(0))
    weights = jann.flatten(shapes)
    assert decoders.sizes_of(weights) == gpt_124m.SIZES
    assert sum(leaf.size for leaf in weights.values()) == 124_439_808 - (1024 - gpt_124m.SIZES.time) * 768


def test_training_a_gpt_takes_at_least_the_memory_of_its_arrays(small):
    found = {name: memory.CASE.rivals[name](gpt.start(TINY, 2))(2) for name in memory.CASE.rivals}
    assert found["arrays"].megabytes == pytest.approx(1e-6 * 4 * (4 * 6_896 + 16 * (2 * 10 * 16 + 11)), rel=1e-9)
    check_same({name: np.asarray(each.losses) for name, each in found.items()})
    assert all(found["arrays"].megabytes < found[name].megabytes for name in ("jann", "raw", "linen"))


def test_multiplications_are_the_published_ones():
    assert (lenet.multiplications() / lenet.BATCH + 117_600) / 3 == 416_520
    assert (resnet20.multiplications() / resnet20.BATCH + 442_368) / 3 == pytest.approx(40.55e6, rel=1e-3)


def test_loading_reads_the_same_numbers(small, tmp_path):
    loading.files(tmp_path)
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert 0 < size - 4 * loading.numbers() < 4000  # the header
    losses = first_losses(loading.CASE, ["jann", "safetensors", "reading"], folder=tmp_path)
    check_same(losses)
    assert losses["jann"][0] != 0 and losses["reading"].size == 0


def test_what_is_restored_is_what_was_saved(small):
    saved = first_losses(checkpoint.CASE, ["jann", "writing"])
    restored = first_losses(restore.CASE, ["jann", "reading"])
    assert saved["jann"] == restored["jann"] != 0
    drawn = np.random.default_rng(0).standard_normal(checkpoint.numbers(), np.float32)
    np.testing.assert_allclose(saved["jann"], drawn.sum(dtype=float) / math.sqrt(drawn.size), rtol=1e-6)
    assert saved["writing"].size == restored["reading"].size == 0


def test_a_pause_is_time_beside_the_steps(small):
    found = pause.CASE.rivals["jann"]({})(1)
    assert -1 < found.seconds < 60


def test_a_first_step_fills_the_cache(tmp_path):
    assert 0 < first_step.started("jann", str(tmp_path)) < 60
    assert any(tmp_path.iterdir())


def test_a_slope_is_the_power():
    x = np.array([1, 2, 8, 64])
    assert scaling.slope(x, 3 * x**1.5) == pytest.approx(1.5)
    base = decoders.multiplications(scaling.BASE, 8)
    assert decoders.multiplications(scaling.BASE._replace(layers=8), 8) < 2 * base
    assert decoders.multiplications(scaling.BASE, 16) == 2 * base


def test_scaling_reports_each_axis(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "SEEDS_STEPS", 2)
    monkeypatch.setitem(scaling.POINTS, "seeds", (1, 3))
    scaling.main(axes=("seeds",), rounds=1, seconds=0, out=tmp_path)
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["multiplications_slope"] == pytest.approx(1) and min(row["seconds"]) > 0
    assert (tmp_path / "scaling.png").exists() and "| seeds | 1 – 3 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--axes depht"):
        scaling.main(axes=("depht",))
