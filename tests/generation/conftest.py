"""Tiny decoders with parameters away from where they start, so that what they say depends on what they read."""

import jax
import pytest

from jann.models import GPT2, OPT, Gemma, GPTNeoX, Llama, Mamba

MODELS = {
    "gpt2": GPT2(vocab=11, positions=40, embed=16, layers=2, heads=2, hidden=24),
    "llama": Llama(vocab=11, embed=16, layers=2, heads=4, hidden=24, key_value_heads=2, query_key_norm=True),
    "gemma": Gemma(11, 16, 2, 4, 24, key_value_heads=2, window=(3, 0), window_base=50.0, attention_cap=9.0,
                   query_key_norm=True, post_norms=True),  # fmt: skip
    "gpt_neox": GPTNeoX(vocab=11, embed=16, layers=2, heads=2, hidden=24),
    "mamba": Mamba(vocab=11, embed=16, layers=2, state=3, rank=2),
    "opt": OPT(vocab=11, positions=40, embed=16, layers=2, heads=2, hidden=24, table=12, norm_first=False),
    "mixture": Llama(11, embed=16, layers=2, heads=2, hidden=12, experts=4, chosen=2, chosen_sum_to_one=False),
    "windows": Llama(vocab=11, embed=16, layers=2, heads=2, hidden=24, window=(0, 3), qkv_bias=True, tied=True),
}


@pytest.fixture(scope="session")
def decoder():
    """name -> (model, params)"""

    def draw(name, scale=8.0):
        model = MODELS[name]
        params = jax.jit(model.init)(jax.random.key(len(name)))
        return model, jax.tree.map(lambda leaf: leaf * scale if leaf.std() > 0 else leaf + 0.1, params)

    return draw
