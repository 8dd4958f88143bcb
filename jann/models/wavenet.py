"""WaveNet: causal dilated convolutions over quantised sound."""

import jax
import jax.numpy as jnp
from jax import lax

from jann.core import Model, stack
from jann.depth import apply_blocks, tap
from jann.layers import embedding, embedding_spec, linear, linear_spec

unit_normal = jax.nn.initializers.normal(1.0)


class WaveNet(Model):
    """Gated residual blocks of causal convolutions two samples wide, whose dilations widen what is seen.

    van den Oord et al. 2016, "WaveNet: a generative model for raw audio", arXiv:1609.03499. The logits at a place are
    of the next sample; they see the `receptive_field` samples up to it. The paper's first causal convolution of one-hot
    samples is a look-up here, since the first block already sees two samples.

    levels:     values of a sample: 256 for `jann.data.mu_law_encode`
    dilations:  how far back each block's second sample lies
    residual:   channels between the blocks (the gated units have as many)
    skip:       channels of the sum over all blocks that the output is made from
    classes:    with global conditioning, how many (digits, speakers); 0 for none
    """

    levels: int = 256
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    residual: int = 32
    skip: int = 128
    classes: int = 0

    def __post_init__(self):
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(f"WaveNet.dilations are at least one number, each at least 1, got {self.dilations}")

    @property
    def receptive_field(self) -> int:
        """How many samples, the present one included, an output depends on."""
        return 1 + sum(self.dilations)

    def spec(self):
        block = {
            "past": linear_spec(self.residual, 2 * self.residual, bias=False),
            "present": linear_spec(self.residual, 2 * self.residual),
            "residual": linear_spec(self.residual, self.residual),
            "skip": linear_spec(self.residual, self.skip),
        }
        if self.classes:
            block["condition"] = embedding_spec(self.classes, 2 * self.residual)
        return {
            "embedding": embedding_spec(self.levels, self.residual, unit_normal),
            "blocks": stack(block, layers=len(self.dilations)),
            "hidden": linear_spec(self.skip, self.skip),
            "head": linear_spec(self.skip, self.levels),
        }

    def apply(self, params, samples, label=None, state=None, key=None):
        """samples[..., time], label[...] of the conditioning -> (logits[..., time, levels], what goes on from here)

        The state holds each block's last inputs, as in Paine et al. 2016, "Fast WaveNet", arXiv:1611.09482, so a
        sequence may come in pieces of any length. Drawing one sample at a time is fastest with blocks as a list
        (`jann.unstacked`), each then keeping as many inputs as its own dilation.
        """
        if bool(self.classes) != (label is not None):
            wanted = f"a label of {self.classes} classes" if self.classes else "no label (classes=0)"
            raise ValueError(f"{self!r} takes {wanted}, got {'none' if label is None else 'one'}")
        blocks = params["blocks"]
        dilations = list(self.dilations) if isinstance(blocks, list) else jnp.array(self.dilations)

        def block(x, p, dilation, queue):
            return self._block(x, p, dilation, queue, label)

        x = embedding(params["embedding"], samples)
        skipped = jnp.zeros((*x.shape[:-1], self.skip), x.dtype)
        (x, skipped), queues = apply_blocks(block, (x, skipped), blocks, dilations, state)
        hidden = jax.nn.relu(linear(params["hidden"], jax.nn.relu(tap("skipped", skipped))))
        return linear(params["head"], hidden), queues

    def _block(self, x, p, dilation, queue, label):
        """(x[..., time, residual], sum of skips), the inputs before x -> the same after the block, the last inputs"""
        x, skipped = x
        time = x.shape[-2]
        if queue is None:
            kept = dilation if isinstance(dilation, int) else max(self.dilations)
            queue = jnp.zeros((*x.shape[:-2], kept, x.shape[-1]), x.dtype)
        history = jnp.concatenate([queue, x], -2)
        # Two products of matrices: XLA's CPU backend is slow with convolutions.
        past = lax.dynamic_slice_in_dim(history, queue.shape[-2] - dilation, time, -2)
        gates = linear(p["past"], past) + linear(p["present"], x)
        if label is not None:
            gates = gates + embedding(p["condition"], label)[..., None, :].astype(x.dtype)
        values, gate = jnp.split(gates, 2, -1)
        unit = tap("unit", jnp.tanh(values) * jax.nn.sigmoid(gate))
        out = (x + linear(p["residual"], unit), skipped + linear(p["skip"], unit))
        return out, history[..., time:, :]
