"""Weights of U-Nets for diffusion, as the `diffusers` library holds its `UNet2DModel` (google/ddpm-cat-256)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jann.models.unet import UNet
from jann.pretrained.resnet import KERNEL, MATRIX
from jann.pretrained.tables import Table, read, write
from jann.trees import Tree, flatten, unflatten

# What a configuration must say where it says anything.
NEEDED = {
    "act_fn": ("silu", "swish"),
    "add_attention": (True,),
    "attn_norm_num_groups": (None,),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "downsample_padding": (0,),
    "downsample_type": ("conv",),
    "flip_sin_to_cos": (False,),
    "freq_shift": (1,),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv",),
}


def model_of(config: Mapping[str, Any]) -> UNet:
    """What `config.json` of a UNet2DModel describes.

    Raises ValueError naming the settings that `UNet` has not.
    """
    problems = [f"{name}={config[name]!r}" for name, known in NEEDED.items() if config.get(name, known[0]) not in known]
    down, up = config["down_block_types"], config["up_block_types"]
    attention = tuple(i for i, block in enumerate(down) if block == "AttnDownBlock2D")
    mirrored = ["AttnUpBlock2D" if i in attention else "UpBlock2D" for i in reversed(range(len(down)))]
    if list(up) != mirrored or not set(down) <= {"DownBlock2D", "AttnDownBlock2D"}:
        problems.append(f"down_block_types={down} with up_block_types={up}")
    if problems:
        raise ValueError(f"jann.models.UNet has no {', '.join(problems)}")
    return UNet(
        inputs=config["in_channels"],
        outputs=config["out_channels"],
        widths=tuple(config["block_out_channels"]),
        depth=config["layers_per_block"],
        attention=attention,
        head=config["attention_head_dim"],
        groups=config["norm_num_groups"],
        classes=config.get("num_class_embeds") or 0,
        dropout=config.get("dropout", 0.0),
        epsilon=config["norm_eps"],
    )


def from_diffusers(tensors: Mapping[str, np.ndarray], model: UNet) -> Tree:
    """{"conv_in.weight": array, ...} -> parameters of the `UNet`

    Raises WeightsError listing missing and unexpected tensors by name.
    """
    declared = flatten(model.spec())
    flat = flatten(read(TABLE, tensors, model))
    # Theirs have one axis for all heads.
    return unflatten({path: leaf.reshape(declared[path].shape) for path, leaf in flat.items()})


def to_diffusers(params: Tree) -> dict[str, np.ndarray]:
    """Parameters of a `UNet` -> {"conv_in.weight": array, ...}, the inverse of `from_diffusers`."""
    joined = {}
    for path, leaf in flatten(params).items():
        if path.endswith(("query/weight", "key/weight", "value/weight")):
            leaf = leaf.reshape(leaf.shape[0], -1)
        elif path.endswith("out/weight"):
            leaf = leaf.reshape(-1, leaf.shape[-1])
        elif path.endswith(("query/bias", "key/bias", "value/bias")):
            leaf = leaf.reshape(-1)
        joined[path] = leaf
    return write(TABLE, unflatten(joined))


def _conv(theirs: str, ours: str) -> Table:
    return (f"{theirs}.weight", f"{ours}/weight", KERNEL), (f"{theirs}.bias", f"{ours}/bias", None)


def _linear(theirs: str, ours: str) -> Table:
    return (f"{theirs}.weight", f"{ours}/weight", MATRIX), (f"{theirs}.bias", f"{ours}/bias", None)


def _norm(theirs: str, ours: str) -> Table:
    return (f"{theirs}.weight", f"{ours}/scale", None), (f"{theirs}.bias", f"{ours}/bias", None)


def _level(theirs: str, ours: str) -> Table:
    """The residual blocks and attention of a level."""
    block, attention = (f"{theirs}.resnets.*", f"{ours}/blocks/*"), (f"{theirs}.attentions.*", f"{ours}/attention/*")
    rows = [
        *(row for n in (1, 2) for row in _norm(f"{block[0]}.norm{n}", f"{block[1]}/norm{n}")),
        *(row for n in (1, 2) for row in _conv(f"{block[0]}.conv{n}", f"{block[1]}/conv{n}")),
        *_linear(f"{block[0]}.time_emb_proj", f"{block[1]}/time"),
        *_conv(f"{block[0]}.conv_shortcut", f"{block[1]}/shortcut"),
        *_norm(f"{attention[0]}.group_norm", f"{attention[1]}/norm"),
    ]
    # The second names are those of weights published before 2023.
    names = {"query": ("to_q", "query"), "key": ("to_k", "key"), "value": ("to_v", "value")}
    for name, spellings in {**names, "out": ("to_out.0", "proj_attn")}.items():
        for spelling in spellings:
            rows += _linear(f"{attention[0]}.{spelling}", f"{attention[1]}/attention/{name}")
    return tuple(rows)


TABLE = (
    *_linear("time_embedding.linear_+", "time/*"),
    ("class_embedding.weight", "labels/table", None),
    *_conv("conv_in", "stem"),
    *_level("down_blocks.*", "down/*"),
    *_conv("down_blocks.*.downsamplers.0.conv", "down/*/resample"),
    *_level("mid_block", "middle"),
    *_level("up_blocks.*", "up/*"),
    *_conv("up_blocks.*.upsamplers.0.conv", "up/*/resample"),
    *_norm("conv_norm_out", "norm"),
    *_conv("conv_out", "head"),
)
