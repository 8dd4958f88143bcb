"""Layers: plain functions from a dict of parameters and inputs to outputs.

Each layer with parameters has a builder of the same name with `_spec` that declares them. Features come last; any
leading axes are batch axes. A layer returns its input's dtype: kernels are cast to the input, reductions and norms are
done in float32 at least.
"""

from jann.layers.activations import dropout, threshold
from jann.layers.attention import attention, attention_spec, dot_product_attention
from jann.layers.classes import one_hot
from jann.layers.convolution import (
    average_pool,
    conv,
    conv_spec,
    conv_transpose,
    global_average_pool,
    global_max_pool,
    max_pool,
)
from jann.layers.dense import embedding, embedding_spec, linear, linear_spec
from jann.layers.initializers import he_normal, lecun_normal, ones, small_normal, standard_normal, zeros
from jann.layers.norms import (
    batch_norm,
    batch_norm_spec,
    group_norm,
    group_norm_spec,
    layer_norm,
    layer_norm_spec,
    rms_norm,
    rms_norm_spec,
)
from jann.layers.positions import sinusoidal

__all__ = [
    "attention",
    "attention_spec",
    "average_pool",
    "batch_norm",
    "batch_norm_spec",
    "conv",
    "conv_spec",
    "conv_transpose",
    "dot_product_attention",
    "dropout",
    "embedding",
    "embedding_spec",
    "global_average_pool",
    "global_max_pool",
    "group_norm",
    "group_norm_spec",
    "he_normal",
    "layer_norm",
    "layer_norm_spec",
    "lecun_normal",
    "linear",
    "linear_spec",
    "max_pool",
    "one_hot",
    "ones",
    "rms_norm",
    "rms_norm_spec",
    "sinusoidal",
    "small_normal",
    "standard_normal",
    "threshold",
    "zeros",
]
