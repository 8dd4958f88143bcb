"""GPT-2's ways of scaling the scores."""

import math

import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose

from jann.models import GPT2

SIZES = {"vocab": 11, "positions": 6, "embed": 8, "layers": 3, "heads": 2}
TOKENS = jnp.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("by_layer", [True, False])
def test_scaled_scores_are_those_of_scaled_queries(scaled, by_layer, drawn):
    model = GPT2(**SIZES, scaled=scaled, scaled_by_layer=by_layer)
    params = drawn(model)
    numbers = jnp.arange(1, 4) if by_layer else jnp.ones(3)
    factors = ((1 if scaled else math.sqrt(4)) / numbers)[:, None, None]
    weight, bias = (jnp.asarray(params["blocks"]["qkv"][name]) for name in ("weight", "bias"))
    qkv = {"weight": weight.at[:, :, 0].multiply(factors[..., None]), "bias": bias.at[:, 0].multiply(factors)}
    moved = {**params, "blocks": {**params["blocks"], "qkv": qkv}}
    assert_allclose(model(params, TOKENS), GPT2(**SIZES)(moved, TOKENS), rtol=1e-5, atol=1e-5)


def test_more_tokens_than_positions_are_refused(drawn):
    model = GPT2(vocab=5, positions=4, embed=4, layers=1, heads=2)
    params = drawn(model)
    assert model(params, jnp.ones((2, 4), int)).shape == (2, 4, 5)
    with pytest.raises(ValueError, match="5 tokens are more than the model's 4 positions: cut them"):
        model(params, jnp.ones((2, 5), int))
