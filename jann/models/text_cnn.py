"""Kim's convolutional network for sentences."""

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.depth import tap
from jann.drawing import fold
from jann.layers import (
    conv,
    conv_spec,
    dropout,
    embedding,
    embedding_spec,
    lecun_normal,
    linear,
    linear_spec,
    source_mask,
)

word_normal = jax.nn.initializers.normal(0.1)


class TextCNN(Model):
    """Windows of a few words are compared with patterns, and each pattern's best match in the sentence counts.

    Kim 2014, "Convolutional neural networks for sentence classification", arXiv:1408.5882: the variant CNN-rand, whose
    word vectors start at random (300 wide there). Published ones go into params["embedding"]["table"]. The paper also
    bounds the norm of the last layer's weights, which is left to the optimiser.

    vocab:    how many words there are
    embed:    features of a word
    maps:     patterns of each width
    widths:   words in a window
    labels:   classes
    dropout:  rate on the matches, before the last layer

    There is a window around each word of the sentence, however short; those at its ends see zeros outside.
    """

    vocab: int
    embed: int = 128
    maps: int = 100
    widths: tuple[int, ...] = (3, 4, 5)
    labels: int = 2
    dropout: float = 0.5

    def __post_init__(self):
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"TextCNN.widths are at least one number, each at least 1, got {self.widths}")

    def spec(self):
        return {
            "embedding": embedding_spec(self.vocab, self.embed, word_normal),
            "convolutions": [
                conv_spec(self.embed, self.maps, (width,), init=lecun_normal) for width in self.widths
            ],
            "head": linear_spec(self.maps * len(self.widths), self.labels),
        }

    def apply(self, params, tokens, lengths=None, state=None, key=None):
        """tokens[..., time], of which lengths[...] are there (by default all) -> logits[..., labels]"""
        time = tokens.shape[-1]
        lengths = jnp.full(tokens.shape[:-1], time) if lengths is None else lengths
        there = source_mask(time, lengths)[..., 0, 0, :, None]
        x = tap("embedded", jnp.where(there, embedding(params["embedding"], tokens), 0))
        best = []
        for i, p in enumerate(params["convolutions"]):
            # No match is below zero, so a zero outside the sentence is never the only best.
            maps = tap(f"maps_{i}", jnp.where(there, jax.nn.relu(conv(p, x)), 0))
            best.append(maps.max(-2))
        pooled = dropout(tap("pooled", jnp.concatenate(best, -1)), self.dropout, fold(key, "pooled"))
        return linear(params["head"], pooled), state
