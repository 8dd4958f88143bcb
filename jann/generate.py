"""Goes on from a prompt with a published model: python -m jann.generate FOLDER "Once upon a time"

FOLDER holds config.json, safetensors and tokenizer.json, as published; the text streams as it is made.
"""

import json
from pathlib import Path

import jax
import tyro

from jann.generation import generate, stream
from jann.pretrained import from_pretrained


def main(
    folder: tyro.conf.Positional[str],
    prompt: tyro.conf.Positional[str],
    new: int = 200,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    seed: int = 0,
) -> None:
    """Prints the prompt and what the model makes of it.

    Args:
        folder: A Hugging Face folder: config.json, safetensors, tokenizer.json.
        prompt: The text to go on from; for an encoder-decoder, what it reads.
        new: The most tokens to make.
        temperature: 0 takes the likeliest token each time; 1 samples as the model says.
        top_k: Sample from so many of the likeliest tokens only.
        top_p: Sample from the fewest tokens with so much probability only.
        repetition_penalty: Above 1, tokens that were there become less likely.
        seed: Of what is sampled.
    """
    try:
        tokenizer = tokenizer_of(folder)
        model, params = from_pretrained(folder)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    options = {"repetition_penalty": repetition_penalty}
    if temperature > 0:
        key = jax.random.key(seed)
        options |= {"key": key, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    elif top_k is not None or top_p is not None:
        raise SystemExit("--top-k and --top-p choose among samples: give a --temperature above 0")
    try:
        if hasattr(model, "begin"):
            ids = tokenizer.encode(prompt).ids
            made = generate(model, params, [ids], new, stop=stop_tokens(folder), **options)
            print(tokenizer.decode(made.tokens[0, : int(made.lengths[0])].tolist()))
            return
        ids = tokenizer.encode(prompt).ids
        begin = begin_tokens(folder)
        ids = ids if ids[:1] == begin else [*begin, *ids]
        shown = tokenizer.decode(ids)
        print(shown, end="", flush=True)
        for token in stream(model, params, list(ids), new, stop=stop_tokens(folder), **options):
            ids.append(token)
            text = tokenizer.decode(ids)
            if not text.endswith("\ufffd"):  # half of a character so far
                print(text[len(shown) :], end="", flush=True)
                shown = text
        print()
    except ValueError as error:
        raise SystemExit(str(error)) from None


def tokenizer_of(folder: str | Path):
    """The folder's tokenizer.json, as the tokenizers library reads it. Raises FileNotFoundError where there is none."""
    from tokenizers import Tokenizer

    file = Path(folder) / "tokenizer.json"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: give a folder as published, with its tokenizer.json")
    return Tokenizer.from_file(str(file))


def begin_tokens(folder: str | Path) -> list[int]:
    """The id that begins a text, where the model was trained with one and its tokenizer.json does not add it.

    What tokenizer_config.json says counts; where it says nothing, Llama and Mistral have one.
    """
    config = json.loads((Path(folder) / "config.json").read_text())
    options = Path(folder) / "tokenizer_config.json"
    options = json.loads(options.read_text()) if options.exists() else {}
    adds = options.get("add_bos_token", config.get("model_type") in ("llama", "mistral"))
    token = config.get("bos_token_id")
    return [token] if adds and token is not None else []


def stop_tokens(folder: str | Path) -> list[int]:
    """The ids that end a text, from generation_config.json or config.json."""
    for name in ("generation_config.json", "config.json"):
        file = Path(folder) / name
        found = json.loads(file.read_text()).get("eos_token_id") if file.exists() else None
        if found is not None:
            return found if isinstance(found, list) else [found]
    return []


if __name__ == "__main__":
    tyro.cli(main)
