"""BERT (Devlin et al. 2018, arXiv:1810.04805): an encoder, with the heads that are put on it.

Built like it are RoBERTa (Liu et al. 2019, arXiv:1907.11692), DistilBERT (Sanh et al. 2019, arXiv:1910.01108), MPNet
(Song et al. 2020, arXiv:2004.09297), ALBERT (Lan et al. 2020, arXiv:1909.11942) and ELECTRA (Clark et al. 2020,
arXiv:2003.10555).
"""

from collections.abc import Callable
from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp

from jann.core import Model, Param, stack
from jann.depth import apply_blocks, depth_keys, tap
from jann.drawing import fold
from jann.layers import (
    dot_product_attention,
    dropout,
    embedding,
    embedding_spec,
    exact_gelu,
    fitting,
    layer_norm,
    layer_norm_spec,
    linear,
    linear_spec,
    relative_bucket,
    source_mask,
    unembedding,
    width_normal,
    zeros,
)
from jann.layers.dtypes import along, wide_dtype

FURTHEST = 128  # relative position with a bucket of its own
HEADS = ("features", "words", "sentence", "tokens", "span", "replaced")


class BERT(Model):
    """Each block attends to all tokens, then widens and narrows each by itself; a norm follows each half.

    head:      "features" [..., time, embed]; "words", logits of the masked words [..., time, vocab]; "sentence", logits
               of labels for the whole [..., labels], from the first token; "tokens", for each [..., time, labels];
               "span", where an answer begins and ends, logits [..., time, 2]; "replaced", the logit that a token is
               not the text's own (ELECTRA), [..., time]
    pooler:    a layer on the first token, which "sentence" needs; see `pooled`
    segments:  kinds of sentences (a question and its text), numbered in the input `segments`; 0: not told apart
    first_position:     rows of the table of positions before the first token's, which are not used (RoBERTa has 2)
    relative_buckets:   so many buckets of relative positions add to the scores of each head (MPNet), see
                        `jann.layers.relative_bucket`
    table:     width of the tables, which a layer widens to `embed` (ALBERT, ELECTRA); by default embed
    groups:    so many blocks, each gone through layers / groups times (ALBERT: 1); 0: each layer has its own
    pooler_activation:  of the layer on the first token (DistilBERT: relu, ELECTRA: GELU)
    words_activation:   of the layer under the logits of the masked words, by default as in the blocks
    tied:      the table of tokens also gives the logits of the masked words
    """

    vocab: int = 30522
    positions: int = 512
    segments: int = 2
    embed: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    head: str = "words"
    labels: int = 2
    pooler: bool = False
    activation: Callable = exact_gelu
    epsilon: float = 1e-12
    dropout: float = 0.0
    tied: bool = True
    first_position: int = 0
    relative_buckets: int = 0
    table: int | None = None
    groups: int = 0
    pooler_activation: Callable = jnp.tanh
    words_activation: Callable | None = None

    def spec(self):
        if self.head not in HEADS:
            raise ValueError(f"head={self.head!r}: there are {', '.join(HEADS)}")
        if self.embed % self.heads:
            raise ValueError(f"heads={self.heads} must divide embed={self.embed}")
        if self.groups > self.layers:
            raise ValueError(f"groups={self.groups} are more than layers={self.layers}")
        table, positions = self.table or self.embed, self.first_position + self.positions
        table_norm = layer_norm_spec(table)
        embed, hidden, norm = {"embed": self.embed}, {"hidden": self.hidden}, layer_norm_spec(self.embed)
        heads = {"heads": self.heads, "head": self.embed // self.heads}
        dense = partial(linear_spec, init=width_normal(self.embed))
        block = {
            **{name: dense(embed, heads) for name in ("query", "key", "value")},
            "attention_out": dense(heads, embed),
            "attention_norm": norm,
            "mlp_in": dense(embed, hidden),
            "mlp_out": dense(hidden, embed),
            "mlp_norm": norm,
        }
        spec = {
            "tokens": embedding_spec(self.vocab, table),
            **({"positions": embedding_spec(positions, table)} if positions else {}),
            **({"segments": embedding_spec(self.segments, table)} if self.segments else {}),
            "norm": table_norm,
            **({"widen": dense({"table": table}, embed)} if self.widens else {}),
            "blocks": stack(block, layers=self.groups or self.layers),
        }
        if self.relative_buckets:
            spec["relative"] = embedding_spec(self.relative_buckets, self.heads)
        if self.pooler or self.head == "sentence":
            spec["pooler"] = dense(self.embed, self.embed)
        if self.head == "words":
            vocab = {"vocab": self.vocab}
            logits = {"bias": Param(vocab, zeros)} if self.tied else dense({"table": table}, vocab)
            spec["head"] = {"dense": dense(embed, {"table": table}), "norm": table_norm, **logits}
        elif self.head == "replaced":
            spec["head"] = {"dense": dense(self.embed, self.embed), **dense(embed, 1)}
        elif self.head != "features":
            spec["head"] = dense(self.embed, 2 if self.head == "span" else self.labels)
        return spec

    def apply(self, params, tokens, lengths=None, segments=None, places=None, state=None, key=None):
        """tokens[..., time] -> what `head` says

        lengths:   [...], how many tokens of each row are there; the rest is padding, which nothing attends to
        segments:  [..., time], which kind of sentence each token belongs to; by default 0
        places:    [..., n], of which tokens it is said: [..., n, vocab] in place of [..., time, vocab], the same values
        """
        x = self.features(params, tokens, lengths, segments, key)
        if places is not None:
            if self.head == "sentence":
                raise ValueError("head='sentence' speaks of the whole, not of places: leave them out")
            x = jnp.take_along_axis(x, places[..., None], -2)
        if self.head == "words":
            p = params["head"]
            y = (self.words_activation or self.activation)(linear(p["dense"], x))
            y = layer_norm(p["norm"], y, self.epsilon)
            if not self.tied:
                return linear(p, y), state
            y = unembedding(params["tokens"], y)
            return y + along(p["bias"], y), state
        if self.head == "replaced":
            p = params["head"]
            return linear(p, self.activation(linear(p["dense"], x)))[..., 0], state
        if self.head == "sentence":
            x = dropout(self.pooled(params, x), self.dropout, fold(key, "pooled"))
        return x if self.head == "features" else linear(params["head"], x), state

    def features(self, params, tokens, lengths=None, segments=None, key=None):
        """tokens[..., time] -> [..., time, embed]"""
        time = tokens.shape[-1]
        x = self.rows(params, tokens, lengths, segments)
        x = layer_norm(params["norm"], x, self.epsilon)
        x = dropout(x, self.dropout, fold(key, "embedded"))
        x = tap("embedded", linear(params["widen"], x) if self.widens else x)
        block = partial(self.block, mask=source_mask(time, lengths), bias=self.relative(params, time))
        return self.through(block, x, params["blocks"], depth_keys(fold(key, "blocks"), self.layers))

    def rows(self, params, tokens, lengths, segments):
        """What the tables say of tokens[..., time], summed: [..., time, table]"""
        time, positions = tokens.shape[-1], "positions" in params
        if positions and time > self.positions:
            raise ValueError(f"{time} tokens are more than the model's {self.positions} positions: cut them")
        if lengths is not None:
            fitting("lengths", lengths, tokens.shape[:-1], "one for each row")
        if segments is not None:
            fitting("segments", segments, tokens.shape, "one for each token")
        x = embedding(params["tokens"], tokens)
        if positions:
            places = jnp.broadcast_to(self.first_position + jnp.arange(time), tokens.shape)
            x = x + embedding(params["positions"], places)
        if self.segments:
            x = x + embedding(params["segments"], jnp.zeros_like(tokens) if segments is None else segments)
        elif segments is not None:
            raise ValueError("segments=0: this model does not tell kinds of sentences apart, leave them out")
        return x

    @property
    def widens(self) -> bool:
        """Whether a layer stands between the tables and the blocks."""
        return self.table is not None and (self.table != self.embed or self.groups > 0)

    def through(self, block, x, blocks, keys):
        """x through every layer: through its own block, or through the one of its group"""
        if not self.groups:
            return apply_blocks(block, x, blocks, keys)[0]
        group = [i * self.groups // self.layers for i in range(self.layers)]
        if isinstance(blocks, list):
            return apply_blocks(block, x, [blocks[i] for i in group], keys)[0]

        def shared(x, i, key):
            return block(x, jax.tree.map(itemgetter(i), blocks), key)

        return apply_blocks(shared, x, jnp.asarray(group), keys)[0]

    def relative(self, params, time):
        """What relative positions add to the scores, [heads, time, time]; None without buckets"""
        if not self.relative_buckets:
            return None
        places = jnp.arange(time)
        bucket = relative_bucket(places[None, :] - places[:, None], self.relative_buckets, FURTHEST, True)
        return jnp.moveaxis(embedding(params["relative"], bucket), -1, 0)

    def block(self, x, p, key, mask, bias):
        """x[..., time, embed] -> norm(y + MLP(y)) of y = norm(x + attention)"""
        y = self.attention(x, p, key, mask, bias)
        y = dropout(linear(p["attention_out"], y, axes=2), self.dropout, fold(key, "attended"))
        x = layer_norm(p["attention_norm"], x + y, self.epsilon)
        y = linear(p["mlp_out"], tap("hidden", self.activation(linear(p["mlp_in"], x))))
        x = layer_norm(p["mlp_norm"], x + dropout(y, self.dropout, fold(key, "mlp")), self.epsilon)
        return tap("block", x), None

    def attention(self, x, p, key, mask, bias):
        """x[..., time, embed] -> [..., time, heads, head]"""
        query, keys, values = (linear(p[name], x) for name in ("query", "key", "value"))
        return dot_product_attention(
            query, keys, values, mask, bias=bias, rate=self.dropout, key=fold(key, "attention")
        )

    def pooled(self, params, x):
        """features[..., time, embed] -> a layer on the first token and its activation, [..., embed]"""
        if "pooler" not in params:
            raise ValueError(f"{self} has no pooler: build or load it with pooler=True, or with head='sentence'")
        return self.pooler_activation(linear(params["pooler"], x[..., 0, :]))


def sentence_embedding(
    model: BERT, params, tokens: jax.Array, lengths: jax.Array, normalise: bool = True, key=None, pooling: str = "mean"
) -> jax.Array:
    """tokens[..., time] -> one vector for each text, made of length 1, [..., embed] (Reimers and Gurevych 2019)

    pooling:  of the tokens' features: their "mean", their "max"imum, or those of the "first"
    """
    x = model.features(params, tokens, lengths, key=key)
    there = source_mask(tokens.shape[-1], lengths)[..., 0, 0, :, None]
    wide = x.astype(wide_dtype(x))
    if pooling == "mean":
        pooled = jnp.where(there, wide, 0).sum(-2) / jnp.maximum(there.sum(-2, dtype=wide.dtype), 1)
    elif pooling == "max":
        pooled = jnp.where(there, wide, jnp.finfo(x.dtype).min).max(-2)
    elif pooling == "first":
        pooled = wide[..., 0, :]
    else:
        raise ValueError(f"pooling={pooling!r}: choose 'mean', 'max' or 'first'")
    if normalise:
        pooled = pooled / jnp.maximum(jnp.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)
    return pooled.astype(x.dtype)
