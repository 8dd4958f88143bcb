"""From one sequence to another: a recurrent encoder, and a decoder that attends to it at each step."""

import jax
import jax.numpy as jnp
from jax import lax

from jann.core import Model
from jann.depth import observing, scope, tap
from jann.drawing import fold
from jann.layers import dropout, embedding, embedding_spec, gru_cell, gru_spec, linear, linear_spec
from jann.layers.dtypes import wide_dtype
from jann.models.recurrent import GRU
from jann.trees import Tree


class AttentionSeq2Seq(Model):
    """Bahdanau's encoder-decoder: where to look in the source is learnt together with what to say next.

    Bahdanau, Cho and Bengio 2015, "Neural machine translation by jointly learning to align and translate",
    arXiv:1409.0473. The names in the formulas are the paper's; its reset gate multiplies before U, ours after (see
    `jann.layers.gru`).

    source_vocab, target_vocab:  tokens of either side
    embed:                       features of a token
    hidden:                      of the decoder, of the encoder in each direction, and of the alignment model
    maxout:                      features of the deep output, each the larger of two
    dropout:                     rate on embeddings and before the logits

    The state is what decoding needs: `encode` makes it of a source, `decode` goes on from it, by one token or by many.
    """

    source_vocab: int
    target_vocab: int
    embed: int
    hidden: int
    maxout: int = 64
    dropout: float = 0.0

    @property
    def encoder(self) -> GRU:
        return GRU(self.embed, self.hidden, bidirectional=True)

    def spec(self):
        memory, unit = 2 * self.hidden, jax.nn.initializers.normal(1.0)
        return {
            "source": embedding_spec(self.source_vocab, self.embed, unit),
            "encoder": self.encoder.spec(),
            "start": linear_spec(self.hidden, self.hidden),
            "target": embedding_spec(self.target_vocab, self.embed, unit),
            "align": {
                "query": linear_spec(self.hidden, self.hidden),
                "key": linear_spec(memory, self.hidden, bias=False),
                "score": linear_spec(self.hidden, 1, bias=False),
            },
            "decoder": gru_spec(self.embed + memory, self.hidden),
            "deep": linear_spec(self.hidden + self.embed + memory, {"maxout": self.maxout, "pieces": 2}),
            "head": linear_spec(self.maxout, self.target_vocab),
        }

    def apply(self, params, source, target, lengths=None, state=None, key=None):
        """source[..., places], target[..., time], lengths[...] of sources -> (logits[..., time, target_vocab], state)

        Teacher forcing: the target begins with the start token, and the logits at a step are of the token after it.

        Observed as "attention": the weights [..., time, places]; they are zero at the source's padding.
        """
        if state is not None:
            raise ValueError(f"{self!r} reads its source anew: to go on from a state, give it to decode")
        state = self.encode(params, source, lengths, fold(key, "encode"))
        return self.decode(params, target, state, fold(key, "decode"))

    def encode(self, params, source, lengths=None, key=None) -> Tree:
        """source[..., places] -> the state before the first token: what to attend to, and s_0 = tanh(W h_1 backward)"""
        x = dropout(embedding(params["source"], source), self.dropout, key)
        with scope("encoder"):
            annotations, carries = self.encoder.apply(params["encoder"], x, lengths)
        first = carries["layers"][0]["backward"]["hidden"]
        places = source.shape[-1]
        ends = jnp.full(source.shape[:-1], places) if lengths is None else jnp.asarray(lengths)
        return {
            "memory": annotations,
            "keys": linear(params["align"]["key"], annotations),
            "valid": lax.broadcasted_iota(int, source.shape, source.ndim - 1) < ends[..., None],
            "decoder": {"hidden": jnp.tanh(linear(params["start"], first))},
        }

    def decode(self, params, target, state, key=None):
        """target[..., time] and the state -> (logits[..., time, target_vocab] of the tokens that follow, state)"""
        x = dropout(embedding(params["target"], target), self.dropout, fold(key, "target"))

        def step(carry, token):
            s = carry["hidden"]
            weights = self._attend(params["align"], s, state["keys"], state["valid"])
            context = jnp.einsum("...p,...pf->...f", weights, state["memory"])
            _, carry = gru_cell(params["decoder"], jnp.concatenate([token, context], -1), carry)
            return carry, (jnp.concatenate([s, token, context], -1), weights if observing() else None)

        carry, (seen, weights) = lax.scan(step, state["decoder"], jnp.moveaxis(x, -2, 0))
        if weights is not None:
            tap("attention", jnp.moveaxis(weights, 0, -2))
        deep = linear(params["deep"], jnp.moveaxis(seen, 0, -2)).max(-1)
        logits = linear(params["head"], dropout(deep, self.dropout, fold(key, "deep")))
        return logits, {**state, "decoder": carry}

    def _attend(self, p, s, keys, valid):
        """s[..., hidden] -> softmax over places j of v · tanh(W s + U h_j), [..., places]"""
        scores = linear(p["score"], jnp.tanh(linear(p["query"], s)[..., None, :] + keys))[..., 0]
        scores = jnp.where(valid, scores.astype(wide_dtype(scores)), -1e30)
        return jnp.where(valid, jax.nn.softmax(scores), 0).astype(keys.dtype)

    def greedy(self, params, source, start: int, steps: int, lengths=None) -> jax.Array:
        """source[..., places] -> the likeliest token at each step after `start`, [..., steps], as one scan"""
        state = self.encode(params, source, lengths)

        def step(carry, _):
            token, state = carry
            logits, state = self.decode(params, token[..., None], state)
            token = logits[..., 0, :].argmax(-1).astype(token.dtype)
            return (token, state), token

        begin = jnp.full(source.shape[:-1], start, jnp.int32)
        _, tokens = lax.scan(step, (begin, state), None, length=steps)
        return jnp.moveaxis(tokens, 0, -1)
