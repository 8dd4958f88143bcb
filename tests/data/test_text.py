"""Texts as numbers of characters."""

import numpy as np
import pytest

import jann.data
from jann.data.text import as_text


def test_tiny_shakespeare_is_the_published_one(real_data):
    text = jann.data.load("tiny_shakespeare")
    assert (len(text.train), len(text.validation), len(text.vocabulary)) == (1_003_854, 111_540, 65)
    assert text.decode(text.train[:14]) == "First Citizen:"
    assert text.decode(text.validation[:19]) == "?\n\nGREMIO:\nGood mor"  # where nanoGPT's split begins


def test_python_topics_are_in_every_python():
    text = jann.data.load("python_topics")
    whole = text.decode(np.concatenate([text.train, text.validation]))
    assert len(whole) > 300_000 and '"assert" statement' in whole
    assert "".join(text.vocabulary) == "".join(sorted(set(whole)))
    assert abs(len(text.train) / len(whole) - 0.9) < 1e-5
    np.testing.assert_array_equal(text.encode(whole[:1000]), text.train[:1000])


def test_a_character_without_a_number_is_named():
    text = as_text("abc", "abcabcabca")
    assert (text.train.tolist(), text.validation.tolist()) == ([0, 1, 2, 0, 1, 2, 0, 1, 2], [0])
    with pytest.raises(ValueError, match=r"abc has no character 'x' \(place 2\); it has 'abc'"):
        text.encode("abx")


def test_an_altered_text_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/tinyshakespeare_input.txt").write_text("First Citizen")
    with pytest.raises(jann.data.DataError, match="tinyshakespeare_input.txt has sha256 .*, expected 86c4e6aa"):
        jann.data.load("tiny_shakespeare")
