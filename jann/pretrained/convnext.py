"""ConvNeXt's published weights."""

from collections.abc import Sequence

from jann.models.convnext import ConvNeXt
from jann.pretrained.bert import dense, norm
from jann.pretrained.hub import PretrainedError, activation, activation_name, architecture, label_names, labels_of
from jann.pretrained.tables import Table

MODEL = ConvNeXt
IGNORED = "(?!)"
KERNEL = (2, 3, 1, 0)  # [outputs, inputs, height, width] -> [height, width, inputs, outputs]


def from_config(config: dict, names: Sequence[str] = ()) -> ConvNeXt:
    bare = architecture(config, "ConvNextModel", "ConvNextForImageClassification") == "ConvNextModel"
    depths, widths = config.get("depths") or (3, 3, 9, 3), config.get("hidden_sizes") or (96, 192, 384, 768)
    if not len(depths) == len(widths) == config.get("num_stages", 4):
        raise PretrainedError(
            f"convnext with num_stages={config.get('num_stages', 4)}, depths={depths} and hidden_sizes={widths} is not "
            "supported: each stage has a depth and a size"
        )
    patch = config.get("patch_size", 4)
    sides = {patch} if isinstance(patch, int) else set(patch)
    if len(sides) > 1:
        raise PretrainedError(f"convnext with patch_size={patch} is not supported, only squares")
    return ConvNeXt(
        inputs=config.get("num_channels", 3),
        outputs=0 if bare else labels_of(config),
        depths=tuple(depths),
        widths=tuple(widths),
        patch=sides.pop(),
        activation=activation(config.get("hidden_act", "gelu")),
        layer_scale=max(config.get("layer_scale_init_value", 1e-6), 0),
        epsilon=config.get("layer_norm_eps", 1e-12),
        drop_path=config.get("drop_path_rate", 0.0),
    )


def to_config(model: ConvNeXt) -> dict:
    return {
        "architectures": ["ConvNextForImageClassification" if model.outputs else "ConvNextModel"],
        "model_type": "convnext",
        "num_channels": model.inputs,
        "num_stages": len(model.depths),
        "depths": list(model.depths),
        "hidden_sizes": list(model.widths),
        "patch_size": model.patch,
        "hidden_act": activation_name(model.activation),
        "layer_scale_init_value": model.layer_scale,
        "layer_norm_eps": model.epsilon,
        "drop_path_rate": model.drop_path,
        **label_names(model.outputs),
    }


def table(model: ConvNeXt, names: Sequence[str]) -> Table:
    """Files of the bare network lack the prefix."""
    bare = not any(name.startswith("convnext.") for name in names) if names else not model.outputs
    prefix = "" if bare else "convnext."
    first, stage = f"{prefix}embeddings", f"{prefix}encoder.stages.*"
    block = (
        ("dwconv.weight", "conv/weight", KERNEL),
        ("dwconv.bias", "conv/bias", None),
        *norm("layernorm", "norm"),
        *dense("pwconv1", "mlp_in"),
        *dense("pwconv2", "mlp_out"),
        ("layer_scale_parameter", "scale", None),
    )
    return (
        (f"{first}.patch_embeddings.weight", "stem/conv/weight", KERNEL),
        (f"{first}.patch_embeddings.bias", "stem/conv/bias", None),
        *norm(f"{first}.layernorm", "stem/norm"),
        *norm(f"{stage}.downsampling_layer.0", "stages/*/norm"),
        (f"{stage}.downsampling_layer.1.weight", "stages/*/conv/weight", KERNEL),
        (f"{stage}.downsampling_layer.1.bias", "stages/*/conv/bias", None),
        *((f"{stage}.layers.*.{theirs}", f"stages/*/blocks/*/{ours}", axes) for theirs, ours, axes in block),
        *norm(f"{prefix}layernorm", "norm"),
        *dense("classifier", "head"),
    )
