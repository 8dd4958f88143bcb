"""Published weights of Llama, Mistral, Qwen 2 and Qwen 3, and the mixtures of experts Mixtral and Qwen 3 MoE."""

from collections.abc import Sequence

from jann.core import Model
from jann.layers.rotary import scaling_options
from jann.models.llama import Llama
from jann.pretrained.hub import (
    CONFIG,
    PretrainedError,
    activation,
    activation_name,
    architecture,
    label_names,
    labels_of,
    lack,
    refuse,
)
from jann.pretrained.tables import Table

MODEL = Llama
IGNORED = r"rotary_emb\.inv_freq$"

NAMES = {
    "llama": "Llama", "mistral": "Mistral", "mixtral": "Mixtral", "qwen2": "Qwen2", "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
}  # fmt: skip
LABELS = "ForSequenceClassification"
UNIT = ("gate", "up", "down")
NORMS = ("input_layernorm", "attention_norm"), ("post_attention_layernorm", "mlp_norm")

# Where a configuration leaves an option out, its family's default counts.
SIZES = {"vocab_size": 32_000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
QWEN = {**SIZES, "vocab_size": 151_936, "intermediate_size": 22_016, "max_position_embeddings": 32_768,
        "sliding_window": 4096, "max_window_layers": 28, "num_key_value_heads": 32}  # fmt: skip
DEFAULTS = {
    "llama": {**SIZES, "intermediate_size": 11_008, "max_position_embeddings": 2048},
    "mistral": {**SIZES, "intermediate_size": 14_336, "max_position_embeddings": 131_072, "sliding_window": 4096,
                "num_key_value_heads": 8},
    "mixtral": {**SIZES, "intermediate_size": 14_336, "max_position_embeddings": 131_072, "num_key_value_heads": 8,
                "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_experts_per_tok": 2, "num_local_experts": 8},
    "qwen2": QWEN,
    "qwen3": {**QWEN, "head_dim": 128},
    "qwen3_moe": {**QWEN, "hidden_size": 2048, "num_hidden_layers": 24, "num_key_value_heads": 4,
                  "moe_intermediate_size": 768, "num_experts_per_tok": 8, "norm_topk_prob": False},
}  # fmt: skip
EXPERTS = ("num_experts", "num_local_experts")  # either says how many
MIXTURES = {  # what their routers, their experts and the products of those are called
    "mixtral": ("block_sparse_moe.gate", "block_sparse_moe.experts", ("w1", "w3", "w2")),
    "qwen3_moe": ("mlp.gate", "mlp.experts", ("gate_proj", "up_proj", "down_proj")),
}


def from_config(config: dict, names: Sequence[str] = ()) -> Llama:
    """names: of the tensors, where they are known, for a bare decoder may lack its head: then it counts as tied"""
    kind = config["model_type"]
    bare, labelled = f"{NAMES[kind]}Model", f"{NAMES[kind]}{LABELS}"
    name = architecture(config, f"{NAMES[kind]}ForCausalLM", bare, labelled)
    config = {**DEFAULTS[kind], **config}
    refuse(config, pretraining_tp=1, decoder_sparse_step=1, mlp_only_layers=[])
    experts = next((config[name] for name in EXPERTS if config.get(name)), 128) if kind in MIXTURES else 0
    layers, positions = config["num_hidden_layers"], config["max_position_embeddings"]
    base, scaling = rotary(config, positions)
    biased = config.get("attention_bias", False) if kind in ("llama", "qwen3", "qwen3_moe") else False
    return Llama(
        vocab=config["vocab_size"],
        embed=config["hidden_size"],
        layers=layers,
        heads=config["num_attention_heads"],
        hidden=config["moe_intermediate_size" if kind == "qwen3_moe" else "intermediate_size"],
        key_value_heads=config.get("num_key_value_heads"),
        head=config.get("head_dim"),
        positions=positions,
        activation=activation(config.get("hidden_act", "silu")),
        epsilon=config.get("rms_norm_eps", 1e-6),
        rotary_base=base,
        rotary_scaling=scaling,
        window=windows(config, kind, layers),
        query_key_norm=kind.startswith("qwen3"),
        qkv_bias=biased or kind == "qwen2",
        out_bias=biased,
        mlp_bias=config.get("mlp_bias", False),
        tied=config.get("tie_word_embeddings", False) or (name == bare and lack(names, "lm_head")),
        labels=labels_of(config) if name == labelled else 0,
        experts=experts,
        chosen=config["num_experts_per_tok"] if experts else 2,
        chosen_sum_to_one=config.get("norm_topk_prob", True),
    )


def rotary(config: dict, positions: int) -> tuple[float, tuple]:
    """-> (base, scaling), from either spelling: `rope_theta` with `rope_scaling`, or `rope_parameters`.

    As in transformers the older one counts where both are there, as does `original_max_position_embeddings` beside it.
    """
    options = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    base = options.pop("rope_theta", config.get("rope_theta", 10_000.0))
    kind = options.pop("rope_type", options.pop("type", "default"))
    options.pop("type", None)
    if options.pop("partial_rotary_factor", 1.0) != 1.0:
        raise PretrainedError("partial_rotary_factor other than 1 is not supported by this family")
    original = options.pop("original_max_position_embeddings", None)
    if kind in ("llama3", "yarn", "longrope"):
        options["original"] = config.get("original_max_position_embeddings") or original or positions
    if kind == "dynamic":
        options["original"] = positions  # whatever the configuration says
    if kind == "yarn" and "truncate" in options:
        options["truncate"] = bool(options["truncate"])  # null is no
    if kind in ("yarn", "longrope") and options.get("factor") is None:
        options["factor"] = positions / options["original"]
    lists = ((name, tuple(value) if isinstance(value, list) else value) for name, value in options.items())
    try:
        kind, options = scaling_options((("type", kind), *lists))
    except ValueError as error:
        raise PretrainedError(f"{error} (rope_scaling or rope_parameters of {CONFIG})") from None
    return float(base), () if kind == "default" else (("type", kind), *sorted(options.items()))


def windows(config: dict, kind: str, layers: int) -> int | tuple[int, ...]:
    """How many positions each layer sees; 0 is all. As in transformers' AutoModel, a Mistral's kinds count."""
    width = config.get("sliding_window") or 0
    kinds = config.get("layer_types")
    if kind.startswith("qwen") and not config.get("use_sliding_window", False):
        width = 0
    elif kinds is None and kind in ("qwen2", "qwen3"):
        kinds = ["sliding_attention" if i >= config["max_window_layers"] else "full_attention" for i in range(layers)]
    if kind == "llama" or not width:
        return 0
    return width if kinds is None or kind in MIXTURES else windows_of(kinds, width)


def windows_of(kinds: Sequence[str], width: int) -> int | tuple[int, ...]:
    """The window of each layer by its kind; one number where they are equal.

    Raises PretrainedError for a kind that jann does not know.
    """
    unknown = set(kinds) - {"sliding_attention", "full_attention"}
    if unknown:
        raise PretrainedError(f"layer_types {', '.join(sorted(unknown))} is not one that jann knows")
    each = tuple(width if kind == "sliding_attention" else 0 for kind in kinds)
    return each[0] if len(set(each)) == 1 else each


def to_config(model: Llama) -> dict:
    kind = _kind(model)
    shared, head = model.sizes()
    config = {
        "architectures": [NAMES[kind] + (LABELS if model.labels else "ForCausalLM")],
        "model_type": kind,
        "vocab_size": model.vocab,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "num_key_value_heads": shared,
        "head_dim": head,
        "max_position_embeddings": model.positions,
        "hidden_act": activation_name(model.activation),
        "rms_norm_eps": model.epsilon,
        "rope_theta": model.rotary_base,
        "rope_scaling": scaling_of(model),
        "attention_bias": model.out_bias,
        "mlp_bias": model.mlp_bias,
        "tie_word_embeddings": model.tied,
        **label_names(model.labels),
    }
    if model.experts:
        config |= {"num_experts_per_tok": model.chosen, EXPERTS[kind == "mixtral"]: model.experts}
    if kind == "qwen3_moe":
        config |= {"moe_intermediate_size": model.hidden, "norm_topk_prob": model.chosen_sum_to_one}
    each = model.window if isinstance(model.window, tuple) else (model.window,) * model.layers
    if len(set(each) - {0}) > 1:
        raise PretrainedError(
            f"window={model.window}: published configurations have one width besides 0; jann.save(folder, ...) keeps it"
        )
    config["sliding_window"] = max(each) or None
    if kind.startswith("qwen"):
        config["use_sliding_window"] = max(each) > 0
    if len(set(each)) > 1 or (kind in ("qwen2", "qwen3") and max(each)):
        config["layer_types"] = ["sliding_attention" if width else "full_attention" for width in each]
        config["max_window_layers"] = next((i for i, width in enumerate(each) if width), model.layers)
    return config


def scaling_of(model: Model) -> dict | None:
    """What a configuration says of a model's `rotary_scaling`."""
    kind, scaling = scaling_options(model.rotary_scaling)
    if kind == "dynamic" and scaling["original"] != model.positions:
        raise PretrainedError(
            f"rotary_scaling 'dynamic' with original={scaling['original']}, positions={model.positions}: published "
            f"configurations have one number for both, so give the model positions={scaling['original']}; logits stay"
        )
    if "original" in scaling:
        scaling["original_max_position_embeddings"] = scaling.pop("original")
    return {**scaling, "rope_type": kind} if scaling else None


def _kind(model: Llama) -> str:
    """The family whose options the model uses."""
    each = set(model.window) if isinstance(model.window, tuple) else {model.window}
    if model.experts:
        if len(each) == 1 and model.qkv_bias == model.out_bias and not model.mlp_bias:
            if model.query_key_norm:
                return "qwen3_moe"
            if model.chosen_sum_to_one and not model.qkv_bias:
                return "mixtral"
    elif model.query_key_norm and model.qkv_bias == model.out_bias and not model.mlp_bias:
        return "qwen3"
    elif not model.query_key_norm and model.qkv_bias and not model.out_bias and not model.mlp_bias:
        return "qwen2"
    elif not model.query_key_norm and model.qkv_bias == model.out_bias and each == {0}:
        return "llama"
    elif not (model.query_key_norm or model.qkv_bias or model.out_bias or model.mlp_bias) and 0 not in each:
        return "mistral"
    raise PretrainedError(f"no published family has the options of {model} together: jann.save(folder, ...) keeps it")


def copies(model: Model) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    return {"lm_head.weight": "tokens/table"} if model.tied and not model.labels else {}


def table(model: Model, names: Sequence[str], norms: Sequence[tuple[str, str]] = NORMS) -> Table:
    """Files of the bare decoder lack the prefix.

    norms:  of a block, by their names and ours
    """
    bare = bool(names) and not any(name.startswith("model.") for name in names)
    prefix = "" if bare else "model."
    split, merged = "(heads head) embed -> embed heads head", "embed (heads head) -> heads head embed"
    block = (
        *((f"{theirs}.weight", f"{ours}/scale", None) for theirs, ours in norms),
        *((f"self_attn.{name[0]}_proj.weight", f"{name}/weight", split) for name in ("query", "key", "value")),
        *((f"self_attn.{name[0]}_proj.bias", f"{name}/bias", "(heads head) -> heads head")
          for name in ("query", "key", "value")),
        ("self_attn.q_norm.weight", "query_norm/scale", None),
        ("self_attn.k_norm.weight", "key_norm/scale", None),
        ("self_attn.o_proj.weight", "attention_out/weight", merged),
        ("self_attn.o_proj.bias", "attention_out/bias", None),
        *((f"mlp.{name}_proj.weight", f"{name}/weight", (1, 0)) for name in UNIT),
        *((f"mlp.{name}_proj.bias", f"{name}/bias", None) for name in UNIT),
    )  # fmt: skip
    if isinstance(model, Llama) and model.experts:
        router, experts, own = MIXTURES[_kind(model)]
        block += ((f"{router}.weight", "router/weight", (1, 0)),)
        block += tuple(
            (f"{experts}.*.{theirs}.weight", f"experts/*/{ours}/weight", (1, 0))
            for theirs, ours in zip(own, UNIT, strict=True)
        )
    return (
        (f"{prefix}embed_tokens.weight", "tokens/table", None),
        *((f"{prefix}layers.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        (f"{prefix}norm.weight", "norm/scale", None),
        ("score.weight" if model.labels else "lm_head.weight", "head/weight", (1, 0)),
    )
