"""Layers: plain functions from a dict of parameters and inputs to outputs.

Each layer with parameters has a builder of the same name with `_spec` that declares them. Features come last; any
leading axes are batch axes. A layer returns its input's dtype: kernels are cast to the input, reductions and norms are
done in float32 at least.
"""

from jann.layers.activations import dropout, exact_gelu, quick_gelu, soft_capped, squared_relu, threshold
from jann.layers.attention import attention, attention_spec, dot_product_attention
from jann.layers.classes import one_hot
from jann.layers.convolution import (
    average_pool,
    conv,
    conv_spec,
    conv_transpose,
    global_average_pool,
    global_max_pool,
    image_patches,
    max_pool,
)
from jann.layers.decoding import (
    cache_places,
    cached_attention,
    causal_attention,
    causal_mask,
    cross_state,
    decoder_blocks,
    decoder_cache,
    fitting,
    last_token,
    remember,
    source_mask,
    token_positions,
)
from jann.layers.dense import embedding, embedding_spec, linear, linear_spec, unembedding
from jann.layers.experts import routed, through_experts
from jann.layers.initializers import he_normal, lecun_normal, ones, small_normal, standard_normal, width_normal, zeros
from jann.layers.instance_norm import instance_norm
from jann.layers.low_rank import LowRank
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
from jann.layers.positions import interpolated, relative_bucket, sinusoidal
from jann.layers.recurrent import gru, gru_cell, gru_spec, lstm, lstm_cell, lstm_spec, rnn, rnn_cell, rnn_spec
from jann.layers.rotary import rotary_frequencies, rotated
from jann.layers.selective import selective_scan
from jann.layers.turned import Turned

__all__ = [
    "LowRank",
    "Turned",
    "attention",
    "attention_spec",
    "average_pool",
    "batch_norm",
    "batch_norm_spec",
    "cache_places",
    "cached_attention",
    "causal_attention",
    "causal_mask",
    "conv",
    "conv_spec",
    "conv_transpose",
    "cross_state",
    "decoder_blocks",
    "decoder_cache",
    "dot_product_attention",
    "dropout",
    "embedding",
    "embedding_spec",
    "exact_gelu",
    "fitting",
    "global_average_pool",
    "global_max_pool",
    "group_norm",
    "group_norm_spec",
    "gru",
    "gru_cell",
    "gru_spec",
    "he_normal",
    "image_patches",
    "instance_norm",
    "interpolated",
    "last_token",
    "layer_norm",
    "layer_norm_spec",
    "lecun_normal",
    "linear",
    "linear_spec",
    "lstm",
    "lstm_cell",
    "lstm_spec",
    "max_pool",
    "one_hot",
    "ones",
    "quick_gelu",
    "relative_bucket",
    "remember",
    "rms_norm",
    "rms_norm_spec",
    "rnn",
    "rnn_cell",
    "rnn_spec",
    "rotary_frequencies",
    "rotated",
    "routed",
    "selective_scan",
    "sinusoidal",
    "small_normal",
    "soft_capped",
    "source_mask",
    "squared_relu",
    "standard_normal",
    "threshold",
    "through_experts",
    "token_positions",
    "unembedding",
    "width_normal",
    "zeros",
]
