"""Autoencoders: networks that reproduce their input through a small code."""

from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.depth import scope, tap
from jann.layers import conv, conv_spec, conv_transpose, linear, linear_spec
from jann.models.mlp import MLP


class Autoencoder(Model):
    """Dense layers down to a code, and the same sizes up again.

    Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", Science 313. It is made
    to ignore noise (Vincent et al. 2008) by a noisy input beside the clean target, and sparse by `jann.penalised` on
    the tap "code"; neither changes the model.

    hidden:           sizes of the encoder's layers, mirrored in the decoder; none makes it linear
    code_activation:  what the code goes through; a sigmoid where `sparsity` counts its units as on or off
    """

    inputs: int
    hidden: tuple[int, ...]
    code: int
    activation: Callable = jax.nn.relu
    code_activation: Callable = jax.nn.identity

    @property
    def encoder(self) -> MLP:
        return MLP(self.inputs, self.hidden, self.code, self.activation)

    @property
    def decoder(self) -> MLP:
        return MLP(self.code, self.hidden[::-1], self.inputs, self.activation)

    def spec(self):
        return {"encoder": self.encoder.spec(), "decoder": self.decoder.spec()}

    def encode(self, params, x):
        """x[..., inputs] -> code[..., code]"""
        with scope("encoder"):
            return self.code_activation(self.encoder(params["encoder"], x))

    def decode(self, params, code):
        """code[..., code] -> [..., inputs]"""
        with scope("decoder"):
            return self.decoder(params["decoder"], code)

    def apply(self, params, x, state=None, key=None):
        """x[..., inputs] -> its reconstruction [..., inputs]"""
        return self.decode(params, tap("code", self.encode(params, x))), state


class ConvAutoencoder(Model):
    """Convolutions of stride 2 down to a code, transposed convolutions up again.

    Masci, Meier, Ciresan and Schmidhuber 2011, "Stacked convolutional auto-encoders for hierarchical feature
    extraction", ICANN, with strides in place of max-pooling.

    channels:  of the image
    size:      its height and width, which each convolution halves
    widths:    channels of the encoder's convolutions, mirrored in the decoder
    """

    channels: int
    size: int
    widths: tuple[int, ...]
    code: int
    activation: Callable = jax.nn.relu
    code_activation: Callable = jax.nn.identity

    def __post_init__(self):
        if self.size % 2 ** len(self.widths):
            raise ValueError(
                f"ConvAutoencoder halves size={self.size} once for each of widths={self.widths}: "
                f"give a multiple of {2 ** len(self.widths)}, or fewer widths"
            )

    @property
    def smallest(self) -> tuple[int, int, int]:
        """Height, width and channels of what the code is made of."""
        side = self.size // 2 ** len(self.widths)
        return side, side, self.widths[-1]

    def spec(self):
        channels = (self.channels, *self.widths)
        side, _, width = self.smallest
        places = side * side * width
        return {
            "encoder": [conv_spec(a, b, (4, 4)) for a, b in pairwise(channels)],
            "code": linear_spec(places, self.code),
            "places": linear_spec(self.code, places),
            "decoder": [conv_spec(a, b, (4, 4)) for a, b in pairwise(channels[::-1])],
        }

    def encode(self, params, x):
        """x[..., size, size, channels] -> code[..., code]"""
        for i, p in enumerate(params["encoder"]):
            x = tap(f"encoder_{i}", self.activation(conv(p, x, stride=2)))
        return self.code_activation(linear(params["code"], jax.lax.collapse(x, -3)))

    def decode(self, params, code):
        """code[..., code] -> [..., size, size, channels]"""
        x = linear(params["places"], code)
        x = x.reshape(*x.shape[:-1], *self.smallest)
        for i, p in enumerate(params["decoder"]):
            x = conv_transpose(p, tap(f"decoder_{i}", self.activation(x)), stride=2)
        return x

    def apply(self, params, x, state=None, key=None):
        """x[..., size, size, channels] -> its reconstruction, of the same shape"""
        return self.decode(params, tap("code", self.encode(params, x))), state


def sparsity(code: jax.Array, share: float = 0.05) -> jax.Array:
    """code[..., units] between 0 and 1 -> Σ_units KL(share || mean of the unit over all examples), in nats

    0 where each unit is on for `share` of the examples. (Lee, Ekanadham and Ng 2008; Ng 2011, CS294A lecture notes)
    """
    on = code.reshape(-1, code.shape[-1]).astype(jnp.float32).mean(0)
    on = jnp.clip(on, 1e-6, 1 - 1e-6)  # a unit that is never on would cost infinitely much
    return (share * jnp.log(share / on) + (1 - share) * jnp.log((1 - share) / (1 - on))).sum()


def absolute(code: jax.Array) -> jax.Array:
    """code[..., units] -> Σ_units |code|, the mean over all examples: the L1 penalty, which pulls to exactly zero."""
    return jnp.abs(code.astype(jnp.float32)).sum(-1).mean()
