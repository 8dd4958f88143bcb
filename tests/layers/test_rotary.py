"""Rotary positions, stretched: formulas that no golden model has."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.generation import generate
from jann.layers import rotary_frequencies
from jann.models import Llama

LONG = (
    ("type", "longrope"), ("factor", 4.0), ("long_factor", (2.0, 3.0)), ("original", 8), ("short_factor", (1.0, 1.5)),
)  # fmt: skip


@pytest.mark.parametrize("positions, divisors", [(8, (1.0, 1.5)), (9, (2.0, 3.0))], ids=["within", "beyond"])
def test_longrope_takes_its_long_factors_beyond_what_it_was_trained_on(positions, divisors):
    frequencies, factor = rotary_frequencies(4, 100.0, LONG, jnp.arange(positions))
    np.testing.assert_allclose(frequencies[0], [1 / divisors[0], 0.1 / divisors[1]], rtol=1e-6)
    assert factor == math.sqrt(1 + math.log(4) / math.log(8))
    assert rotary_frequencies(4, 100.0, (*LONG, ("attention_factor", 1.25)), jnp.arange(positions))[1] == 1.25


DYNAMIC = (("type", "dynamic"), ("factor", 2.0), ("original", 8))


@pytest.mark.parametrize("scaling", [DYNAMIC, LONG], ids=["dynamic", "longrope"])
def test_a_row_stretches_with_its_own_length_in_any_company(scaling, key):
    """By hand, and of a model: in a batch with a longer row, with padding, and token after token."""
    positions = jnp.array([jnp.arange(12), jnp.where(jnp.arange(12) < 4, jnp.arange(12), -1)])
    together, _ = rotary_frequencies(4, 100.0, scaling, positions)
    if scaling is DYNAMIC:
        want = [(100 * (2 * length / 8 - 1) ** 2) ** np.array([0, -0.5]) for length in (12, 8)]
    else:
        want = [[1 / 2, 0.1 / 3], [1, 0.1 / 1.5]]
    np.testing.assert_allclose(together[:, 0], want, rtol=1e-6)
    assert together.shape == (2, 1, 2)

    model = Llama(vocab=24, embed=8, layers=1, heads=2, hidden=12, positions=8, rotary_scaling=scaling)
    params = jax.tree.map(lambda leaf: 3 * leaf, jax.jit(model.init)(key))
    tokens, lengths = jnp.arange(24).reshape(2, 12), jnp.array([12, 4])
    run = jax.jit(model)
    batch, alone = run(params, tokens, lengths)[1, :4], run(params, tokens[1, :4])
    np.testing.assert_allclose(batch, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(run, (None, 0, 0))(params, tokens, lengths)[1, :4], alone, rtol=1e-5, atol=1e-6)
    prompts = [[1, 2, 3], list(range(1, 20))]
    both = generate(model, params, prompts, 7)
    for row, prompt in enumerate(prompts):
        single = generate(model, params, [prompt], 7)
        np.testing.assert_array_equal(both.tokens[row], single.tokens[0])
        np.testing.assert_allclose(both.log_probabilities[row], single.log_probabilities[0], rtol=1e-4, atol=1e-5)


def test_yarn_takes_a_magnitude_of_its_own_only_with_both_options():
    yarn = (("type", "yarn"), ("factor", 4.0), ("original", 16))
    alone, one, other = (0.1 * scale * math.log(4) + 1 for scale in (1, 0.7, 0.5))
    assert rotary_frequencies(8, scaling=yarn)[1] == alone
    assert rotary_frequencies(8, scaling=(*yarn, ("mscale", 0.7)))[1] == alone
    assert rotary_frequencies(8, scaling=(*yarn, ("mscale", 0.7), ("mscale_all_dim", 0)))[1] == alone
    assert rotary_frequencies(8, scaling=(*yarn, ("mscale", 0.7), ("mscale_all_dim", 0.5)))[1] == one / other
    plain = rotary_frequencies(8)[0]
    swapped = rotary_frequencies(8, scaling=(*yarn, ("beta_slow", 4), ("truncate", False)))[0]
    np.testing.assert_allclose(swapped, plain, err_msg="as transformers has it where the span of the ramp is negative")


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
