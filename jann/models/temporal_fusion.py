"""The Temporal Fusion Transformer: quantiles of the future, and what they were made of."""

import math

import jax
import jax.numpy as jnp

from jann.core import Model, stack
from jann.depth import depth_keys, tap
from jann.drawing import fold
from jann.layers import dropout, embedding, embedding_spec, instance_norm, linear, linear_spec, lstm, lstm_spec
from jann.layers.dtypes import wide_dtype
from jann.layers.gated_residual import (
    gated_residual,
    gated_residual_spec,
    gated_skip,
    gated_skip_spec,
    variable_selection,
    variable_selection_spec,
)

CONTEXTS = ("selection", "enrichment", "hidden", "cell")  # what static variables are encoded for


class TemporalFusionTransformer(Model):
    """Forecasts quantiles of one quantity from what was observed, what is known ahead, and what never changes.

    Networks select among the variables, an LSTM reads the past and what is known of the future, attention looks for
    what is far back, and gates let each of these be left out.

    Lim, Arik, Loeff and Pfister 2021, "Temporal fusion transformers for interpretable multi-horizon time series
    forecasting", International Journal of Forecasting 37, arXiv:1912.09363.

    observed:   variables of which only the past is known, the quantity to forecast first. A variable is written as 0
                where it is a real number, else as how many categories it has: (0, 0, 24)
    known:      variables known of the future too, such as the hour; at least one, for the decoder reads them
    static:     variables that a series has once and for all, such as its number
    hidden:     features everywhere; heads of the attention share them
    normalise:  bring each window of the quantity to mean 0 and variance 1, and the forecast back (not in the paper)

    Observed as "past_weights", "future_weights" [..., time, variables] and "static_weights": how much each variable was
    selected, past variables in the order observed, known. "attention" [..., horizon, lookback + horizon]: mean of the
    heads.
    """

    lookback: int
    horizon: int
    observed: tuple[int, ...] = (0,)
    known: tuple[int, ...] = (24, 7)
    static: tuple[int, ...] = ()
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    hidden: int = 16
    heads: int = 4
    dropout: float = 0.0
    normalise: bool = False

    def __post_init__(self):
        if not self.known or not self.observed:
            missing = "known" if self.observed else "observed"
            raise ValueError(f"TemporalFusionTransformer.{missing} is empty: name a variable, 0 or its categories each")
        if self.hidden % self.heads:
            raise ValueError(f"heads={self.heads} must divide hidden={self.hidden}")

    def spec(self):
        hidden, context = self.hidden, self.hidden if self.static else None
        residual = gated_residual_spec(hidden, hidden)
        spec = {
            "variables": {name: self._variables_spec(name) for name in ("observed", "known", "static")},
            "past": variable_selection_spec(len(self.observed + self.known), hidden, context),
            "future": variable_selection_spec(len(self.known), hidden, context),
            "encoder": lstm_spec(hidden, hidden),
            "decoder": lstm_spec(hidden, hidden),
            "local": gated_skip_spec(hidden, hidden),
            "enrichment": gated_residual_spec(hidden, hidden, context=context),
            "attention": self._attention_spec(),
            "attended": gated_skip_spec(hidden, hidden),
            "positionwise": residual,
            "decoded": gated_skip_spec(hidden, hidden),
            "quantiles": linear_spec(hidden, len(self.quantiles)),
        }
        if self.static:
            spec["static"] = variable_selection_spec(len(self.static), hidden)
            spec["contexts"] = stack(residual, contexts=len(CONTEXTS))
        return spec

    def apply(self, params, inputs, state=None, key=None):
        """{"observed"[..., lookback, variables], "known"[..., lookback + horizon, variables], "static"[..., variables]}

        -> quantiles [..., horizon, quantiles]
        """
        observed, known = inputs["observed"], inputs["known"]
        self._check(observed, known, inputs.get("static"))
        if self.normalise:
            target, mean, deviation = instance_norm(observed[..., :1])
            observed = jnp.concatenate([target, observed[..., 1:]], axis=-1)

        def noisy(layer, name, *arguments):
            return layer(params[name], *arguments, rate=self.dropout, key=fold(key, name))

        observed, known = (self._embedded(params, *pair) for pair in (("observed", observed), ("known", known)))
        before, ahead = known[..., : self.lookback, :, :], known[..., self.lookback :, :, :]
        context = self._contexts(params, inputs, observed.dtype, key)
        past, weights = noisy(
            variable_selection, "past", jnp.concatenate([observed, before], -2), _over_time(context["selection"])
        )
        tap("past_weights", weights)
        future, weights = noisy(variable_selection, "future", ahead, _over_time(context["selection"]))
        tap("future_weights", weights)

        carry = None if not self.static else {name: context[name] for name in ("hidden", "cell")}
        encoded, carry = lstm(params["encoder"], past, carry)
        decoded, _ = lstm(params["decoder"], future, carry)
        local = noisy(gated_skip, "local", *(jnp.concatenate(p, -2) for p in ((encoded, decoded), (past, future))))
        enriched = noisy(gated_residual, "enrichment", local, _over_time(context["enrichment"]))
        # Only what comes out in the future is used, so only the future asks.
        ahead, local = enriched[..., self.lookback :, :], local[..., self.lookback :, :]
        attended = self._attention(params["attention"], ahead, enriched, fold(key, "attention"))
        attended = noisy(gated_skip, "attended", attended, ahead)
        decoded = noisy(gated_skip, "decoded", noisy(gated_residual, "positionwise", attended, None), local)
        quantiles = linear(params["quantiles"], decoded)
        return (quantiles * deviation + mean if self.normalise else quantiles), state

    def _check(self, observed, known, static):
        if self.static and (static is None or static.shape[-1] != len(self.static)):
            got = "none" if static is None else list(static.shape)
            raise ValueError(f'inputs["static"] must be [..., variables={len(self.static)}], got {got}')
        wanted = (self.lookback, len(self.observed)), (self.lookback + self.horizon, len(self.known))
        for name, array, shape in zip(("observed", "known"), (observed, known), wanted, strict=True):
            if array.shape[-2:] != shape:
                raise ValueError(
                    f'inputs["{name}"] must be [..., time={shape[0]}, variables={shape[1]}], got {list(array.shape)}'
                )

    def _variables_spec(self, name):
        kinds = getattr(self, name)
        return [embedding_spec(n, self.hidden) if n else linear_spec(1, self.hidden) for n in kinds]

    def _embedded(self, params, name, x):
        """x[..., variables] -> [..., variables, hidden], each by a table or a linear map of its own"""
        each = []
        for i, (p, categories) in enumerate(zip(params["variables"][name], getattr(self, name), strict=True)):
            column = x[..., i]
            if jnp.issubdtype(x.dtype, jnp.floating) and categories > 2 ** (jnp.finfo(x.dtype).nmant + 1):
                raise TypeError(
                    f'inputs["{name}"] is {x.dtype}, which cannot tell {categories} categories apart: give float32'
                )
            each.append(embedding(p, column.astype(jnp.int32)) if categories else linear(p, column[..., None]))
        return jnp.stack(each, -2)

    def _contexts(self, params, inputs, dtype, key):
        """Static variables -> a context [..., hidden] for each of CONTEXTS; None where there are none."""
        if not self.static:
            return dict.fromkeys(CONTEXTS)
        static = self._embedded(params, "static", inputs["static"]).astype(dtype)
        static, weights = variable_selection(params["static"], static, None, self.dropout, fold(key, "static"))
        tap("static_weights", weights)

        def encode(p, key):
            return gated_residual(p, static, None, self.dropout, key)

        keys = depth_keys(fold(key, "contexts"), len(CONTEXTS))
        contexts = jax.vmap(encode, in_axes=(0, None if keys is None else 0))(params["contexts"], keys)
        return dict(zip(CONTEXTS, contexts, strict=True))

    def _attention_spec(self):
        head = self.hidden // self.heads
        query = linear_spec({"hidden": self.hidden}, {"heads": self.heads, "head": head}, bias=False)
        value, out = linear_spec(self.hidden, head, bias=False), linear_spec(head, self.hidden, bias=False)
        return {"query": query, "key": query, "value": value, "out": out}

    def _attention(self, p, x, memory, key):
        """x[..., horizon, hidden] attends to memory[..., lookback + horizon, hidden] up to its own time.

        All heads share the values, so that the mean of their weights says what was attended to.
        """
        queries, keys, values = linear(p["query"], x), linear(p["key"], memory), linear(p["value"], memory)
        scores = jnp.einsum("...qhd,...khd->...hqk", queries, keys, preferred_element_type=wide_dtype(x))
        scores = scores / math.sqrt(queries.shape[-1])
        seen = jnp.tril(jnp.ones(scores.shape[-2:], bool), k=self.lookback)
        scores = jnp.where(jax.lax.broadcast_to_rank(seen, scores.ndim), scores, jnp.finfo(scores.dtype).min)
        weights = tap("attention", jax.nn.softmax(scores).mean(-3))
        return linear(p["out"], dropout(weights, self.dropout, key).astype(x.dtype) @ values)


def _over_time(context):
    """context[..., hidden] -> [..., 1, hidden], the same at every time"""
    return None if context is None else context[..., None, :]
