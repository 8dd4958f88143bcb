"""Prompt tuning: trained virtual tokens before the input of a frozen decoder (Lester et al. 2021, arXiv:2104.08691)."""

from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model, Param
from jann.data.sequences import as_tokens
from jann.drawing import fold
from jann.layers import embedding, standard_normal
from jann.trees import Tree


class PromptTuned(Model):
    """A decoder that reads `places` trained vectors before its tokens; the vectors take up positions too.

    model:   with `features(..., embedded=...)`, such as GPT2 and Llama; its parameters are those under "model"
    places:  how many vectors

    `jann.partition(params, "^prompt$")` gives what trains, and the frozen rest.
    """

    model: Model
    places: int = 20

    def spec(self):
        if getattr(self.model, "labels", 0):
            raise ValueError(f"prompts go before tokens that are foretold, and {self.model} tells labels")
        spec = self.model.spec()
        prompt = Param({"places": self.places, "embed": spec["tokens"]["table"].axes["embed"]}, standard_normal)
        return {"prompt": prompt, "model": spec}

    def apply(self, params, tokens, lengths=None, state=None, key=None):
        """tokens[..., time] of which `lengths` are there -> logits of the token after each, [..., time, vocab]

        state:  from `cache`: then tokens go on from those before, and the state holds them too
        """
        x, state = self.features(params, tokens, lengths, state, key)
        return self.logits(params, x), state

    def features(self, params, tokens, lengths=None, state=None, key=None):
        """tokens[..., time] -> (what the logits are made of [..., time, embed], state)

        state:  from `cache`: then the vectors are read first; the one that comes back has them in it
        """
        if state is not None and "unprompted" not in state:
            return self.model.features(params["model"], tokens, lengths=lengths, state=state, key=key)
        x = embedding(params["model"]["tokens"], tokens)
        prompt = jnp.broadcast_to(params["prompt"].astype(x.dtype), (*tokens.shape[:-1], *params["prompt"].shape))
        x = jnp.concatenate([prompt, x], -2)
        stand_ins = jnp.zeros(x.shape[:-1], jnp.int32)
        lengths = None if lengths is None else jnp.asarray(lengths) + self.places
        state = None if state is None else state["unprompted"]
        x, state = self.model.features(params["model"], stand_ins, lengths=lengths, state=state, key=key, embedded=x)
        return x[..., self.places :, :], state

    def logits(self, params, x):
        """[..., embed] -> [..., vocab]"""
        return self.model.logits(params["model"], x)

    @property
    def vocab(self) -> int:
        return self.model.vocab

    @property
    def limit(self) -> int | None:
        """The most tokens that it can see after its vectors; None where the model has no limit."""
        limit = getattr(self.model, "limit", None)
        return None if limit is None else limit - self.places

    def cache(self, lead: tuple[int, ...], places: int, dtype: Any = jnp.float32):
        """The state before the first token, with room for the vectors and `places` tokens in rows of shape `lead`.

        The vectors are not in it, being parameters: the first tokens that are read with it come behind them.
        """
        return {"unprompted": self.model.cache(lead, self.places + places, dtype)}


def prompt_tuned(
    model: Model, params: Tree, places: int = 20, *, key: jax.Array | None = None, tokens: Any = None
) -> tuple[PromptTuned, Tree]:
    """A decoder and its parameters -> (the model that reads a prompt before its input, parameters with that prompt)

    The vectors start as the embeddings of `tokens` (ids of words that say what is wanted), a vector for each, or of
    `places` tokens drawn with a key.

        model, params = jann.adapt.prompt_tuned(model, params, places=20, key=key)
        train, rest = jann.partition(params, "^prompt$")
        step = jann.make_step(jann.adapt.frozen(jann.objective(model, jann.language, "token"), rest), optimizer)

    Raises ValueError for both or neither, for tokens that are no list of ids or that the model does not have.
    """
    if (key is None) == (tokens is None):
        raise ValueError("the vectors start from tokens, or from a key that draws them: give one of the two")
    if tokens is None:
        tokens = jax.random.randint(fold(key, "prompt"), (places,), 0, model.vocab)
    else:
        tokens = as_tokens(tokens, "tokens")
        if ((tokens < 0) | (tokens >= model.vocab)).any():
            raise ValueError(f"tokens={tokens.tolist()}: ids are 0 .. {model.vocab - 1}")
    prompt = embedding(params["tokens"], tokens).astype(jnp.float32)
    return PromptTuned(model, len(tokens)), {"prompt": prompt, "model": params}
