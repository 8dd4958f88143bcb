"""Recurrent networks: Elman's RNN, the LSTM and the GRU, in layers and in both directions; and a classifier on top."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.depth import apply_blocks, depth_keys, scope, tap
from jann.drawing import fold
from jann.layers import dropout, gru, gru_spec, linear, linear_spec, lstm, lstm_spec, rnn, rnn_spec
from jann.layers.dtypes import wide_dtype
from jann.trees import Tree


class Recurrent(Model):
    """What RNN, LSTM and GRU share: layers of one cell, each reading the outputs of the one below.

    inputs:         features of each step
    hidden:         features of the carry, and of the outputs in each direction
    layers:         cells on top of each other
    bidirectional:  each layer also reads from the end to the start; its outputs are both readings side by side
                    (Schuster and Paliwal 1997)
    dropout:        rate between layers, not over time (Zaremba et al. 2014, arXiv:1409.2329)

    The state is every layer's carry, {"layers": [{"forward": carry}, ...]}. Given back, it goes on where the sequence
    ended, so that a stream in pieces equals the whole; a bidirectional network gives out its carries but takes none.
    """

    inputs: int
    hidden: int
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0

    def __post_init__(self):
        if self.layers < 1:
            raise ValueError(f"{type(self).__name__}.layers must be at least 1, got {self.layers}")

    @property
    def directions(self) -> tuple[str, ...]:
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @property
    def outputs(self) -> int:
        """Features of the outputs: hidden × directions."""
        return self.hidden * len(self.directions)

    def spec(self):
        widths = [self.inputs] + [self.outputs] * (self.layers - 1)
        return {"layers": [{direction: self.cell_spec(width) for direction in self.directions} for width in widths]}

    def apply(self, params, x, lengths=None, state=None, key=None):
        """x[..., time, inputs], lengths[...] of the valid parts -> (h[..., time, hidden × directions], state)

        Padding beyond a length changes nothing: its outputs are zero, the carry is that of the valid part's end (see
        `jann.layers.lstm`).
        """
        if state is not None:
            if self.bidirectional:
                raise ValueError(f"{self!r} also reads from the end, so it cannot go on from a state: give it none")
            if not isinstance(state, dict) or len(state.get("layers", ())) != self.layers:
                raise ValueError(f"{self!r} goes on from a state such as it returns, with {self.layers} layers")

        def layer(x, p, carries, key):
            outputs, after = [], {}
            for direction in self.directions:
                carry = None if carries is None else carries[direction]
                h, after[direction] = self.cell(p[direction], x, carry, lengths, direction == "backward")
                outputs.append(h)
            h = tap("hidden", outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, -1))
            return dropout(h, self.dropout, key), after

        keys = None
        if key is not None:  # none after the last layer
            keys = [*depth_keys(key, self.layers - 1), None]
        x, carries = apply_blocks(layer, x, params["layers"], None if state is None else state["layers"], keys)
        return x, {"layers": carries}

    def carry(self, *leading: int, dtype=jnp.float32) -> Tree:
        """The state before the first step of x[*leading, time, inputs]: zeros."""
        if self.bidirectional:
            raise ValueError(f"{self!r} also reads from the end, so it has no carry to start from")
        params = jax.eval_shape(self.init, jax.random.key(0))
        x = jax.ShapeDtypeStruct((*leading, 1, self.inputs), dtype)
        _, state = jax.eval_shape(self.apply, params, x)
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)


class RNN(Recurrent):
    """Elman's network: h_t = activation(W x_t + U h_{t-1} + b).

    Elman 1990, "Finding structure in time", Cognitive Science 14. Fields, shapes and state: see `Recurrent`.
    """

    activation: Callable = jnp.tanh

    def cell_spec(self, inputs):
        return rnn_spec(inputs, self.hidden)

    def cell(self, p, x, carry, lengths, reverse):
        return rnn(p, x, carry, lengths, reverse, self.activation)


class LSTM(Recurrent):
    """Long short-term memory: a cell that gates write, keep and read.

    Hochreiter and Schmidhuber 1997, "Long short-term memory", Neural Computation 9; with the forget gate of Gers et al.
    2000. Fields, shapes and state: see `Recurrent`.
    """

    def cell_spec(self, inputs):
        return lstm_spec(inputs, self.hidden)

    def cell(self, p, x, carry, lengths, reverse):
        return lstm(p, x, carry, lengths, reverse)


class GRU(Recurrent):
    """Gated recurrent units: an update gate mixes the old state with a new one.

    Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", arXiv:1406.1078. Fields, shapes and
    state: see `Recurrent`.
    """

    def cell_spec(self, inputs):
        return gru_spec(inputs, self.hidden)

    def cell(self, p, x, carry, lengths, reverse):
        return gru(p, x, carry, lengths, reverse)


CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
POOLS = ("mean", "last")


def known_cell(model: Model) -> type[Recurrent]:
    """The network that the model's field `cell` names; raises ValueError for a name that is none."""
    if model.cell not in CELLS:
        raise ValueError(f"{type(model).__name__}.cell must be one of {', '.join(CELLS)}, got {model.cell!r}")
    return CELLS[model.cell]


class SequenceClassifier(Model):
    """A recurrent network, what it puts out pooled over the valid steps, and a linear layer.

    inputs:   features of each step
    outputs:  classes
    cell:     "rnn", "lstm" or "gru"
    pool:     "mean" of the outputs over time, or "last": the carries' hidden values where the reading ended
    """

    inputs: int
    outputs: int
    hidden: int
    layers: int = 1
    cell: str = "lstm"
    bidirectional: bool = False
    dropout: float = 0.0
    pool: str = "mean"

    def __post_init__(self):
        known_cell(self)
        if self.pool not in POOLS:
            raise ValueError(f"SequenceClassifier.pool must be one of {', '.join(POOLS)}, got {self.pool!r}")

    @property
    def recurrent(self) -> Recurrent:
        return known_cell(self)(self.inputs, self.hidden, self.layers, self.bidirectional, self.dropout)

    def spec(self):
        return {"recurrent": self.recurrent.spec(), "head": linear_spec(self.recurrent.outputs, self.outputs)}

    def apply(self, params, x, lengths=None, state=None, key=None):
        """x[..., time, inputs], lengths[...] of the valid parts -> logits[..., outputs]; length 0 pools to zeros"""
        with scope("recurrent"):
            h, carries = self.recurrent.apply(params["recurrent"], x, lengths, key=fold(key, "recurrent"))
        if self.pool == "mean":
            total = h.sum(-2, dtype=wide_dtype(h))
            steps = jnp.asarray(x.shape[-2] if lengths is None else lengths, total.dtype)  # 300 is no number of uint8
            pooled = total / jnp.clip(steps, 1, max(x.shape[-2], 1))[..., None]
        else:
            ends = [carries["layers"][-1][direction]["hidden"] for direction in self.recurrent.directions]
            pooled = jnp.concatenate(ends, -1)
        pooled = dropout(tap("pooled", pooled.astype(h.dtype)), self.dropout, fold(key, "dropout"))
        return linear(params["head"], pooled), state
