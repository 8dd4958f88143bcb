"""The command that goes on from a prompt: a trained model's story, and clear errors."""

import json

import pytest

from jann import generate


def test_a_trained_llama_tells_a_story(goldens, capsys):
    folder = goldens / "real-stories260k-llama"
    about = json.loads((folder / "io.json").read_text())["prompt_example"]
    generate.main(str(folder), about["prompt"], new=64)
    printed = capsys.readouterr().out.rstrip("\n")
    tokenizer = generate.tokenizer_of(folder)
    assert printed == tokenizer.decode(about["greedy_80_ids"][: len(about["prompt_ids"]) + 64])
    assert printed.startswith(about["prompt"]) and len(printed) > len(about["prompt"]) + 100
    assert generate.stop_tokens(folder) == [2] and generate.begin_tokens(folder) == [1]


def test_what_is_missing_is_named(tmp_path, goldens):
    with pytest.raises(SystemExit, match=r"tokenizer\.json is missing"):
        generate.main(str(tmp_path), "hello")
    with pytest.raises(SystemExit, match="give a --temperature above 0"):
        generate.main(str(goldens / "real-stories260k-llama"), "hello", top_k=3)
