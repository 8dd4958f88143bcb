"""GPT-2's published weights."""

from collections.abc import Sequence

from jann.models.gpt2 import GPT2
from jann.pretrained.hub import (
    activation,
    activation_name,
    architecture,
    label_names,
    labels_of,
    lack,
    refuse,
    respelt,
)
from jann.pretrained.tables import Table

MODEL = GPT2
LABELS = "GPT2ForSequenceClassification"
IGNORED = r"\.attn\.(masked_)?bias$"  # the causal mask, in old files


def from_config(config: dict, names: Sequence[str] = ()) -> GPT2:
    """names: of the tensors, where they are known, for a bare decoder may lack its head: then it counts as tied"""
    name = architecture(config, "GPT2LMHeadModel", "GPT2Model", LABELS)
    refuse(config, add_cross_attention=False)
    config = respelt(
        config, max_position_embeddings="n_positions", hidden_size="n_embd", num_hidden_layers="n_layer",
        num_attention_heads="n_head",
    )  # fmt: skip
    return GPT2(
        vocab=config.get("vocab_size", 50257),
        positions=config.get("n_positions", 1024),
        embed=config.get("n_embd", 768),
        layers=config.get("n_layer", 12),
        heads=config.get("n_head", 12),
        hidden=config.get("n_inner"),
        activation=activation(config.get("activation_function", "gelu_new")),
        epsilon=config.get("layer_norm_epsilon", 1e-5),
        tied=config.get("tie_word_embeddings", True) or (name == "GPT2Model" and lack(names, "lm_head")),
        scaled=config.get("scale_attn_weights", True),
        scaled_by_layer=config.get("scale_attn_by_inverse_layer_idx", False),
        labels=labels_of(config) if name == LABELS else 0,
    )


def to_config(model: GPT2) -> dict:
    return {
        "architectures": [LABELS if model.labels else "GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.vocab,
        "n_positions": model.positions,
        "n_embd": model.embed,
        "n_layer": model.layers,
        "n_head": model.heads,
        "n_inner": model.hidden,
        "activation_function": activation_name(model.activation),
        "layer_norm_epsilon": model.epsilon,
        "tie_word_embeddings": model.tied,
        "scale_attn_weights": model.scaled,
        "scale_attn_by_inverse_layer_idx": model.scaled_by_layer,
        **label_names(model.labels),
    }


def copies(model: GPT2) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    return {"lm_head.weight": "tokens/table"} if model.tied and not model.labels else {}


def table(model: GPT2, names: Sequence[str]) -> Table:
    """Files of the bare decoder lack the prefix."""
    bare = bool(names) and not any(name.startswith("transformer.") for name in names)
    prefix = "" if bare else "transformer."
    block = (
        *_both("ln_1", "attention_norm"),
        ("attn.c_attn.weight", "qkv/weight", "embed (qkv heads head) -> embed qkv heads head"),
        ("attn.c_attn.bias", "qkv/bias", "(qkv heads head) -> qkv heads head"),
        ("attn.c_proj.weight", "attention_out/weight", "(heads head) embed -> heads head embed"),
        ("attn.c_proj.bias", "attention_out/bias", None),
        *_both("ln_2", "mlp_norm"),
        ("mlp.c_fc.weight", "mlp_in/weight", None),  # kernels lie as [inputs, outputs] here
        ("mlp.c_fc.bias", "mlp_in/bias", None),
        ("mlp.c_proj.weight", "mlp_out/weight", None),
        ("mlp.c_proj.bias", "mlp_out/bias", None),
    )
    return (
        (f"{prefix}wte.weight", "tokens/table", None),
        (f"{prefix}wpe.weight", "positions/table", None),
        *((f"{prefix}h.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        *_both(f"{prefix}ln_f", "norm"),
        ("score.weight" if model.labels else "lm_head.weight", "head/weight", (1, 0)),
    )


def _both(theirs: str, ours: str) -> Table:
    return ((f"{theirs}.weight", f"{ours}/scale", None), (f"{theirs}.bias", f"{ours}/bias", None))
