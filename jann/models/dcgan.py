"""DCGAN: a generator and a discriminator of convolutions, for `jann.adversarial_step`."""

from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp

from jann.core import Model, Param
from jann.depth import tap
from jann.layers import (
    batch_norm,
    batch_norm_spec,
    conv,
    conv_spec,
    conv_transpose,
    linear,
    linear_spec,
    one_hot,
    small_normal,
)

WINDOW = (4, 4)  # a multiple of the stride, so that each place of the output is made of equally many


class Generator(Model):
    """Noise to images: a dense layer to a small image of many channels, then transposed convolutions of stride 2.

    Radford, Metz and Chintala 2016, "Unsupervised representation learning with deep convolutional generative
    adversarial networks", ICLR. Conditional as in Mirza and Osindero 2014: the class goes in beside the noise.

    latent:      size of the noise
    size:        height and width of the images, which each transposed convolution doubles
    channels:    of the images, from −1 to 1
    widths:      channels before each transposed convolution
    classes:     conditional on labels below it; 0 for none
    batch_norm:  normalise before each activation
    """

    latent: int = 64
    size: int = 28
    channels: int = 1
    widths: tuple[int, ...] = (64, 32)
    classes: int = 0
    batch_norm: bool = True
    activation: Callable = jax.nn.relu

    def __post_init__(self):
        _check_size(self)

    def spec(self):
        side, bias = self.size // 2 ** len(self.widths), not self.batch_norm  # a norm takes a bias away
        first = {"height": side, "width": side, "channels": self.widths[0]}
        *hidden, last = pairwise((*self.widths, self.channels))
        return {
            "dense": linear_spec({"inputs": self.latent + self.classes}, first, bias, small_normal),
            "norms": [batch_norm_spec(width) for width in self.widths] if self.batch_norm else [],
            "convs": [
                *(conv_spec(a, b, WINDOW, bias=bias, init=small_normal) for a, b in hidden),
                conv_spec(*last, WINDOW, init=small_normal),
            ],
        }

    def apply(self, params, z, label=None, state=None, key=None):
        """z[..., latent], label[...] -> (images[..., size, size, channels] from −1 to 1, batch statistics)"""
        label, statistics = _as_input(self, label), []
        x = z if label is None else jnp.concatenate([z, label.astype(z.dtype)], -1)
        x = linear(params["dense"], x)
        for i, p in enumerate(params["convs"]):
            if self.batch_norm:
                x, found = batch_norm(params["norms"][i], x)
                statistics.append(found)
            x = conv_transpose(p, tap(f"layer_{i}", self.activation(x)), stride=2)
        return jnp.tanh(x), {"norms": statistics}


class Discriminator(Model):
    """Images to one score each: convolutions of stride 2 with leaky activations, then a dense layer.

    Radford, Metz and Chintala 2016; conditional by a projection, so that the score of class c is that of the image plus
    the product of its features with an embedding of c (Miyato and Koyama 2018, "cGANs with projection discriminator").

    size, channels, classes:  as in `Generator`
    widths:                   channels of the convolutions
    batch_norm:               normalise before each activation but the first; not with a gradient penalty
    slope:                    of the leaky activation below zero
    """

    size: int = 28
    channels: int = 1
    widths: tuple[int, ...] = (32, 64)
    classes: int = 0
    batch_norm: bool = True
    slope: float = 0.2

    def __post_init__(self):
        _check_size(self)

    def spec(self):
        features = (self.size // 2 ** len(self.widths)) ** 2 * self.widths[-1]
        first, *rest = pairwise((self.channels, *self.widths))
        spec = {
            "convs": [
                conv_spec(*first, WINDOW, init=small_normal),
                *(conv_spec(a, b, WINDOW, bias=not self.batch_norm, init=small_normal) for a, b in rest),
            ],
            "norms": [batch_norm_spec(width) for width in self.widths[1:]] if self.batch_norm else [],
            "score": linear_spec(features, 1, init=small_normal),
        }
        if self.classes:
            spec["classes"] = {"table": Param({"classes": self.classes, "features": features}, small_normal)}
        return spec

    def apply(self, params, x, label=None, state=None, key=None):
        """x[..., size, size, channels], label[...] -> (scores[...], batch statistics)"""
        label, statistics = _as_input(self, label), []
        for i, p in enumerate(params["convs"]):
            x = conv(p, x, stride=2)
            if self.batch_norm and i > 0:
                x, found = batch_norm(params["norms"][i - 1], x)
                statistics.append(found)
            x = tap(f"layer_{i}", jax.nn.leaky_relu(x, self.slope))
        features = jax.lax.collapse(x, -3)
        score = linear(params["score"], features)[..., 0]
        if label is not None:
            score = score + (features * (label @ params["classes"]["table"]).astype(x.dtype)).sum(-1)
        return score, {"norms": statistics}


def _check_size(model: Generator | Discriminator) -> None:
    n = len(model.widths)
    if model.size % 2**n or model.size < 2**n:
        raise ValueError(
            f"{type(model).__name__} has a stride of 2 for each of widths={model.widths}, so size={model.size} must be "
            f"a multiple of {2**n}: give another size, or fewer widths"
        )


def _as_input(model: Generator | Discriminator, label: jax.Array | None) -> jax.Array | None:
    if (label is None) != (model.classes == 0):
        given = "needs labels" if label is None else "takes no labels"
        raise ValueError(f"a {type(model).__name__} with classes={model.classes} {given}")
    return None if label is None else one_hot(label, model.classes)
