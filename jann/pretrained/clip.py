"""CLIP's published weights."""

from collections.abc import Sequence

from jann.models.clip import CLIP
from jann.pretrained.bert import dense, heads_apart, heads_together, norm
from jann.pretrained.hub import PretrainedError, activation, activation_name, architecture
from jann.pretrained.tables import Table

MODEL = CLIP
IGNORED = r"position_ids$"  # a constant, in old files
HIGHEST = 2  # an end_token_id that old configurations have by mistake: it says that the highest id ends a text


def from_config(config: dict, names: Sequence[str] = ()) -> CLIP:
    architecture(config, "CLIPModel")
    text, image = (
        {**(config.get(f"{side}_config") or {}), **(config.get(f"{side}_config_dict") or {})}
        for side in ("text", "vision")
    )
    for name, default in (("hidden_act", "quick_gelu"), ("layer_norm_eps", 1e-5)):
        both = text.get(name, default), image.get(name, default)
        if both[0] != both[1]:
            raise PretrainedError(f"clip with {name} {both[0]!r} of texts and {both[1]!r} of images is not supported")
    end = text.get("eos_token_id", 49_407)
    return CLIP(
        size=image.get("image_size", 224),
        patch=image.get("patch_size", 32),
        channels=image.get("num_channels", 3),
        image_embed=image.get("hidden_size", 768),
        image_layers=image.get("num_hidden_layers", 12),
        image_heads=image.get("num_attention_heads", 12),
        image_hidden=image.get("intermediate_size", 3072),
        vocab=text.get("vocab_size", 49_408),
        positions=text.get("max_position_embeddings", 77),
        text_embed=text.get("hidden_size", 512),
        text_layers=text.get("num_hidden_layers", 12),
        text_heads=text.get("num_attention_heads", 8),
        text_hidden=text.get("intermediate_size", 2048),
        shared=config.get("projection_dim", 512),
        end_token=None if end == HIGHEST else end,
        activation=activation(text.get("hidden_act", "quick_gelu")),
        epsilon=text.get("layer_norm_eps", 1e-5),
    )


def to_config(model: CLIP) -> dict:
    both = {"hidden_act": activation_name(model.activation), "layer_norm_eps": model.epsilon}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": model.shared,
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": model.vocab,
            "max_position_embeddings": model.positions,
            "hidden_size": model.text_embed,
            "num_hidden_layers": model.text_layers,
            "num_attention_heads": model.text_heads,
            "intermediate_size": model.text_hidden,
            "projection_dim": model.shared,
            "eos_token_id": HIGHEST if model.end_token is None else model.end_token,
            **both,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": model.size,
            "patch_size": model.patch,
            "num_channels": model.channels,
            "hidden_size": model.image_embed,
            "num_hidden_layers": model.image_layers,
            "num_attention_heads": model.image_heads,
            "intermediate_size": model.image_hidden,
            "projection_dim": model.shared,
            **both,
        },
    }


def table(model: CLIP, names: Sequence[str]) -> Table:
    block = (
        *norm("layer_norm1", "attention_norm"),
        *(row for name in ("query", "key", "value") for row in heads_apart(f"self_attn.{name[0]}_proj", name)),
        *heads_together("self_attn.out_proj", "attention_out"),
        *norm("layer_norm2", "mlp_norm"),
        *dense("mlp.fc1", "mlp_in"),
        *dense("mlp.fc2", "mlp_out"),
    )
    sides = (("text_model", "text"), ("vision_model", "image"))
    image, text = "vision_model.embeddings", "text_model.embeddings"
    return (
        (f"{image}.class_embedding", "image/first", None),
        (f"{image}.patch_embedding.weight", "image/patches/weight", (2, 3, 1, 0)),
        (f"{image}.position_embedding.weight", "image/positions", None),
        *norm("vision_model.pre_layrnorm", "image/first_norm"),  # spelt so
        *norm("vision_model.post_layernorm", "image/norm"),
        (f"{text}.token_embedding.weight", "text/tokens/table", None),
        (f"{text}.position_embedding.weight", "text/positions/table", None),
        *norm("text_model.final_layer_norm", "text/norm"),
        *((f"{theirs}.encoder.layers.*.{name}", f"{ours}/blocks/*/{path}", axes)
          for theirs, ours in sides for name, path, axes in block),
        ("visual_projection.weight", "image/shared/weight", (1, 0)),
        ("text_projection.weight", "text/shared/weight", (1, 0)),
        ("logit_scale", "scale", None),
    )  # fmt: skip
