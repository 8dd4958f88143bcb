"""How a published model wants to be asked: what begins and ends its texts, how they are drawn, its chat template."""

import functools
import json
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jann.generation.choice import renormalised
from jann.pretrained.hub import TEMPLATES, PretrainedError, read_config, read_json

BEGUN = ("llama", "mistral", "gemma", "gemma2", "gemma3_text")
REASONING = ("reasoning_content", "thinking", "reasoning")
END = "CONTINUE_FINAL_MESSAGE_TAG "  # stands at the end of a message that is to be continued

# Settings of generation_config.json, under their names in `generate`, and the value with which each changes nothing.
ALWAYS = {
    "min_new_tokens": ("least", 0), "repetition_penalty": ("repetition_penalty", 1),
    "no_repeat_ngram_size": ("no_repeat", 0), "suppress_tokens": ("never", []),
    "begin_suppress_tokens": ("never_first", []), "forced_bos_token_id": ("begin_with", None),
    "forced_eos_token_id": ("end_with", None),
}  # fmt: skip
SAMPLING = {"temperature": ("temperature", 1), "top_k": ("top_k", 0), "top_p": ("top_p", 1), "min_p": ("min_p", 0)}
BEAMS = {"num_beams": ("beams", 1), "length_penalty": ("length_penalty", 1), "early_stopping": ("early", False)}
NOT_FOLLOWED = {
    "min_length": 0, "stop_strings": None, "bad_words_ids": None, "sequence_bias": None,
    "exponential_decay_length_penalty": None, "encoder_repetition_penalty": 1, "encoder_no_repeat_ngram_size": 0,
    "typical_p": 1, "top_h": None, "epsilon_cutoff": 0, "eta_cutoff": 0, "guidance_scale": 1, "penalty_alpha": 0,
    "num_beam_groups": 1,
}  # fmt: skip


def begin_tokens(folder: str | Path) -> list[int]:
    """The id that begins a text, where the model was trained with one and its tokenizer.json does not add it.

    What tokenizer_config.json says counts; where it says nothing, tokenizers of Llama's and Gemma's classes have one,
    and where no class is named either, the models Llama, Mistral and Gemma.
    """
    config, options = read_config(Path(folder)), tokenizer_options(folder)
    kind = options.get("tokenizer_class") or config.get("tokenizer_class")
    usual = ("Llama" in kind or "Gemma" in kind) if kind else config.get("model_type") in BEGUN
    token = config.get("bos_token_id")
    return [token] if options.get("add_bos_token", usual) and token is not None else []


def stop_tokens(folder: str | Path) -> list[int]:
    """The ids that end a text, from generation_config.json or config.json."""
    found = next((said["eos_token_id"] for said in said_of_use(folder) if said.get("eos_token_id") is not None), [])
    return found if isinstance(found, list) else [found]


def generation_options(folder: str | Path, beams: bool = False) -> dict[str, Any]:
    """What generation_config.json, or without it config.json, says of a model's use: options of `generate`.

        made = generate(model, params, prompts, new, key=key, **generation_options(folder))
        made, scores = beam_search(model, params, prompts, new, **generation_options(folder, beams=True))

    beams:  options of `beam_search`: "beams", "length_penalty" and "early" where they are set, none of sampling, and
            a "logits_processor" where probabilities are to sum to 1 again without what is held back

    "stop" is always there; "least", "never", "never_first", "begin_with", "end_with", "repetition_penalty" and
    "no_repeat" where they are set; and where it says do_sample, "temperature" and what is set of "top_k", "top_p" and
    "min_p", which need the key. (transformers' own top_k=50, for a folder that samples and names none, is left out.)

    Warns of settings that change what is made and that these do not follow.
    """
    said = dict(said_of_use(folder)[0])
    if said.get("is_encoder_decoder", read_config(Path(folder)).get("is_encoder_decoder")):
        least = max((said.pop("min_length", 0) or 0) - 1, 0)  # it counts the decoder's first token
        said["min_new_tokens"] = least if said.get("min_new_tokens") is None else said["min_new_tokens"]
    if all(len(word) == 1 for word in said.get("bad_words_ids") or ()):
        words = [word[0] for word in said.pop("bad_words_ids", None) or ()]
        said["suppress_tokens"] = sorted({*(said.get("suppress_tokens") or ()), *words})
    sampled = bool(said.get("do_sample")) and not beams
    options = {"stop": stop_tokens(folder), **({"temperature": 1.0} if sampled else {})}
    names = {**ALWAYS, **(SAMPLING if sampled else {}), **(BEAMS if beams else {})}
    options |= {ours: said[name] for name, (ours, same) in names.items() if said.get(name) not in (None, same)}
    if beams and said.get("renormalize_logits"):
        options["logits_processor"] = renormalised
    unknown = NOT_FOLLOWED | ({} if beams else {"num_beams": 1})
    others = [f"{name}={said[name]!r}" for name, same in unknown.items() if said.get(name) not in (None, same)]
    if others:
        warnings.warn(f"{folder} says {', '.join(others)} of its use, which is not followed", stacklevel=2)
    return options


def said_of_use(folder: str | Path) -> list[dict[str, Any]]:
    """What generation_config.json holds, where it is there, and config.json, which must be."""
    file = Path(folder) / "generation_config.json"
    return [*([read_json(file)] if file.exists() else []), read_config(Path(folder))]


