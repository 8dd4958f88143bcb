"""A recurrent language model: what comes next, of characters, words or notes."""

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.depth import scope
from jann.drawing import fold
from jann.layers import dropout, embedding, embedding_spec, linear, linear_spec
from jann.models.recurrent import Recurrent, known_cell
from jann.trees import Tree

unit_normal = jax.nn.initializers.normal(1.0)  # so that the cell sees inputs of unit variance


class RecurrentLanguageModel(Model):
    """Embedding, recurrent network, and a linear layer to the logits of the next token.

    Mikolov et al. 2010, "Recurrent neural network based language model", Interspeech; dropout as in Zaremba, Sutskever
    and Vinyals 2014, arXiv:1409.2329: on the embeddings, between the layers and before the logits, never over time.

    vocab:   how many tokens there are
    embed:   features of a token
    cell:    "rnn", "lstm" or "gru"

    The state is the network's carry: one token at a time or a text in pieces gives the same logits as the whole, which
    is how one samples (`jann.generation`) and trains on long texts (`jann.training.windowed`).
    """

    vocab: int
    embed: int
    hidden: int
    layers: int = 1
    cell: str = "lstm"
    dropout: float = 0.0

    def __post_init__(self):
        known_cell(self)

    @property
    def recurrent(self) -> Recurrent:
        return known_cell(self)(self.embed, self.hidden, self.layers, dropout=self.dropout)

    def spec(self):
        return {
            "embedding": embedding_spec(self.vocab, self.embed, unit_normal),
            "recurrent": self.recurrent.spec(),
            "head": linear_spec(self.hidden, self.vocab),
        }

    def apply(self, params, tokens, lengths=None, state=None, key=None):
        """tokens[..., time] integers, lengths[...] of the valid parts -> (logits[..., time, vocab], state)"""
        x = dropout(embedding(params["embedding"], tokens), self.dropout, fold(key, "embedding"))
        before = None if state is None else state["recurrent"]
        with scope("recurrent"):
            x, after = self.recurrent.apply(params["recurrent"], x, lengths, state=before, key=fold(key, "recurrent"))
        x = dropout(x, self.dropout, fold(key, "head"))
        return linear(params["head"], x), {"recurrent": after}

    def carry(self, *leading: int, dtype=jnp.float32) -> Tree:
        """The state before the first of tokens[*leading, time]: zeros."""
        return {"recurrent": self.recurrent.carry(*leading, dtype=dtype)}
