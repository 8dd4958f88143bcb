"""Goes on from a prompt with a published model: python -m jann.generate FOLDER "Once upon a time"

FOLDER holds config.json, safetensors and tokenizer.json, as published, or is the name of a repository on the Hugging
Face Hub (extra `jann[hub]`). Where no option says otherwise, its generation_config.json does. The text streams as it is
made. With --chat, the prompt is what is said first to a chat model; at a terminal the conversation goes on until an
empty line. Of Whisper, the prompt is a wav file, and the text what is said in it: python -m jann.generate FOLDER a.wav
"""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from jann.core import Model
from jann.data import load_tokenizer, speech_spectrogram
from jann.data.audio import SPEECH_RATE, read_wav
from jann.generation import beam_search, for_decoding, stream
from jann.models import Whisper
from jann.pretrained import (
    begin_tokens,
    chat_prompt,
    from_pretrained,
    generation_options,
    local_folder,
    speech_tokens,
)
from jann.pretrained.prompts import said_of_use
from jann.trees import Tree

SAMPLING = "temperature", "top_k", "top_p", "min_p"


def main(
    folder: tyro.conf.Positional[str],
    prompt: tyro.conf.Positional[str],
    new: int = 200,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    beams: int | None = None,
    chat: bool = False,
    language: str | None = None,
    task: Literal["transcribe", "translate"] = "transcribe",
    seed: int = 0,
) -> None:
    """Prints the prompt and what the model makes of it.

    Args:
        folder: A Hugging Face folder (config.json, safetensors, tokenizer.json), or the name of a repository.
        prompt: The text to go on from; for an encoder-decoder, what it reads; for Whisper, a wav file of one channel
            of 16 bits, 16,000 a second.
        new: The most tokens to make.
        temperature: 0 takes the likeliest token each time; 1 samples as the model says. By default as the folder
            says, or 0.
        top_k: Sample from so many of the likeliest tokens only.
        top_p: Sample from the fewest tokens with so much probability only.
        repetition_penalty: Above 1, tokens that were there become less likely.
        beams: Above 1, follow so many texts at once and print the best. By default as the folder says, or 1.
        chat: The prompt is said to a chat model, by the chat template of its folder.
        language: Of Whisper's speech, in two letters. By default English.
        task: Of Whisper: to write what is said, or to translate it into English.
        seed: Of what is sampled.
    """
    if new < 1:
        raise SystemExit(f"--new {new}: give at least one")
    if temperature is not None and not temperature >= 0:
        raise SystemExit(f"--temperature {temperature:g}: give 0, which takes the likeliest token, or more")
    if chat and beams not in (None, 1):
        raise SystemExit(f"--beams {beams} prints a text when it is whole, --chat as it is made: leave out one of them")
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": repetition_penalty}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        folder = local_folder(folder)
        tokenizer = load_tokenizer(folder)
        model, params = from_pretrained(folder)
        params, (several, options) = for_decoding(model, params), wanted(folder, given, 1 if chat else beams, seed)
        if chat:
            converse(folder, tokenizer, model, params, prompt, new, options)
            return
        if isinstance(model, Whisper):
            model, inputs = listening(model, tokenizer, folder, prompt, language, task)
        elif language is not None or task != "transcribe":
            raise SystemExit("--language and --task are for Whisper: say what is wanted in the prompt")
        elif hasattr(model, "begin"):
            inputs = [tokenizer.encode(prompt).ids]
        else:
            ids, begin = tokenizer.encode(prompt).ids, begin_tokens(folder)
            inputs = [ids if ids[:1] == begin else [*begin, *ids]]
        for one in inputs:
            before = None if hasattr(model, "begin") else one
            if several:
                made = beam_search(model, params, [one], new, **options)[0]
                printed(tokenizer, made.tokens[0, : int(made.lengths[0])].tolist(), before)
            else:
                printed(tokenizer, stream(model, params, one, new, **options), before)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    except (EOFError, KeyboardInterrupt):
        print()


def wanted(folder: Path, given: dict[str, Any], beams: int | None, seed: int) -> tuple[bool, dict[str, Any]]:
    """What the command says, and where it says nothing the folder: -> (several beams or not, options)"""
    sampling = [name for name in ("temperature", "top_k", "top_p") if given.get(name)]
    if beams not in (None, 1) and sampling:
        raise SystemExit(f"--beams {beams} follows the likeliest texts: leave out --{sampling[0].replace('_', '-')}")
    if beams is None:
        beams = 1 if sampling else said_of_use(folder)[0].get("num_beams") or 1
    if beams != 1:
        given = {name: value for name, value in given.items() if name != "temperature"}  # which is 0
        return True, {**generation_options(folder, beams=True), "beams": beams, **given}
    options = generation_options(folder) | given
    if options.get("temperature"):
        return False, {**options, "key": jax.random.key(seed)}
    if "top_k" in given or "top_p" in given:
        raise SystemExit("--top-k and --top-p choose among samples: give a --temperature above 0")
    return False, {name: value for name, value in options.items() if name not in SAMPLING}


def listening(
    model: Whisper, tokenizer: Any, folder: Path, file: str, language: str | None, task: str
) -> tuple[Whisper, list[jax.Array]]:
    """-> (the model with what it begins with, the spectrogram of each half minute of the wav file)"""
    audio = read_wav(file, SPEECH_RATE)
    if not audio.size:
        raise SystemExit(f"{file} has no sound in it")
    if said_of_use(folder)[0].get("is_multilingual", True):
        begin = speech_tokens(tokenizer, language or "en", task)
    elif language not in (None, "en") or task != "transcribe":
        raise SystemExit(f"{folder} knows English alone: leave out --language and --task")
    else:
        begin = speech_tokens(tokenizer, None)
    length = 2 * model.places * SPEECH_RATE // 100
    pieces = [audio[start : start + length] for start in range(0, len(audio), length)]
    heard = [speech_spectrogram(piece, SPEECH_RATE, model.bands, length // SPEECH_RATE) for piece in pieces]
    return dataclasses.replace(model, begin_tokens=begin), heard


def converse(
    folder: Path, tokenizer: Any, model: Model, params: Tree, said: str, new: int, options: dict[str, Any]
) -> None:
    """Answers what is said, and at a terminal what is typed then, until it is nothing."""
    if hasattr(model, "begin"):
        raise SystemExit("--chat is for decoders: an encoder-decoder reads its prompt as it is")
    if not said:
        raise SystemExit("the prompt is empty: say something")
    messages = []
    while said:
        messages.append({"role": "user", "content": said})
        ids = tokenizer.encode(chat_prompt(folder, messages), add_special_tokens=False).ids
        answer = printed(tokenizer, stream(model, params, ids, new, **options))
        messages.append({"role": "assistant", "content": answer})
        said = input("> ") if sys.stdin.isatty() else ""


def printed(tokenizer: Any, tokens: Iterable[int], before: list[int] | None = None) -> str:
    """Prints what came before, and the text of the tokens as they come: -> all of it"""
    ids, shown = list(before or []), ""

    def show(text):
        nonlocal shown
        print(text[len(shown) :], end="", flush=True)
        shown = text

    show(tokenizer.decode(ids))
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids)
        if not text.endswith("\ufffd"):  # half of a character so far
            show(text)
    show(tokenizer.decode(ids).rstrip("\ufffd"))
    print()
    return shown


if __name__ == "__main__":
    tyro.cli(main)