def chat_prompt(
    template: str | Path,
    messages: Sequence[dict[str, Any]],
    add_generation_prompt: bool = True,
    tools: Sequence[dict[str, Any]] | None = None,
    name: str | None = None,
    continue_final_message: bool = False,
    **variables: Any,
) -> str:
    """A conversation as the one text that a chat model was trained on.

        chat_prompt(folder, [{"role": "user", "content": "Which way?"}])

    The text holds its special tokens: `tokenizer.encode(text, add_special_tokens=False)`.

    template:               a folder as published (tokenizer_config.json, chat_template.jinja), or the template itself,
                            in Jinja, as Hugging Face's transformers reads it
    messages:               {"role": "system", "user" or "assistant", "content": ...}, ...; what is None in one is not
                            there, and its `reasoning_content` is its `thinking` too
    add_generation_prompt:  end with what begins an answer
    tools:                  functions that the model may call, as JSON schemas
    continue_final_message: end within the last message, an answer that has begun, in place of what begins one
    name:                   of one template where a folder has several; by default "tool_use" with tools, else "default"
    variables:              whatever else the template asks for: `bos_token`, `documents`, `enable_thinking` ...

    Raises FileNotFoundError for a folder without a template, PretrainedError where the template is wrong or refuses
    the messages.
    """
    import jinja2

    if isinstance(messages, str) or not all(isinstance(said, dict) and "role" in said for said in messages):
        raise PretrainedError('messages are a list such as [{"role": "user", "content": "Which way?"}]')
    if isinstance(template, Path) or "{" not in template:
        variables = {**special_tokens(template), **variables}
        template = template_of(template, name, tools is not None)
    given = {"documents": None, **variables, "tools": None if tools is None else list(tools)}
    messages = [_as_templates_read(said) for said in messages]
    begun = messages[-1].get("content") if messages else None
    if continue_final_message:
        if not isinstance(begun, str):
            raise PretrainedError("continue_final_message: the last message has no content of text to go on from")
        messages[-1]["content"] = begun + END
    try:
        text = compiled(template).render(
            messages=messages, add_generation_prompt=add_generation_prompt and not continue_final_message, **given
        )
    except jinja2.TemplateSyntaxError as error:
        raise PretrainedError(f"line {error.lineno} of the chat template is wrong: {error}") from None
    except (jinja2.TemplateError, TypeError) as error:
        raise PretrainedError(f"the chat template refuses these messages: {error}") from None
    if not continue_final_message:
        return text
    if END.strip() not in text or begun.strip() not in text:
        raise PretrainedError("the chat template leaves out the final message: it cannot be continued")
    before, after = text.rsplit(END.strip(), 1)
    return before if after.startswith(" ") else before.rstrip()


def _as_templates_read(said: dict[str, Any]) -> dict[str, Any]:
    """A message without what is None, its reasoning under the names that templates ask for."""
    said = {name: part for name, part in said.items() if part is not None}
    thought = next((said[name] for name in REASONING if name in said), None)
    return said if thought is None else {"thinking": thought, **said, "reasoning_content": thought}


def template_of(folder: str | Path, name: str | None = None, with_tools: bool = False) -> str:
    """The folder's chat template: chat_template.jinja and its companions, or in tokenizer_config.json."""
    folder = Path(folder)
    found = tokenizer_options(folder).get("chat_template") or {}
    if isinstance(found, list):
        found = {each["name"]: each["template"] for each in found}
    elif isinstance(found, str):
        found = {"default": found}
    files = {file.stem: file for file in sorted((folder / TEMPLATES).glob("*.jinja"))}
    if (folder / "chat_template.jinja").exists():
        files["default"] = folder / "chat_template.jinja"
    found |= {each: file.read_text(encoding="utf-8") for each, file in files.items()}
    if not found:
        raise FileNotFoundError(
            f"{folder} has no chat template, neither chat_template.jinja nor in tokenizer_config.json: it is no chat "
            "model, or give the template itself"
        )
    name = name or ("tool_use" if with_tools and "tool_use" in found else "default")
    if name not in found:
        raise PretrainedError(f"{folder} has no chat template {name!r}, but {', '.join(sorted(found))}: give name=...")
    return found[name]


def special_tokens(folder: str | Path) -> dict[str, str]:
    """{"bos_token": "<s>", ...} of tokenizer_config.json, which templates write.

    In folders from before that file listed the added tokens, those of special_tokens_map.json come first.
    """
    said = tokenizer_options(folder)
    if "added_tokens_decoder" not in said:
        said |= tokenizer_options(folder, "special_tokens_map.json")
    options = {name: token for name, token in said.items() if name.endswith("_token")}
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in options.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def tokenizer_options(folder: str | Path, name: str = "tokenizer_config.json") -> dict[str, Any]:
    """The folder's tokenizer_config.json, or its file of another name; without one, nothing."""
    file = Path(folder) / name
    return read_json(file) if file.exists() else {}


@functools.lru_cache(maxsize=32)
def compiled(template: str) -> Any:
    """The template in a sandbox, with the functions and tags that transformers gives to templates."""
    from jinja2 import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %} ... {% endgeneration %} marks what the model said: here, only its contents."""

        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message):
        raise TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):  # Jinja's own escapes HTML
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.now().strftime(format)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return environment.from_string(template)
