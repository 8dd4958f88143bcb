"""Instance norm of series: each window is brought to a common level and size, and its forecast brought back."""

import jax
import jax.numpy as jnp

from jann.layers.dtypes import floats, wide_dtype


def instance_norm(x: jax.Array, epsilon: float = 1e-5) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x[..., time, channels] -> ((x - mean) / deviation, mean, deviation), the latter two [..., 1, channels] over time

    deviation = sqrt(variance + epsilon). A forecast is brought back as `forecast * deviation + mean`, so that a shift
    of level between training and test does no harm (RevIN without its affine part, Kim et al. 2022, ICLR).
    """
    x = floats(x, "instance_norm")
    wide = x.astype(wide_dtype(x))
    mean = wide.mean(-2, keepdims=True)
    centred = wide - mean
    # The mean of a high level is rounded: what it is off by would be taken for the deviation of a constant series.
    off = centred.mean(-2, keepdims=True)
    mean, centred = mean + off, centred - off
    deviation = jnp.sqrt(jnp.square(centred).mean(-2, keepdims=True) + epsilon)
    return (centred / deviation).astype(x.dtype), mean.astype(x.dtype), deviation.astype(x.dtype)
