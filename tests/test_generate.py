"""The command that goes on from a prompt: a trained model's story, and clear errors."""

import dataclasses
import json
import shutil
import sys
import types
from fnmatch import fnmatch

import jax
import numpy as np
import pytest
from scipy.io import wavfile

from jann import generate, generation
from jann.data import load_tokenizer, speech_spectrogram, train_bpe
from jann.data.audio import write_wav
from jann.generation import beam_search
from jann.models import Llama, Whisper
from jann.pretrained import begin_tokens, from_pretrained, save_pretrained, stop_tokens


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"new": 0}, "--new 0: give at least one"),
        ({"new": -3}, "--new -3: give at least one"),
        ({"temperature": -1.0}, "--temperature -1: give 0"),
        ({"temperature": float("nan")}, "--temperature nan: give 0"),
        ({"temperature": 1.0, "top_p": 2.0}, "top_p=2.0 must be above 0 and at most 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0 must be above 0"),
    ],
)
def test_a_wrong_option_is_said_before_the_prompt(options, message, goldens, capsys):
    with pytest.raises(SystemExit, match=message):
        generate.main(str(goldens / "real-stories260k-llama"), "Once upon", **options)
    assert capsys.readouterr().out == ""


def test_what_the_folder_says_counts_where_no_option_does(goldens, capsys, tmp_path):
    folder = tmp_path / "sampled"
    shutil.copytree(goldens / "real-stories260k-llama", folder)

    def told(**options):
        generate.main(str(folder), "Once upon a time", new=32, **options)
        return capsys.readouterr().out

    greedy, penalised, sampled = told(), told(repetition_penalty=2.0), told(temperature=0.9, top_k=20, seed=1)
    assert len({greedy, penalised, sampled}) == 3
    file = folder / "generation_config.json"
    file.write_text(json.dumps({"do_sample": True, "temperature": 0.9, "top_k": 20}))
    assert told(seed=1) == sampled and told(temperature=0.0) == greedy
    file.write_text(json.dumps({"repetition_penalty": 2.0}))
    assert told() == penalised and told(repetition_penalty=1.0) == greedy
    file.write_text("{")
    with pytest.raises(SystemExit, match="generation_config.json is not whole JSON"):
        told()


def test_beams_where_they_are_asked_for_or_the_folder_has_them(goldens, capsys, tmp_path):
    folder = tmp_path / "beams"
    shutil.copytree(goldens / "real-stories260k-llama", folder)

    def told(**options):
        generate.main(str(folder), "Once upon a time", new=32, **options)
        return capsys.readouterr().out

    tokenizer, (model, params) = load_tokenizer(folder), from_pretrained(folder)
    ids = [1, *tokenizer.encode("Once upon a time").ids]
    best = beam_search(model, params, [ids], 32, beams=3, stop=2, length_penalty=0.5)[0]
    greedy, searched = told(), told(beams=3)
    file = folder / "generation_config.json"
    file.write_text(json.dumps({"num_beams": 3, "length_penalty": 0.5}))
    assert told() == tokenizer.decode(ids + best.tokens[0, : int(best.lengths[0])].tolist()) + "\n" != greedy
    assert searched != greedy and told(temperature=0.0) == told()
    with pytest.warns(UserWarning, match="num_beams=3"):
        assert told(beams=1) == greedy
    for wrong, message in (
        ({"beams": 0}, "beams=0"),
        ({"beams": 2, "temperature": 0.5}, "--beams 2 follows the likeliest texts: leave out --temperature"),
        ({"beams": 2, "chat": True}, "leave out one of them"),
        ({"language": "de"}, "--language and --task are for Whisper"),
    ):
        with pytest.raises(SystemExit, match=message):
            told(**wrong)


