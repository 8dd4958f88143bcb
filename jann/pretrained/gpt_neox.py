"""Published weights of GPT-NeoX and Pythia."""

from collections.abc import Sequence

from jann.models.gpt_neox import GPTNeoX
from jann.pretrained.bert import dense, norm
from jann.pretrained.hub import activation, activation_name, architecture, label_names, labels_of, lack
from jann.pretrained.llama import rotary, scaling_of
from jann.pretrained.tables import Table

MODEL = GPTNeoX
CAUSAL, BARE, LABELS = "GPTNeoXForCausalLM", "GPTNeoXModel", "GPTNeoXForSequenceClassification"
IGNORED = r"attention\.(masked_)?bias$|rotary_emb\.inv_freq$"  # the causal mask and the frequencies, in old files


def from_config(config: dict, names: Sequence[str] = ()) -> GPTNeoX:
    """names: of the tensors, where they are known, for a bare decoder may lack its head: then it counts as tied"""
    name = architecture(config, CAUSAL, BARE, LABELS)
    positions = config.get("max_position_embeddings", 2048)
    options = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    options.setdefault("rope_theta", config.get("rotary_emb_base", 10_000.0))
    share = options.pop("partial_rotary_factor", config.get("rotary_pct", 0.25))
    base, scaling = rotary({**config, "rope_scaling": options}, positions)
    return GPTNeoX(
        vocab=config.get("vocab_size", 50_432),
        embed=config.get("hidden_size", 6144),
        layers=config.get("num_hidden_layers", 44),
        heads=config.get("num_attention_heads", 64),
        hidden=config.get("intermediate_size", 24_576),
        positions=positions,
        activation=activation(config.get("hidden_act", "gelu")),
        epsilon=config.get("layer_norm_eps", 1e-5),
        parallel=config.get("use_parallel_residual", True),
        rotary_share=share,
        rotary_base=base,
        rotary_scaling=scaling,
        attention_bias=config.get("attention_bias", True),
        tied=config.get("tie_word_embeddings", False) or (name == BARE and lack(names, "embed_out")),
        labels=labels_of(config) if name == LABELS else 0,
    )


def to_config(model: GPTNeoX) -> dict:
    return {
        "architectures": [LABELS if model.labels else CAUSAL],
        "model_type": "gpt_neox",
        "vocab_size": model.vocab,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden or 4 * model.embed,
        "max_position_embeddings": model.positions,
        "hidden_act": activation_name(model.activation),
        "layer_norm_eps": model.epsilon,
        "use_parallel_residual": model.parallel,
        "rotary_pct": model.rotary_share,
        "rotary_emb_base": model.rotary_base,
        "rope_scaling": scaling_of(model),
        "attention_bias": model.attention_bias,
        "tie_word_embeddings": model.tied,
        **label_names(model.labels),
    }


def copies(model: GPTNeoX) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    return {"embed_out.weight": "tokens/table"} if model.tied and not model.labels else {}


def table(model: GPTNeoX, names: Sequence[str]) -> Table:
    """Files of the bare decoder lack the prefix."""
    bare = bool(names) and not any(name.startswith("gpt_neox.") for name in names)
    prefix = "" if bare else "gpt_neox."
    block = (
        *norm("input_layernorm", "attention_norm"),
        ("attention.query_key_value.weight", "qkv/weight", "(heads qkv head) embed -> embed qkv heads head"),
        ("attention.query_key_value.bias", "qkv/bias", "(heads qkv head) -> qkv heads head"),
        ("attention.dense.weight", "attention_out/weight", "embed (heads head) -> heads head embed"),
        ("attention.dense.bias", "attention_out/bias", None),
        *norm("post_attention_layernorm", "mlp_norm"),
        *dense("mlp.dense_h_to_4h", "mlp_in"),
        *dense("mlp.dense_4h_to_h", "mlp_out"),
    )
    return (
        (f"{prefix}embed_in.weight", "tokens/table", None),
        *((f"{prefix}layers.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        *norm(f"{prefix}final_layer_norm", "norm"),
        ("score.weight" if model.labels else "embed_out.weight", "head/weight", (1, 0)),
    )
