"""Prompt tuning: trained virtual tokens before the input of a frozen decoder (Lester et al. 2021, arXiv:2104.08691)."""

from typing import Any

import jax
import jax.numpy as jnp

from jann.core import Model, Param
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
        prompt = Param({"places": self.places, "embed": self.model.embed}, standard_normal)
        return {"prompt": prompt, "model": self.model.spec()}

    def apply(self, params, tokens, lengths=None, state=None, key=None):
        """tokens[..., time] of which `lengths` are there -> logits of the token after each, [..., time, vocab]"""
        x, state = self.features(params, tokens, lengths, state, key)
        return self.logits(params, x), state

    def features(self, params, tokens, lengths=None, state=None, key=None):
        """tokens[..., time] -> (what the logits are made of [..., time, embed], state)

        state:  from `begin`: then the vectors, and tokens before these, are in it already
        """
        if state is not None:
            return self.model.features(params["model"], tokens, lengths=lengths, state=state, key=key)
        x, _ = self.prompted(params, tokens, lengths, None, key)
        return x[..., self.places :, :], None

    def prompted(self, params, tokens, lengths, state, key=None):
        """tokens[..., time] -> (features of vectors and tokens [..., places + time, embed], the state with both)"""
        x = embedding(params["model"]["tokens"], tokens)
        prompt = jnp.broadcast_to(params["prompt"].astype(x.dtype), (*tokens.shape[:-1], *params["prompt"].shape))
        x = jnp.concatenate([prompt, x], -2)
        stand_ins = jnp.zeros(x.shape[:-1], jnp.int32)
        lengths = None if lengths is None else jnp.asarray(lengths) + self.places
        return self.model.features(params["model"], stand_ins, lengths=lengths, state=state, key=key, embedded=x)

    def logits(self, params, x):
        """[..., embed] -> [..., vocab]"""
        return self.model.logits(params["model"], x)

    @property
    def vocab(self) -> int:
        return self.model.vocab

    def begin(self, params, inputs, lengths, places: int, dtype: Any = jnp.float32):
        """What `generate` starts from: inputs[rows, time] -> (the last of each row [rows, 1], a state with all before)

        Raises ValueError where vectors, inputs (as `generate` fills them up) and what is to be made are more than the
        model's positions.
        """
        room, limit = self.places + inputs.shape[-1] + places - 1, getattr(self.model, "limit", None)
        if limit is not None and room > limit:
            raise ValueError(
                f"{self.places} vectors, {inputs.shape[-1]} tokens and {places - 1} new ones are more than the model's "
                f"{limit} positions: shorten the prompt or ask for fewer"
            )
        state = self.model.cache(inputs.shape[:-1], room, dtype)
        _, state = self.prompted(params, inputs, lengths - 1, state)
        return jnp.take_along_axis(jnp.asarray(inputs), lengths[:, None] - 1, 1), state


def prompt_tuned(
    model: Model, params: Tree, places: int = 20, *, key: jax.Array | None = None, tokens: Any = None
) -> tuple[PromptTuned, Tree]:
    """A decoder and its parameters -> (the model that reads a prompt before its input, parameters with that prompt)

    The vectors start as the embeddings of `tokens` (words that say what is wanted), or of tokens drawn with a key.

        model, params = jann.adapt.prompt_tuned(model, params, places=20, key=key)
        train, rest = jann.partition(params, "^prompt$")
        step = jann.make_step(jann.adapt.frozen(jann.objective(model, jann.language, "token"), rest), optimizer)
    """
    if (key is None) == (tokens is None):
        raise ValueError("the vectors start from tokens, or from a key that draws them: give one of the two")
    if tokens is None:
        tokens = jax.random.randint(fold(key, "prompt"), (places,), 0, model.vocab)
    tokens = jnp.asarray(tokens)
    prompt = embedding(params["tokens"], tokens).astype(jnp.float32)
    return PromptTuned(model, tokens.shape[0]), {"prompt": prompt, "model": params}