def test_whisper_writes_each_half_minute_of_a_wav_file(goldens, capsys, tmp_path):
    tokenizer = train_bpe(["once upon a time"], 270)
    special = ["startoftranscript", "en", "de", "transcribe", "translate", "notimestamps"]
    tokenizer.add_special_tokens([f"<|{name}|>" for name in special])
    model = Whisper(tokenizer.get_vocab_size(), 8, 8, 1, 2, 12, places=100, positions=12)
    params = jax.tree.map(lambda leaf: 5 * leaf, model.init(jax.random.key(0)))
    save_pretrained(tmp_path, model, params)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    audio = np.random.default_rng(0).integers(-3000, 3000, 40_000).astype(np.int16)
    write_wav(tmp_path / "a.wav", audio, 16_000)

    def told(file="a.wav", **options):
        generate.main(str(tmp_path), str(tmp_path / file), new=6, **options)
        return capsys.readouterr().out

    heard = [speech_spectrogram(piece, 16_000, 8, 2) for piece in (audio[:32_000], audio[32_000:])]
    found = {}
    for options, names in (
        ({}, ["startoftranscript", "en", "transcribe", "notimestamps"]),
        ({"language": "de", "task": "translate"}, ["startoftranscript", "de", "translate", "notimestamps"]),
    ):
        asked = dataclasses.replace(model, begin_tokens=tuple(tokenizer.token_to_id(f"<|{name}|>") for name in names))
        rows = generation.generate(asked, params, heard, 6).tokens.tolist()
        found[len(found)] = told(**options)
        assert found[len(found) - 1] == "".join(tokenizer.decode(row).rstrip("\ufffd") + "\n" for row in rows)
    assert found[0] != found[1]
    (tmp_path / "generation_config.json").write_text(json.dumps({"is_multilingual": False}))
    assert told() not in found.values()
    with pytest.raises(SystemExit, match="knows English alone"):
        told(language="de")
    (tmp_path / "generation_config.json").unlink()
    wavfile.write(tmp_path / "empty.wav", 16_000, audio[:0])
    write_wav(tmp_path / "slow.wav", audio, 8_000)
    for file, options, message in (
        ("b.wav", {}, "b.wav"),
        ("slow.wav", {}, "8000 samples a second, expected 16000"),
        ("empty.wav", {}, "empty.wav has no sound in it"),
        ("a.wav", {"language": "german"}, r"no <\|german\|>: languages have two letters"),
    ):
        with pytest.raises(SystemExit, match=message):
            told(file, **options)


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
    with pytest.raises(SystemExit, match="the prompt is empty: say something"):
        generate.main(str(folder), "", chat=True)
    assert len(answer) > 20 and plain == f"{prompt}, there was {answer}"


def test_the_name_of_a_repository_is_fetched_once_and_serves_as_its_folder(tmp_path, drawn, monkeypatch, capsys):
    tokenizer = train_bpe(["once upon a time"], 270)
    model = Llama(vocab=tokenizer.get_vocab_size(), embed=8, layers=1, heads=2, hidden=12)
    save_pretrained(tmp_path, model, drawn(model))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append(name)
        if not all(any(fnmatch(file.name, pattern) for pattern in allow_patterns) for file in tmp_path.iterdir()):
            raise OSError("some files are left out")
        return str(tmp_path)

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    generate.main("someone/tiny-llama", "once upon", new=4)
    fetched = capsys.readouterr().out
    assert asked == ["someone/tiny-llama"] and fetched.startswith("once upon")
    generate.main(str(tmp_path), "once upon", new=4)
    assert capsys.readouterr().out == fetched and len(asked) == 1


def test_a_name_that_cannot_be_fetched_says_how_to_get_the_folder(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SystemExit, match=r"someone/tiny is no folder here.*pip install 'jann\[hub\]'"):
        generate.main("someone/tiny", "hello")


def test_what_ends_within_a_character_is_shown_up_to_it(capsys):
    tokenizer = train_bpe(["xé " * 5 + "xê " * 5], 262)
    ids = tokenizer.encode("xé").ids
    assert generate.printed(tokenizer, iter(ids[:1])) == "x" and capsys.readouterr().out == "x\n"
    assert generate.printed(tokenizer, iter(ids)) == "xé"
