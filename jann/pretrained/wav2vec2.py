"""Published weights of wav2vec 2.0."""

from collections.abc import Sequence

from jann.models.wav2vec2 import Wav2Vec2
from jann.pretrained.bert import dense, heads_apart, heads_together, norm
from jann.pretrained.hub import PretrainedError, activation, activation_name, architecture, lack, refuse
from jann.pretrained.tables import Table

MODEL = Wav2Vec2
IGNORED = "(?!)"
HEADED, BARE = "Wav2Vec2ForCTC", ("Wav2Vec2Model", "Wav2Vec2ForPreTraining")


def from_config(config: dict, names: Sequence[str] = ()) -> Wav2Vec2:
    """names: of the tensors, where they are known, for a vector for masked frames may be missing"""
    bare = architecture(config, HEADED, *BARE) in BARE
    refuse(config, add_adapter=False, adapter_attn_dim=None)
    kind = config.get("feat_extract_norm", "group")
    if kind not in ("group", "layer"):
        raise PretrainedError(f"wav2vec2 with feat_extract_norm={kind!r} is not supported, only 'group' and 'layer'")
    channels, windows, strides = (
        tuple(config.get(name, default)) for name, default in (
            ("conv_dim", Wav2Vec2.channels), ("conv_kernel", Wav2Vec2.windows), ("conv_stride", Wav2Vec2.strides),
        )
    )  # fmt: skip
    if not len(channels) == len(windows) == len(strides) > 0:
        raise PretrainedError(f"wav2vec2 with {len(channels)} conv_dim, {len(windows)} conv_kernel and {len(strides)} "
                              "conv_stride: there is one of each for every convolution")  # fmt: skip
    hides = config.get("mask_time_prob", 0.05) > 0 or config.get("mask_feature_prob", 0.0) > 0
    return Wav2Vec2(
        vocab=0 if bare else config.get("vocab_size", 32),
        channels=channels,
        windows=windows,
        strides=strides,
        conv_bias=config.get("conv_bias", False),
        conv_norm=kind,
        conv_activation=activation(config.get("feat_extract_activation", "gelu")),
        embed=config.get("hidden_size", 768),
        layers=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        hidden=config.get("intermediate_size", 3072),
        position_window=config.get("num_conv_pos_embeddings", 128),
        position_groups=config.get("num_conv_pos_embedding_groups", 16),
        norm_first=config.get("do_stable_layer_norm", False),
        activation=activation(config.get("hidden_act", "gelu")),
        epsilon=config.get("layer_norm_eps", 1e-5),
        mask_token=hides and not lack(names, "masked_spec_embed"),
        blank=config.get("pad_token_id") or 0,
    )


def to_config(model: Wav2Vec2) -> dict:
    return {
        "architectures": [HEADED if model.vocab else BARE[0]],
        "model_type": "wav2vec2",
        **({"vocab_size": model.vocab} if model.vocab else {}),
        "conv_dim": list(model.channels),
        "conv_kernel": list(model.windows),
        "conv_stride": list(model.strides),
        "conv_bias": model.conv_bias,
        "feat_extract_norm": model.conv_norm,
        "feat_extract_activation": activation_name(model.conv_activation),
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "num_conv_pos_embeddings": model.position_window,
        "num_conv_pos_embedding_groups": model.position_groups,
        "do_stable_layer_norm": model.norm_first,
        "hidden_act": activation_name(model.activation),
        "layer_norm_eps": model.epsilon,
        "mask_time_prob": 0.05 if model.mask_token else 0.0,
        "pad_token_id": model.blank,
    }


def table(model: Wav2Vec2, names: Sequence[str]) -> Table:
    """Files of the bare encoder lack the prefix; older files spell the two parts of the positions' kernel otherwise."""
    bare = not any(name.startswith("wav2vec2.") for name in names) if names else not model.vocab
    prefix = "" if bare else "wav2vec2."
    convs, positions = f"{prefix}feature_extractor.conv_layers.*", f"{prefix}encoder.pos_conv_embed.conv"
    old = any(name.endswith("pos_conv_embed.conv.weight_g") for name in names)
    scale, direction = (
        ("weight_g", "weight_v") if old else ("parametrizations.weight.original0", "parametrizations.weight.original1")
    )
    block = (
        *(row for name in ("query", "key", "value") for row in heads_apart(f"attention.{name[0]}_proj", name)),
        *heads_together("attention.out_proj", "attention_out"),
        *norm("layer_norm", "attention_norm"),
        *dense("feed_forward.intermediate_dense", "mlp_in"),
        *dense("feed_forward.output_dense", "mlp_out"),
        *norm("final_layer_norm", "mlp_norm"),
    )
    return (
        (f"{prefix}masked_spec_embed", "masked", None),
        (f"{convs}.conv.weight", "convs/*/conv/weight", (2, 1, 0)),
        (f"{convs}.conv.bias", "convs/*/conv/bias", None),
        *norm(f"{convs}.layer_norm", "convs/*/norm"),
        *norm(f"{prefix}feature_projection.layer_norm", "convs_norm"),
        *dense(f"{prefix}feature_projection.projection", "frames"),
        (f"{positions}.{scale}", "positions/scale", "1 1 window -> window"),
        (f"{positions}.{direction}", "positions/weight", (2, 1, 0)),
        (f"{positions}.bias", "positions/bias", None),
        *norm(f"{prefix}encoder.layer_norm", "norm"),
        *((f"{prefix}encoder.layers.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        *dense("lm_head", "head"),
    )
