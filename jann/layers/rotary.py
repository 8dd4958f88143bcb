"""Rotary positions (Su et al. 2021, arXiv:2104.09864) and the ways in which published models stretch them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jann.layers.dtypes import wide_dtype

# options that each kind needs, and those that it can do without
SCALINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "dynamic": (("factor", "original"), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original"), ()),
    "yarn": (
        ("factor", "original"),
        ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate"),
    ),
    "longrope": (("short_factor", "long_factor", "factor", "original"), ("attention_factor",)),
}


def rotary_frequencies(
    head: int, base: float = 10_000.0, scaling: tuple = (), positions: jax.Array | None = None
) -> tuple[Any, float]:
    """-> (frequencies[head / 2] in radians a position, a factor for the rotated values)

    Those of "dynamic" and "longrope" are [..., 1, head / 2], each row's own: a row does not depend on its company.

    scaling:    (("type", name), (option, value), ...) with the options of the published configurations: "linear"
                (factor), "dynamic" (factor, original), "llama3" (factor, low_freq_factor, high_freq_factor, original),
                "yarn" (factor, original, beta_fast, beta_slow, attention_factor; Peng et al. 2023, arXiv:2309.00071),
                "longrope" (short_factor, long_factor, one number a frequency each, factor, original,
                attention_factor; Ding et al. 2024, arXiv:2402.13753);
                `original` is the number of positions that the model was trained on
    positions:  [..., time], what "dynamic" and "longrope" look at, for they stretch with how far the row goes

    Raises ValueError for a type that is not one of these, an option that is missing or that the type does not have,
    and for factors that are not one a frequency.
    """
    kind, options = scaling_options(scaling)
    powers = np.arange(0, head, 2) / head
    plain = base**-powers
    if kind == "default":
        return plain, 1.0
    if kind == "longrope":
        return _long(plain, positions, options)
    factor = options["factor"]
    if kind == "linear":
        return plain / factor, 1.0
    if kind == "dynamic":
        longest = jnp.maximum(furthest(positions) + 1, options["original"]).astype(float)
        stretched = base * (factor * longest / options["original"] - (factor - 1)) ** (head / (head - 2))
        return stretched ** -lax.broadcast_to_rank(powers, stretched.ndim), 1.0
    if kind == "llama3":
        turns = options["original"] * plain / (2 * math.pi)  # over the positions it was trained on
        low, high = options["low_freq_factor"], options["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return plain / factor * (1 - kept) + plain * kept, 1.0
    return _yarn(head, base, plain, options)


def scaling_options(scaling: tuple) -> tuple[str, dict[str, Any]]:
    """-> (type, its options), of which those that are None are left out; errors as `rotary_frequencies` says"""
    options = {name: value for name, value in scaling if value is not None}
    kind = options.pop("type", "default")
    if kind not in SCALINGS:
        raise ValueError(f"rotary scaling {kind!r} is not one that jann knows: {', '.join(SCALINGS)}")
    needed, optional = SCALINGS[kind]
    if missing := [name for name in needed if name not in options]:
        raise ValueError(f"rotary scaling {kind!r} lacks {', '.join(missing)}")
    if unknown := sorted(options.keys() - {*needed, *optional}):
        known = ", ".join((*needed, *optional)) or "none"
        raise ValueError(f"rotary scaling {kind!r} has no option {', '.join(unknown)}; it has {known}")
    return kind, options


def _long(plain: np.ndarray, positions: jax.Array, options: dict[str, Any]) -> tuple[jax.Array, float]:
    frequencies, original = [], options["original"]
    for name in ("short_factor", "long_factor"):
        factors = options[name]
        if len(factors) != len(plain):
            raise ValueError(f"{name} of longrope has {len(factors)} numbers for {len(plain)} frequencies")
        frequencies.append(plain / np.asarray(factors))
    attention = options.get("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(max(options["factor"], 1)) / math.log(original))
    within = furthest(positions) < original
    return jnp.where(within, *(lax.broadcast_to_rank(numbers, within.ndim) for numbers in frequencies)), attention


def furthest(positions: jax.Array) -> jax.Array:
    """positions[..., time] -> the highest of each row, [..., 1, 1]"""
    return positions.max(-1)[..., None, None]


def _yarn(head: int, base: float, plain: np.ndarray, options: dict[str, Any]) -> tuple[np.ndarray, float]:
    factor, original = options["factor"], options["original"]

    def dimension(turns):
        return head * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(options.get("beta_fast") or 32), dimension(options.get("beta_slow") or 1)
    if options.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head - 1)
    kept = 1 - np.clip((np.arange(head // 2) - low) / (high - low or 0.001), 0, 1)
    attention = options.get("attention_factor")
    if attention is None:
        mscale, overall = options.get("mscale"), options.get("mscale_all_dim")
        both = mscale and overall  # one of them alone says nothing, as in transformers
        attention = _magnitude(factor, mscale) / _magnitude(factor, overall) if both else _magnitude(factor, 1)
    return plain / factor * (1 - kept) + plain * kept, attention


def _magnitude(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def rotated(x: jax.Array, positions: jax.Array, frequencies: Any, factor: float = 1.0) -> jax.Array:
    """x[..., time, heads, head] with features i and i + head / 2 turned by position × frequency i, in float32

    frequencies, factor:  of `rotary_frequencies`

    Raises ValueError for a head of an odd number of features.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"head={x.shape[-1]}: rotary positions turn a head's features in pairs, give an even number")
    wide = wide_dtype(x)
    frequencies = lax.broadcast_to_rank(jnp.asarray(frequencies, wide), positions.ndim + 1)
    angles = positions[..., None].astype(wide) * frequencies
    cos, sin = jnp.cos(angles)[..., None, :] * factor, jnp.sin(angles)[..., None, :] * factor
    cos, sin = (part.reshape((1,) * (x.ndim - part.ndim) + part.shape) for part in (cos, sin))
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x.dtype)
