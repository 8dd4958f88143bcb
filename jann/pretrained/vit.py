"""The Vision Transformer's published weights."""

from collections.abc import Sequence

from jann.models.vit import ViT
from jann.pretrained.bert import dense, norm
from jann.pretrained.hub import activation, activation_name, architecture, label_names, labels_of, lack, refuse
from jann.pretrained.tables import Table

MODEL = ViT
IGNORED = "(?!)"


def from_config(config: dict, names: Sequence[str] = ()) -> ViT:
    """names: of the tensors, where they are known, for a bare encoder may lack its pooler"""
    embed = config.get("hidden_size", 768)
    bare = architecture(config, "ViTModel", "ViTForImageClassification") == "ViTModel"
    pooler = bare and not lack(names, "pooler.dense")
    if pooler:
        refuse({"pooler_output_size": embed, **config}, pooler_output_size=embed, pooler_act="tanh")
    return ViT(
        size=_pixels(config.get("image_size", 224)),
        patch=_pixels(config.get("patch_size", 16)),
        channels=config.get("num_channels", 3),
        embed=embed,
        layers=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        hidden=config.get("intermediate_size", 3072),
        outputs=0 if bare else labels_of(config),
        qkv_bias=config.get("qkv_bias", True),
        pooler=pooler,
        activation=activation(config.get("hidden_act", "gelu")),
        epsilon=config.get("layer_norm_eps", 1e-12),
    )


def _pixels(size: int | list[int]) -> int | tuple[int, int]:
    """One number for a square, [height, width] otherwise"""
    return size if isinstance(size, int) else size[0] if size[0] == size[1] else tuple(size)


def to_config(model: ViT) -> dict:
    return {
        "architectures": ["ViTForImageClassification" if model.outputs else "ViTModel"],
        "model_type": "vit",
        "image_size": model.size,
        "patch_size": model.patch,
        "num_channels": model.channels,
        "hidden_size": model.embed,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "qkv_bias": model.qkv_bias,
        "hidden_act": activation_name(model.activation),
        "layer_norm_eps": model.epsilon,
        **label_names(model.outputs),
    }


def modules(model: ViT) -> tuple[str, ...]:
    """How names of modules begin in transformers 5, and in adapters: otherwise than those of tensors in files."""
    return ("vit.layers.",) if model.outputs else ("layers.",)


def table(model: ViT, names: Sequence[str]) -> Table:
    """Files of the bare encoder lack the prefix; see `modules` for the second spelling."""
    bare = not any(name.startswith("vit.") for name in names) if names else not model.outputs
    prefix = "" if bare else "vit."
    if any(name.startswith(("vit.layers.", "layers.")) for name in names):
        layers, qkv = "layers", {name: f"attention.{name[0]}_proj" for name in ("query", "key", "value")}
        attention_out, mlp_in, mlp_out = "attention.o_proj", "mlp.fc1", "mlp.fc2"
    else:
        layers, qkv = "encoder.layer", {name: f"attention.attention.{name}" for name in ("query", "key", "value")}
        attention_out, mlp_in, mlp_out = "attention.output.dense", "intermediate.dense", "output.dense"
    block = (
        *norm("layernorm_before", "attention_norm"),
        *((f"{theirs}.weight", f"{ours}/weight", "(heads head) embed -> embed heads head")
          for ours, theirs in qkv.items()),
        *((f"{theirs}.bias", f"{ours}/bias", "(heads head) -> heads head") for ours, theirs in qkv.items()),
        (f"{attention_out}.weight", "attention_out/weight", "embed (heads head) -> heads head embed"),
        (f"{attention_out}.bias", "attention_out/bias", None),
        *norm("layernorm_after", "mlp_norm"),
        *dense(mlp_in, "mlp_in"),
        *dense(mlp_out, "mlp_out"),
    )  # fmt: skip
    return (
        (f"{prefix}embeddings.cls_token", "first", "1 1 embed -> embed"),
        (f"{prefix}embeddings.position_embeddings", "positions", "1 places embed -> places embed"),
        (f"{prefix}embeddings.patch_embeddings.projection.weight", "patches/weight", (2, 3, 1, 0)),
        (f"{prefix}embeddings.patch_embeddings.projection.bias", "patches/bias", None),
        *((f"{prefix}{layers}.*.{theirs}", f"blocks/*/{ours}", axes) for theirs, ours, axes in block),
        *norm(f"{prefix}layernorm", "norm"),
        *dense(f"{prefix}pooler.dense", "pooler"),
        *dense("classifier", "head"),
    )
