"""Weights of PatchTST, as Hugging Face's `PatchTSTForPrediction` holds them."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jann.layers import exact_gelu
from jann.models.patchtst import PatchTST
from jann.pretrained.tables import Table, read, write
from jann.trees import Tree, stacked, unstacked

MATRIX = (1, 0)  # [outputs, inputs] -> [inputs, outputs]
ACTIVATIONS = {"gelu": exact_gelu, "relu": jax.nn.relu, "silu": jax.nn.silu}
ONLY = {  # the settings of which this model has but one form, in both their spellings where there are two
    "channel_attention": (False,), "scaling": ("std", True), "share_embedding": (True,), "share_projection": (True,),
    "use_cls_token": (False,), "do_mask_input": (False, None), "loss": ("mse",), "bias": (True,),
    "norm_type": ("batchnorm",),
}  # fmt: skip


def from_config(config: Mapping[str, Any]) -> PatchTST:
    """What a `config.json` describes -> the model. Settings that it leaves out are at Hugging Face's defaults.

    Raises ValueError naming a setting that this model does not have.
    """
    for name, forms in ONLY.items():
        if config.get(name, forms[0]) not in forms:
            raise ValueError(f"PatchTST has no {name}={config[name]!r}, only {forms[0]!r}")
    activation = config.get("activation_function", "gelu")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation_function={activation!r}: there are {', '.join(ACTIVATIONS)}")
    return PatchTST(
        lookback=config.get("context_length", 32),
        horizon=config.get("prediction_length", 24),
        patch=config.get("patch_length", 1),
        stride=config.get("patch_stride", 1),
        embed=config.get("d_model", 128),
        heads=config.get("num_attention_heads", 4),
        hidden=config.get("ffn_dim", 512),
        layers=config.get("num_hidden_layers", 3),
        pre_norm=config.get("pre_norm", True),
        pooling={"mean": "mean", None: "flatten"}[config.get("pooling_type", "mean")],
        activation=ACTIVATIONS[activation],
    )


def from_torch(tensors: Mapping[str, np.ndarray], model: PatchTST) -> Tree:
    """{"model.encoder.layers.0.self_attn.q_proj.weight": array, ...} -> parameters, running statistics among them.

    Raises WeightsError listing missing and unexpected tensors by name.
    """
    split = {name: _in_heads(name, np.asarray(tensor), model.heads) for name, tensor in tensors.items()}
    params = read(TABLE, split, model, r"num_batches_tracked$")
    return {**params, "blocks": stacked(params["blocks"])}


def to_torch(params: Tree) -> dict[str, np.ndarray]:
    """Parameters of a `PatchTST` -> {"model.encoder.layers.0.self_attn.q_proj.weight": array, ...}, the inverse."""
    blocks = params["blocks"]
    tensors = write(TABLE, {**params, "blocks": unstacked(blocks) if isinstance(blocks, dict) else blocks})
    return {name: _whole(name, tensor) for name, tensor in tensors.items()}


def _in_heads(name, tensor, heads):
    """Queries, keys and values are [heads head, embed] there, what comes out of the heads goes through [embed, ...]."""
    if re.search(r"\.[qkv]_proj\.", name):
        return tensor.reshape(heads, -1, *tensor.shape[1:])
    if name.endswith("out_proj.weight"):
        return tensor.reshape(len(tensor), heads, -1)
    return tensor


def _whole(name, tensor):
    if re.search(r"\.[qkv]_proj\.", name):
        return tensor.reshape(-1, *tensor.shape[2:])
    if name.endswith("out_proj.weight"):
        return tensor.reshape(len(tensor), -1)
    return tensor


def _norm(theirs: str, ours: str) -> Table:
    pairs = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
    return tuple((f"{theirs}.{a}", f"{ours}/{b}", None) for a, b in pairs.items())


def _heads(theirs: str, ours: str) -> Table:
    return (f"{theirs}.weight", f"{ours}/weight", (2, 0, 1)), (f"{theirs}.bias", f"{ours}/bias", None)


def _matrix(theirs: str, ours: str) -> Table:
    return (f"{theirs}.weight", f"{ours}/weight", MATRIX), (f"{theirs}.bias", f"{ours}/bias", None)


LAYER = "model.encoder.layers.*"
TABLE: Table = (
    *_matrix("model.encoder.embedder.input_embedding", "embed"),
    ("model.encoder.positional_encoder.position_enc", "positions", None),
    *_heads(f"{LAYER}.self_attn.q_proj", "blocks/*/attention/query"),
    *_heads(f"{LAYER}.self_attn.k_proj", "blocks/*/attention/key"),
    *_heads(f"{LAYER}.self_attn.v_proj", "blocks/*/attention/value"),
    (f"{LAYER}.self_attn.out_proj.weight", "blocks/*/attention/out/weight", (1, 2, 0)),
    (f"{LAYER}.self_attn.out_proj.bias", "blocks/*/attention/out/bias", None),
    *_norm(f"{LAYER}.norm_sublayer1.batchnorm", "blocks/*/norm1"),
    *_matrix(f"{LAYER}.ff.0", "blocks/*/dense1"),
    *_matrix(f"{LAYER}.ff.3", "blocks/*/dense2"),
    *_norm(f"{LAYER}.norm_sublayer3.batchnorm", "blocks/*/norm2"),
    *_matrix("head.projection", "head"),
)
