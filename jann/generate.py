"""Goes on from a prompt with a published model: python -m jann.generate FOLDER "Once upon a time"

FOLDER holds config.json, safetensors and tokenizer.json, as published, or is the name of a repository on the Hugging
Face Hub (extra `jann[hub]`). Where no option says otherwise, its generation_config.json does. The text streams as it is
made. With --chat, the prompt is what is said first to a chat model; at a terminal the conversation goes on until an
empty line.
"""

import sys
from collections.abc import Iterator
from typing import Any

import jax
import tyro

from jann.data import load_tokenizer
from jann.generation import for_decoding, generate, stream
from jann.pretrained import begin_tokens, chat_prompt, from_pretrained, generation_options, local_folder


def main(
    folder: tyro.conf.Positional[str],
    prompt: tyro.conf.Positional[str],
    new: int = 200,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    chat: bool = False,
    seed: int = 0,
) -> None:
    """Prints the prompt and what the model makes of it.

    Args:
        folder: A Hugging Face folder (config.json, safetensors, tokenizer.json), or the name of a repository.
        prompt: The text to go on from; for an encoder-decoder, what it reads.
        new: The most tokens to make.
        temperature: 0 takes the likeliest token each time; 1 samples as the model says. By default as the folder
            says, or 0.
        top_k: Sample from so many of the likeliest tokens only.
        top_p: Sample from the fewest tokens with so much probability only.
        repetition_penalty: Above 1, tokens that were there become less likely.
        chat: The prompt is said to a chat model, by the chat template of its folder.
        seed: Of what is sampled.
    """
    if new < 1:
        raise SystemExit(f"--new {new}: give at least one")
    if temperature is not None and not temperature >= 0:
        raise SystemExit(f"--temperature {temperature:g}: give 0, which takes the likeliest token, or more")
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": repetition_penalty}
    try:
        folder = local_folder(folder)
        tokenizer = load_tokenizer(folder)
        model, params = from_pretrained(folder)
        params, options = for_decoding(model, params), generation_options(folder)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    options |= {name: value for name, value in given.items() if value is not None}
    if options.get("temperature"):
        options["key"] = jax.random.key(seed)
    elif top_k is not None or top_p is not None:
        raise SystemExit("--top-k and --top-p choose among samples: give a --temperature above 0")
    else:
        for name in ("temperature", "top_k", "top_p", "min_p"):  # the folder's
            options.pop(name, None)
    try:
        if hasattr(model, "begin"):
            if chat:
                raise SystemExit("--chat is for decoders: an encoder-decoder reads its prompt as it is")
            made = generate(model, params, [tokenizer.encode(prompt).ids], new, **options)
            print(tokenizer.decode(made.tokens[0, : int(made.lengths[0])].tolist()))
        elif chat:
            if not prompt:
                raise SystemExit("the prompt is empty: say something")
            messages = [{"role": "user", "content": prompt}]
            while messages[-1]["content"]:
                ids = tokenizer.encode(chat_prompt(folder, messages), add_special_tokens=False).ids
                answer = printed(tokenizer, stream(model, params, ids, new, **options))
                said = input("> ") if sys.stdin.isatty() else ""
                messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": said}]
        else:
            ids, begin = tokenizer.encode(prompt).ids, begin_tokens(folder)
            ids = ids if ids[:1] == begin else [*begin, *ids]
            printed(tokenizer, stream(model, params, ids, new, **options), ids)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    except (EOFError, KeyboardInterrupt):
        print()


def printed(tokenizer: Any, tokens: Iterator[int], before: list[int] | None = None) -> str:
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
