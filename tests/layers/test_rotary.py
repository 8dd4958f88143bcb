"""Rotary positions, stretched: formulas that no golden model has."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jann.layers import rotary_frequencies

LONG = (
    ("type", "longrope"), ("factor", 4.0), ("long_factor", (2.0, 3.0)), ("original", 8), ("short_factor", (1.0, 1.5)),
)  # fmt: skip


@pytest.mark.parametrize("positions, divisors", [(8, (1.0, 1.5)), (9, (2.0, 3.0))], ids=["within", "beyond"])
def test_longrope_takes_its_long_factors_beyond_what_it_was_trained_on(positions, divisors):
    frequencies, factor = rotary_frequencies(4, 100.0, LONG, jnp.arange(positions))
    np.testing.assert_allclose(frequencies, [1 / divisors[0], 0.1 / divisors[1]], rtol=1e-6)
    assert factor == math.sqrt(1 + math.log(4) / math.log(8))
    assert rotary_frequencies(4, 100.0, (*LONG, ("attention_factor", 1.25)), jnp.arange(positions))[1] == 1.25


def test_factors_must_be_one_a_frequency():
    with pytest.raises(ValueError, match="short_factor of longrope has 2 numbers for 3 frequencies"):
        rotary_frequencies(6, 100.0, LONG, jnp.arange(4))


@pytest.mark.parametrize(
    "scaling, message",
    [
        ((("type", "linear"),), "'linear' lacks factor"),
        ((("type", "linear"), ("factor", 2.0), ("beta_fast", 32)), "'linear' has no option beta_fast; it has factor"),
        ((("type", "spiral"),), "'spiral' is not one that jann knows: default, linear"),
        ((("factor", 2.0),), "'default' has no option factor; it has none"),
    ],
    ids=["missing", "unknown", "type", "default"],
)
def test_scalings_must_have_the_options_of_their_type(scaling, message):
    with pytest.raises(ValueError, match=message):
        rotary_frequencies(4, scaling=scaling)
