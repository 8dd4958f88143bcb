"""Published weights of OPT."""

from collections.abc import Sequence

from jann.models.opt import OPT
from jann.pretrained.bert import dense, heads_apart, norm
from jann.pretrained.hub import activation, activation_name, architecture, label_names, labels_of, lack, refuse
from jann.pretrained.tables import Table

MODEL = OPT
CAUSAL, BARE, LABELS = "OPTForCausalLM", "OPTModel", "OPTForSequenceClassification"
IGNORED = r"(?!)"


def from_config(config: dict, names: Sequence[str] = ()) -> OPT:
    """names: of the tensors, where they are known, for a bare decoder may lack its head: then it counts as tied"""
    name = architecture(config, CAUSAL, BARE, LABELS)
    refuse(config, layer_norm_elementwise_affine=True, _remove_final_layer_norm=False)
    embed = config.get("hidden_size", 768)
    table = config.get("word_embed_proj_dim")
    return OPT(
        vocab=config.get("vocab_size", 50_272),
        positions=config.get("max_position_embeddings", 2048),
        embed=embed,
        layers=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        hidden=config.get("ffn_dim", 3072),
        table=None if table == embed else table,
        activation=activation(config.get("activation_function", "relu")),
        norm_first=config.get("do_layer_norm_before", True),
        bias=config.get("enable_bias", True),
        tied=config.get("tie_word_embeddings", True) or (name == BARE and lack(names, "lm_head")),
        labels=labels_of(config) if name == LABELS else 0,
    )


def to_config(model: OPT) -> dict:
    return {
        "architectures": [LABELS if model.labels else CAUSAL],
        "model_type": "opt",
        "vocab_size": model.vocab,
        "max_position_embeddings": model.positions,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "ffn_dim": model.hidden or 4 * model.embed,
        "word_embed_proj_dim": model.table or model.embed,
        "activation_function": activation_name(model.activation),
        "do_layer_norm_before": model.norm_first,
        "enable_bias": model.bias,
        "pad_token_id": min(1, model.vocab - 1),  # which transformers wants within the vocabulary
        "tie_word_embeddings": model.tied,
        **label_names(model.labels),
    }


def copies(model: OPT) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    return {"lm_head.weight": "tokens/table"} if model.tied and not model.labels else {}


def table(model: OPT, names: Sequence[str]) -> Table:
    """Files of the bare decoder lack the prefix."""
    bare = bool(names) and not any(name.startswith("model.") for name in names)
    prefix = "decoder." if bare else "model.decoder."
    block = (
        *heads_apart("self_attn.q_proj", "query"),
        *heads_apart("self_attn.k_proj", "key"),
        *heads_apart("self_attn.v_proj", "value"),
        ("self_attn.out_proj.weight", "attention_out/weight", "embed (heads head) -> heads head embed"),
        ("self_attn.out_proj.bias", "attention_out/bias", None),
        *norm("self_attn_layer_norm", "attention_norm"),
        *dense("fc1", "mlp_in"),
        *dense("fc2", "mlp_out"),
        *norm("final_layer_norm", "mlp_norm"),
    )
    return (
        (f"{prefix}embed_tokens.weight", "tokens/table", None),
        (f"{prefix}embed_positions.weight", "positions/table", None),
        *((f"{prefix}layers.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        *norm(f"{prefix}final_layer_norm", "norm"),
        (f"{prefix}project_in.weight", "in/weight", (1, 0)),
        (f"{prefix}project_out.weight", "out/weight", (1, 0)),
        ("score.weight" if model.labels else "lm_head.weight", "head/weight", (1, 0)),
    )
