"""T5's published weights, of versions 1.0 and 1.1."""

from collections.abc import Sequence

from jann.models.t5 import T5
from jann.pretrained.hub import PretrainedError, activation, activation_name, architecture, respelt
from jann.pretrained.tables import Table

MODEL, ENCODER = T5, "T5EncoderModel"
IGNORED = r"^(encoder|decoder)\.embed_tokens\.weight$"  # copies of the shared table


def from_config(config: dict, names: Sequence[str] = ()) -> T5:
    name = architecture(config, "T5ForConditionalGeneration", "T5WithLMHeadModel", ENCODER)
    *gated, units = config.get("feed_forward_proj", "relu").split("-")
    if gated not in ([], ["gated"]):
        raise PretrainedError(f"feed_forward_proj={config['feed_forward_proj']!r} is not an activation or gated-one")
    if gated and units == "gelu":
        units = "gelu_new"  # so it was meant, before the two had names
    units, gated = config.get("dense_act_fn") or units, config.get("is_gated_act", bool(gated))  # these count for more
    config = respelt(
        config, hidden_size="d_model", num_hidden_layers="num_layers", num_attention_heads="num_heads", head_dim="d_kv"
    )
    layers, tied = config.get("num_layers", 6), config.get("tie_word_embeddings", True)
    scaled = config.get("scale_decoder_outputs", tied)
    return T5(
        vocab=config.get("vocab_size", 32128),
        embed=config.get("d_model", 512),
        layers=layers,
        heads=config.get("num_heads", 8),
        head=config.get("d_kv", 64),
        hidden=config.get("d_ff", 2048),
        decoder_layers=0 if name == ENCODER else config.get("num_decoder_layers") or layers,
        activation=activation(units),
        gated=gated,
        buckets=config.get("relative_attention_num_buckets", 32),
        furthest=config.get("relative_attention_max_distance", 128),
        epsilon=config.get("layer_norm_epsilon", 1e-6),
        tied=tied,
        scaled=None if scaled == tied else scaled,
        begin_token=config.get("decoder_start_token_id", config.get("pad_token_id", 0)) or 0,
    )


def to_config(model: T5) -> dict:
    units = activation_name(model.activation)
    if model.gated:
        units = "gated-" + {"gelu_new": "gelu", "gelu": "gelu_python"}.get(units, units)
    return {
        "architectures": ["T5ForConditionalGeneration" if model.writers else ENCODER],
        "model_type": "t5",
        "vocab_size": model.vocab,
        "d_model": model.embed,
        "num_layers": model.layers,
        "num_decoder_layers": model.writers or model.layers,
        "num_heads": model.heads,
        "d_kv": model.head,
        "d_ff": model.hidden,
        "feed_forward_proj": units,
        "relative_attention_num_buckets": model.buckets,
        "relative_attention_max_distance": model.furthest,
        "layer_norm_epsilon": model.epsilon,
        "tie_word_embeddings": model.tied,
        "scale_decoder_outputs": model.tied if model.scaled is None else model.scaled,
        "decoder_start_token_id": model.begin_token,
        "pad_token_id": model.begin_token,
        "is_encoder_decoder": bool(model.writers),
    }


def copies(model: T5) -> dict[str, str]:
    """Their names of what is one with a parameter of ours -> its path."""
    decoder = ("decoder.embed_tokens", *(("lm_head",) if model.tied else ())) if model.writers else ()
    names = ("encoder.embed_tokens", *decoder)
    return {f"{name}.weight": "tokens/table" for name in names}


def table(model: T5, names: Sequence[str]) -> Table:
    up = "DenseReluDense.wi_1.weight" if model.gated else "DenseReluDense.wi.weight"

    def attention(place, theirs, ours):
        split, merged = "(heads head) embed -> embed heads head", "embed (heads head) -> heads head embed"
        return (
            *((f"layer.{place}.{theirs}.{name[0]}.weight", f"{ours}_{name}/weight", split)
              for name in ("query", "key", "value")),
            (f"layer.{place}.{theirs}.o.weight", f"{ours}_out/weight", merged),
            (f"layer.{place}.layer_norm.weight", f"{ours}_norm/scale", None),
        )  # fmt: skip

    def mlp(place):
        return (
            (f"layer.{place}.DenseReluDense.wi_0.weight", "gate/weight", (1, 0)),
            (f"layer.{place}.{up}", "up/weight", (1, 0)),
            (f"layer.{place}.DenseReluDense.wo.weight", "down/weight", (1, 0)),
            (f"layer.{place}.layer_norm.weight", "mlp_norm/scale", None),
        )

    encoder = (*attention(0, "SelfAttention", "self"), *mlp(1))
    decoder = (*attention(0, "SelfAttention", "self"), *attention(1, "EncDecAttention", "cross"), *mlp(2))
    first = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return (
        ("shared.weight", "tokens/table", None),
        *((f"{side}.{first}", f"{side}/relative/table", None) for side in ("encoder", "decoder")),
        *((f"encoder.block.*.{theirs}", f"encoder/blocks/*/{ours}", axes) for theirs, ours, axes in encoder),
        *((f"decoder.block.*.{theirs}", f"decoder/blocks/*/{ours}", axes) for theirs, ours, axes in decoder),
        *((f"{side}.final_layer_norm.weight", f"{side}/norm/scale", None) for side in ("encoder", "decoder")),
        ("lm_head.weight", "head/weight", (1, 0)),
    )
