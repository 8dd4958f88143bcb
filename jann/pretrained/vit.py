"""Published weights of the Vision Transformer and of DINOv2."""

from collections.abc import Sequence

from jann.models.vit import ViT
from jann.pretrained.bert import dense, norm
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
from jann.pretrained.tables import Table

MODEL = ViT
IGNORED = "(?!)"


def from_config(config: dict, names: Sequence[str] = ()) -> ViT:
    """names: of the tensors, where they are known, for a bare encoder may lack its pooler"""
    scaled = config["model_type"] == "dinov2"
    kind, embed = ("Dinov2" if scaled else "ViT"), config.get("hidden_size", 768)
    bare = architecture(config, f"{kind}Model", f"{kind}ForImageClassification") == f"{kind}Model"
    pooler = bare and not scaled and not lack(names, "pooler.dense")
    if pooler:
        refuse({"pooler_output_size": embed, **config}, pooler_output_size=embed, pooler_act="tanh")
    refuse(config, use_swiglu_ffn=False)
    return ViT(
        size=_pixels(config.get("image_size", 224)),
        patch=_pixels(config.get("patch_size", 14 if scaled else 16)),
        channels=config.get("num_channels", 3),
        embed=embed,
        layers=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        hidden=int(embed * config.get("mlp_ratio", 4)) if scaled else config.get("intermediate_size", 3072),
        outputs=0 if bare else labels_of(config),
        qkv_bias=config.get("qkv_bias", True),
        pooler=pooler,
        activation=activation(config.get("hidden_act", "gelu")),
        epsilon=config.get("layer_norm_eps", 1e-6 if scaled else 1e-12),
        layer_scale=scaled,
        mean_too=scaled and not bare,
        mask_token=scaled and config.get("use_mask_token", True) and not lack(names, "mask_token"),
    )


def _pixels(size: int | list[int]) -> int | tuple[int, int]:
    """One number for a square, [height, width] otherwise"""
    return size if isinstance(size, int) else size[0] if size[0] == size[1] else tuple(size)


def to_config(model: ViT) -> dict:
    scaled, wide = model.layer_scale, model.hidden // model.embed
    if scaled:
        own = {"mlp_ratio": wide, "use_mask_token": model.mask_token}
        published = not model.pooler and model.hidden == wide * model.embed
    else:
        own = {"intermediate_size": model.hidden}
        published = not model.mask_token
    if not published or (model.outputs and model.mean_too != scaled):
        raise PretrainedError(
            f"no published family has the options of {model} together: jann.save(folder, ...) keeps it"
        )
    kind = "Dinov2" if scaled else "ViT"
    return {
        "architectures": [f"{kind}ForImageClassification" if model.outputs else f"{kind}Model"],
        "model_type": kind.lower(),
        "image_size": model.size,
        "patch_size": model.patch,
        "num_channels": model.channels,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        **own,
        "qkv_bias": model.qkv_bias,
        "hidden_act": activation_name(model.activation),
        "layer_norm_eps": model.epsilon,
        **label_names(model.outputs),
    }


def modules(model: ViT) -> tuple[str, ...]:
    """How names of modules begin in transformers 5, and in adapters: otherwise than those of tensors in files."""
    if model.layer_scale:
        return ("dinov2.encoder.layer.0.attention.q_proj",) if model.outputs else ("encoder.layer.0.attention.q_proj",)
    return ("vit.layers.",) if model.outputs else ("layers.",)


def table(model: ViT, names: Sequence[str]) -> Table:
    """Files of the bare encoder lack the prefix; see `modules` for the second spelling."""
    kind = "dinov2" if model.layer_scale else "vit"
    bare = not any(name.startswith(f"{kind}.") for name in names) if names else not model.outputs
    prefix = "" if bare else f"{kind}."
    present = any(name.startswith(("vit.layers.", "layers.")) or ".attention.q_proj" in name for name in names)
    if present:
        qkv = {name: f"attention.{name[0]}_proj" for name in ("query", "key", "value")}
        attention_out, mlp_in, mlp_out = "attention.o_proj", "mlp.fc1", "mlp.fc2"
    else:
        qkv = {name: f"attention.attention.{name}" for name in ("query", "key", "value")}
        attention_out, mlp_in, mlp_out = "attention.output.dense", "intermediate.dense", "output.dense"
    layers, norms = ("layers" if present else "encoder.layer"), ("layernorm_before", "layernorm_after")
    if model.layer_scale:
        layers, norms, mlp_in, mlp_out = "encoder.layer", ("norm1", "norm2"), "mlp.fc1", "mlp.fc2"
    block = (
        *norm(norms[0], "attention_norm"),
        *((f"{theirs}.weight", f"{ours}/weight", "(heads head) embed -> embed heads head")
          for ours, theirs in qkv.items()),
        *((f"{theirs}.bias", f"{ours}/bias", "(heads head) -> heads head") for ours, theirs in qkv.items()),
        (f"{attention_out}.weight", "attention_out/weight", "embed (heads head) -> heads head embed"),
        (f"{attention_out}.bias", "attention_out/bias", None),
        ("layer_scale1.lambda1", "attention_scale", None),
        *norm(norms[1], "mlp_norm"),
        *dense(mlp_in, "mlp_in"),
        *dense(mlp_out, "mlp_out"),
        ("layer_scale2.lambda1", "mlp_scale", None),
    )  # fmt: skip
    return (
        (f"{prefix}embeddings.cls_token", "first", "1 1 embed -> embed"),
        (f"{prefix}embeddings.mask_token", "masked", "1 embed -> embed"),
        (f"{prefix}embeddings.position_embeddings", "positions", "1 places embed -> places embed"),
        (f"{prefix}embeddings.patch_embeddings.projection.weight", "patches/weight", (2, 3, 1, 0)),
        (f"{prefix}embeddings.patch_embeddings.projection.bias", "patches/bias", None),
        *((f"{prefix}{layers}.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        *norm(f"{prefix}layernorm", "norm"),
        *dense(f"{prefix}pooler.dense", "pooler"),
        *dense("classifier", "head"),
    )
