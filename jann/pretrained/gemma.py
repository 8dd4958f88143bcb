"""Published weights of Gemma 1, 2 and 3 (of text)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jann.models.gemma import Gemma
from jann.pretrained import llama
from jann.pretrained.hub import (
    PretrainedError,
    activation,
    activation_name,
    architecture,
    label_names,
    labels_of,
    lack,
    refuse,
)
from jann.pretrained.llama import LABELS, NORMS, rotary, scaling_of, windows_of
from jann.pretrained.tables import Table

MODEL = Gemma
IGNORED, copies = llama.IGNORED, llama.copies
NAMES = {"gemma": "Gemma", "gemma2": "Gemma2", "gemma3_text": "Gemma3"}

# Where a configuration leaves an option out, its family's default counts.
SIZES = {"vocab_size": 256_000, "head_dim": 256, "max_position_embeddings": 8192}
LATER = {**SIZES, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
         "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096}  # fmt: skip
DEFAULTS = {
    "gemma": {**SIZES, "hidden_size": 3072, "intermediate_size": 24_576, "num_hidden_layers": 28,
              "num_attention_heads": 16, "num_key_value_heads": 16},
    "gemma2": {**LATER, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "sliding_window_pattern": 2},
    "gemma3_text": {**LATER, "vocab_size": 262_208, "max_position_embeddings": 131_072, "rope_theta": 1_000_000.0,
                    "rope_local_base_freq": 10_000.0, "sliding_window_pattern": 6},
}  # fmt: skip
FOUR_NORMS = (
    NORMS[0], ("post_attention_layernorm", "attended_norm"),
    ("pre_feedforward_layernorm", "mlp_norm"), ("post_feedforward_layernorm", "hidden_norm"),
)  # fmt: skip


def from_config(config: dict, names: Sequence[str] = ()) -> Gemma:
    """names: of the tensors, where they are known, for a bare decoder may lack its head: then it counts as tied"""
    kind = config["model_type"]
    causal, bare, labelled = architectures(kind)
    name = architecture(config, causal, bare, labelled)
    config = {**DEFAULTS[kind], **config}
    refuse(config, use_bidirectional_attention=False)
    if kind == "gemma3_text":
        refuse(config, attn_logit_softcapping=None)
    positions = config["max_position_embeddings"]
    base, scaling, window_base = rotations(config, kind, positions)
    return Gemma(
        vocab=config["vocab_size"],
        embed=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        key_value_heads=config["num_key_value_heads"],
        head=config["head_dim"],
        positions=positions,
        activation=gated_by(config, kind),
        epsilon=config.get("rms_norm_eps", 1e-6),
        rotary_base=base,
        rotary_scaling=scaling,
        window_base=window_base,
        window=0 if kind == "gemma" else windows(config),
        query_scale=None if kind == "gemma" else config["query_pre_attn_scalar"],
        attention_cap=config.get("attn_logit_softcapping") if kind == "gemma2" else None,
        logit_cap=None if kind == "gemma" else config.get("final_logit_softcapping"),
        query_key_norm=kind == "gemma3_text",
        post_norms=kind != "gemma",
        attention_bias=config.get("attention_bias", False),
        tied=config.get("tie_word_embeddings", True) or (name == bare and lack(names, "lm_head")),
        labels=labels_of(config) if name == labelled else 0,
    )


def architectures(kind: str) -> tuple[str, str, str]:
    """Of the kind: the decoder with a head, without one, with labels."""
    text = "Text" if kind == "gemma3_text" else ""
    return f"{NAMES[kind]}ForCausalLM", f"{NAMES[kind]}{text}Model", f"{NAMES[kind]}{text}{LABELS}"


def gated_by(config: dict, kind: str) -> Callable:
    """The activation of the units; the first Gemmas were published as "gelu" where the one with tanh is meant."""
    name = config.get("hidden_activation") or (kind == "gemma" and config.get("hidden_act")) or "gelu_pytorch_tanh"
    return jax.nn.gelu if kind == "gemma" and name == "gelu" else activation(name)


def rotations(config: dict, kind: str, positions: int) -> tuple[float, tuple, float | None]:
    """-> (base, scaling, the base of layers with a window where it is another), from either spelling"""
    if kind != "gemma3_text":
        return (*rotary(config, positions), None)
    options = config.get("rope_parameters") or {}
    if unknown := sorted(options.keys() - {"full_attention", "sliding_attention"}):
        raise PretrainedError(f"rope_parameters of {kind} name full_attention and sliding_attention, got {unknown}")

    def of_kind(layer, base, **more):
        here = {"rope_theta": base, **(options.get(layer) or {})}
        return rotary({**config, "rope_parameters": here, **more}, positions)

    base, scaling = of_kind("full_attention", config["rope_theta"])
    window_base, stretched = of_kind("sliding_attention", config["rope_local_base_freq"], rope_scaling=None)
    if stretched:
        raise PretrainedError(f"rope_parameters of {kind} stretch sliding_attention ({stretched}): not supported")
    return base, scaling, window_base


def windows(config: dict) -> int | tuple[int, ...]:
    """How many positions each layer sees, by its kind, or else by the pattern: all of them every so many layers."""
    width, kinds = config["sliding_window"], config.get("layer_types")
    if kinds is None:
        pattern = config["sliding_window_pattern"]
        kinds = ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention"
                 for i in range(config["num_hidden_layers"])]  # fmt: skip
    if not width and "sliding_attention" in kinds:
        raise PretrainedError(f"layers of sliding_attention and sliding_window={width!r}: give the window's width")
    return windows_of(kinds, width)


def to_config(model: Gemma) -> dict[str, Any]:
    kind = _kind(model)
    causal, _, labelled = architectures(kind)
    shared, head = model.sizes()
    name = activation_name(model.activation)
    config = {
        "architectures": [labelled if model.labels else causal],
        "model_type": kind,
        "vocab_size": model.vocab,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "num_key_value_heads": shared,
        "head_dim": head,
        "max_position_embeddings": model.positions,
        "rms_norm_eps": model.epsilon,
        "rope_theta": model.rotary_base,
        "rope_scaling": scaling_of(model),
        "attention_bias": model.attention_bias,
        "tie_word_embeddings": model.tied,
        **label_names(model.labels),
    }
    if kind == "gemma":
        return {**config, "hidden_act": "gelu_python" if name == "gelu" else name}
    each = model.window if isinstance(model.window, tuple) else (model.window,) * model.layers
    config |= {
        "hidden_activation": name,
        "query_pre_attn_scalar": model.query_scale or head,
        "attn_logit_softcapping": model.attention_cap,
        "final_logit_softcapping": model.logit_cap,
        "sliding_window": max(each) or model.positions,
        "layer_types": ["sliding_attention" if width else "full_attention" for width in each],
    }
    return config if kind == "gemma2" else {**config, "rope_local_base_freq": model.window_base or model.rotary_base}


def _kind(model: Gemma) -> str:
    """The family whose options the model uses."""
    widths = set(model.window) if isinstance(model.window, tuple) else {model.window}
    caps = model.attention_cap, model.logit_cap
    if not (model.post_norms or model.query_key_norm or model.window_base) and widths == {0} and caps == (None, None):
        if model.query_scale in (None, model.sizes()[1]):
            return "gemma"
    if len(widths - {0}) <= 1 and model.post_norms:
        if not (model.query_key_norm or model.window_base):
            return "gemma2"
        unstretched = model.window_base or not model.rotary_scaling
        if model.query_key_norm and model.attention_cap is None and unstretched:
            return "gemma3_text"
    raise PretrainedError(f"no published family has the options of {model} together: jann.save(folder, ...) keeps it")


def table(model: Gemma, names: Sequence[str]) -> Table:
    return llama.table(model, names, FOUR_NORMS if model.post_norms else NORMS)
