"""The model of code at tiny size: bits a byte, prompts, and both stages up to a solved problem."""

import json
import math

import numpy as np
import pytest

import jann
from experiments import python_code
from experiments.python_code import END, Recipe
from jann.data import Corpus, MissingData, Problem

RECIPE = Recipe(30, 8, 1e-2, average=0.9, tuning_steps=40, tuning_rate=1e-2, problems=2, new=24)
ONE = Problem("Write one.", "def f():\n    return 1", ("assert f() == 1",))
MBPP = Corpus("mbpp", [ONE] * 8, [ONE] * 2, [ONE, ONE._replace(tests=(*ONE.tests, "assert f() == 2")), ONE])
FILES = ["def f():\n    return 1\n", "x = [1, 2, 3]\n", "while True:\n    break\n"] * 20


def prepared():
    return python_code.prepared(FILES, FILES[:3], 280)


def test_bits_a_byte_do_not_depend_on_the_encoding():
    """A model that foretells each token with probability 1/2 says one bit a token, however long tokens are."""
    sources = prepared()
    text = "".join(FILES[:3])
    assert sources.bytes == len(text.encode())
    assert sources.tokenizer.decode(sources.validation.tolist()) == text
    tokens = len(sources.validation) - 1  # the first END is given
    np.testing.assert_allclose(sources.bits_a_byte(math.log(2)) * sources.bytes, tokens)
    new = python_code.prepared(FILES, ["import zlib, queue  # %$&?!"], 280)
    assert sources.xz < 8 * sources.bytes / 2 and new.xz > 8 * new.bytes / 2, "what xz has read, and what it has not"


def test_only_solutions_are_foretold_and_long_ones_are_left_out():
    tokenizer = prepared().tokenizer
    long = ONE._replace(code="x = 1\n" * 100)
    (pair,) = python_code.pairs_of(tokenizer, [long, ONE], 64)
    assert tokenizer.decode(pair[0]) == '"""\nWrite one.\nassert f() == 1\n"""\n'
    rows = jann.data.instructed([pair], 64, python_code.PAD)
    foretold = rows["label"][rows["weight"] > 0].tolist()
    assert tokenizer.decode(foretold) == ONE.code and foretold[-1] == END


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out, sources = tmp_path_factory.mktemp("python_code") / "run", prepared()
    model = jann.models.Llama(sources.tokenizer.get_vocab_size(), 32, 1, 2, 64, positions=64, tied=True)
    arguments = (model, RECIPE, 1, 3)
    python_code.run(out, sources, None, *arguments)
    return out, sources, arguments, json.loads((out / "results.json").read_text())["rows"][0]


def test_without_mbpp_it_is_pre_trained_alone_and_what_is_saved_is_what_is_reported(finished):
    out, sources, (model, *_), row = finished
    assert not any(name.startswith("mbpp") for name in row)
    assert row["validation_loss"]["mean"] < 0.8 * math.log(model.vocab)
    read, params = jann.pretrained.from_pretrained(out / "seed-3/hugging_face")
    rows = jann.data.whole_windows(sources.validation, 64)
    found = jann.evaluate(jann.measure(read, jann.language, "token"), params, rows)["loss"]
    np.testing.assert_allclose(found, row["validation_loss"]["mean"], rtol=1e-5)
    bits = sources.bits_a_byte(row["validation_loss"]["mean"])
    np.testing.assert_allclose(row["validation_bits_a_byte"]["mean"], bits, rtol=1e-5)
    assert all(prompt in (out / "seed-3/completions.txt").read_text() for prompt in python_code.PROMPTS)


def test_the_same_command_goes_on_with_mbpp_and_scores_what_it_learnt(finished):
    out, sources, arguments, before = finished
    metrics = (out / "seed-3/pre-trained/metrics.jsonl").read_text()
    python_code.run(out, sources, MBPP, *arguments)
    assert (out / "seed-3/pre-trained/metrics.jsonl").read_text() == metrics
    (row,) = json.loads((out / "results.json").read_text())["rows"]
    assert row["validation_loss"] == before["validation_loss"]
    # The one solution, learnt by heart, is right for the first problem; the second nobody can solve so.
    assert row["mbpp_own_pass"] == 0.5 and row["problems"] == 2
    assert row["mbpp_loss"]["mean"] < 1
    assert (row["mbpp_parses"]["mean"], row["mbpp_runs"]["mean"], row["mbpp_passes"]["mean"]) == (1, 1, 0.5)
    assert ONE.code in (out / "seed-3/solutions.txt").read_text()
    for name in ("pre-training", "fine-tuning"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_missing_mbpp_is_said(monkeypatch, capsys):
    def load(name):
        raise MissingData(f"{name} is nowhere")

    monkeypatch.setattr(jann.data, "load", load)
    assert python_code.found_mbpp() is None
    assert "no fine-tuning: mbpp is nowhere" in capsys.readouterr().out
