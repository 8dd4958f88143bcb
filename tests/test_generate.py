"""The command that goes on from a prompt: a trained model's story, and clear errors."""

import json
import shutil

import pytest

from jann import generate
from jann.data import load_tokenizer
from jann.pretrained import begin_tokens, stop_tokens


def test_a_trained_llama_tells_a_story(goldens, capsys):
    folder = goldens / "real-stories260k-llama"
    about = json.loads((folder / "io.json").read_text())["prompt_example"]
    generate.main(str(folder), about["prompt"], new=64)
    printed = capsys.readouterr().out.rstrip("\n")
    tokenizer = load_tokenizer(folder)
    assert printed == tokenizer.decode(about["greedy_80_ids"][: len(about["prompt_ids"]) + 64])
    assert printed.startswith(about["prompt"]) and len(printed) > len(about["prompt"]) + 100
    assert stop_tokens(folder) == [2] and begin_tokens(folder) == [1]


def test_what_is_missing_is_named(tmp_path, goldens):
    with pytest.raises(SystemExit, match=r"tokenizer\.json is missing"):
        generate.main(str(tmp_path), "hello")
    with pytest.raises(SystemExit, match="give a --temperature above 0"):
        generate.main(str(goldens / "real-stories260k-llama"), "hello", top_k=3)


def test_a_chat_is_put_as_its_template_says(goldens, capsys, tmp_path):
    folder = tmp_path / "chat"
    shutil.copytree(goldens / "real-stories260k-llama", folder)
    prompt = "Once upon a time"
    with pytest.raises(SystemExit, match="has no chat template"):
        generate.main(str(folder), prompt, chat=True)
    template = "{{ bos_token }}{% for said in messages %}{{ said['content'] }}, there was{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "bos_token": "<s>"}))
    generate.main(str(folder), prompt + ", there was", new=24)
    plain = capsys.readouterr().out.rstrip("\n")
    generate.main(str(folder), prompt, new=24, chat=True)
    answer = capsys.readouterr().out.rstrip("\n")
    assert len(answer) > 20 and plain == f"{prompt}, there was {answer}"
