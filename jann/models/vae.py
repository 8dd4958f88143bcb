"""The variational autoencoder, its evidence lower bound and the importance-weighted one."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jann.core import Model, Param
from jann.depth import scope, tap
from jann.drawing import fold
from jann.functions import remembered
from jann.layers import one_hot
from jann.layers.dtypes import wide_dtype
from jann.models.mlp import MLP
from jann.trees import Tree


class VAE(Model):
    """A latent variable z ~ N(0, I), a decoder p(x|z), and an encoder q(z|x) = N(mean, diagonal variance) beside it.

    Kingma and Welling 2014, "Auto-encoding variational Bayes", ICLR. Conditional on a class as in Sohn, Lee and Yan
    2015: the label goes into the encoder and the decoder.

    hidden:      sizes of the encoder's layers, mirrored in the decoder; none makes both linear
    classes:     conditional on labels below it; 0 for none
    likelihood:  "bernoulli" of each input, x in {0, 1}, decoded to logits, or "gaussian" around the decoded mean with
                 one learned variance (then hidden=() is probabilistic PCA: Lucas et al. 2019)
    """

    inputs: int
    hidden: tuple[int, ...]
    latent: int
    classes: int = 0
    likelihood: str = "bernoulli"
    activation: Callable = jax.nn.relu

    def __post_init__(self):
        if self.likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"VAE.likelihood must be 'bernoulli' or 'gaussian', got {self.likelihood!r}")

    @property
    def encoder(self) -> MLP:
        return MLP(self.inputs + self.classes, self.hidden, 2 * self.latent, self.activation)

    @property
    def decoder(self) -> MLP:
        return MLP(self.latent + self.classes, self.hidden[::-1], self.inputs, self.activation)

    def spec(self):
        spec = {"encoder": self.encoder.spec(), "decoder": self.decoder.spec()}
        return {**spec, "log_variance": Param({})} if self.likelihood == "gaussian" else spec

    def encode(self, params, x, label=None):
        """x[..., inputs] -> (mean[..., latent], log_variance[..., latent]) of q(z|x)"""
        with scope("encoder"):
            return jnp.split(self.encoder(params["encoder"], self._with_class(x, label)), 2, -1)

    def decode(self, params, z, label=None):
        """z[..., latent] -> [..., inputs]: the logits (Bernoulli) or the mean (Gaussian) of p(x|z)"""
        with scope("decoder"):
            return self.decoder(params["decoder"], self._with_class(z, label))

    def apply(self, params, x, label=None, state=None, key=None):
        """x[..., inputs] -> decoded z[..., inputs], with z drawn from q(z|x), or its mean without a key"""
        mean, log_variance = self.encode(params, x, label)
        mean, log_variance = tap("mean", mean), tap("log_variance", log_variance)
        z = mean
        if key is not None:
            z = mean + jnp.exp(log_variance / 2) * jax.random.normal(fold(key, "latent"), mean.shape, mean.dtype)
        return self.decode(params, tap("latent", z), label), state

    def expected(self, params, z, label=None):
        """z[..., latent] -> [..., inputs]: the mean of p(x|z), probabilities where it is Bernoulli"""
        decoded = self.decode(params, z, label)
        return jax.nn.sigmoid(decoded) if self.likelihood == "bernoulli" else decoded

    def sample(self, params, key, shape=(), label=None):
        """key -> [*shape, inputs]: the mean of p(x|z) for each z drawn from N(0, I); label[*shape] where conditional"""
        return self.expected(params, jax.random.normal(key, (*shape, self.latent)), label)

    def log_likelihood(self, params, decoded, x):
        """decoded[..., inputs], x[..., inputs] -> log p(x|z) [...] in nats"""
        decoded, x = _wide(decoded), _wide(x)
        if self.likelihood == "bernoulli":
            return -optax.sigmoid_binary_cross_entropy(decoded, x).sum(-1)
        log_variance = _wide(params["log_variance"])
        each = jnp.square(x - decoded) * jnp.exp(-log_variance) + log_variance + math.log(2 * math.pi)
        return -0.5 * each.sum(-1)

    def _with_class(self, x, label):
        if (label is None) != (self.classes == 0):
            given = "needs labels" if label is None else "takes no labels"
            raise ValueError(f"a VAE with classes={self.classes} {given}")
        if label is None:
            return x
        return jnp.concatenate([x, one_hot(label, self.classes).astype(x.dtype)], -1)


def _wide(x: jax.Array) -> jax.Array:
    """In at least float32: sums of squares in half precision are off by whole nats."""
    return x.astype(wide_dtype(x))


def gaussian_kl(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(N(mean, variance) || N(0, I)) [...] in nats, of mean[..., latent] and log_variance[..., latent]

    Σ (mean² + variance − 1 − log variance) / 2 (Kingma and Welling 2014, appendix B)
    """
    mean, log_variance = _wide(mean), _wide(log_variance)
    return 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).sum(-1)


def elbo(model: VAE, params: Tree, x: jax.Array, key: jax.Array, label: jax.Array | None = None) -> dict:
    """x[..., inputs] -> {"elbo", "reconstruction", "kl"}, each [...] in nats; elbo = reconstruction − kl ≤ log p(x)

    reconstruction is log p(x|z) at one z drawn from q(z|x), kl is KL(q(z|x) || p(z)) in closed form.
    """
    mean, log_variance = model.encode(params, x, label)
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    decoded = model.decode(params, mean + jnp.exp(log_variance / 2) * noise, label)
    reconstruction, kl = model.log_likelihood(params, decoded, x), gaussian_kl(mean, log_variance)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}


def importance_bound(
    model: VAE, params: Tree, x: jax.Array, key: jax.Array, samples: int, label: jax.Array | None = None
) -> jax.Array:
    """x[..., inputs] -> log mean_k p(x, z_k) / q(z_k|x) [...] in nats, with `samples` draws z_k from q(z|x)

    Between the ELBO (its value with one sample) and log p(x), to which it rises with `samples`. One sample is in memory
    at a time. Burda, Grosse and Salakhutdinov 2016, "Importance weighted autoencoders", ICLR.
    """
    if samples < 1:
        raise ValueError(f"samples={samples}: the importance-weighted bound takes at least one")
    encoded = model.encode(params, x, label)
    mean, log_variance = map(_wide, encoded)

    def log_weight(k):
        noise = jax.random.normal(jax.random.fold_in(key, k), mean.shape, mean.dtype)
        z = mean + jnp.exp(log_variance / 2) * noise
        prior_over_posterior = 0.5 * (jnp.square(noise) + log_variance - jnp.square(z)).sum(-1)
        decoded = model.decode(params, z.astype(encoded[0].dtype), label)
        return model.log_likelihood(params, decoded, x) + prior_over_posterior

    return jax.nn.logsumexp(jax.lax.map(log_weight, jnp.arange(samples)), 0) - math.log(samples)


@remembered
def elbo_objective(model: VAE, beta: float = 1.0, inputs: str = "image") -> Callable:
    """The loss of `make_step`: the mean of beta × kl − reconstruction, with both and the ELBO among the metrics.

    The batch's "label" is the condition where the model has classes. beta above 1 gives latents that vary more
    independently (Higgins et al. 2017, "beta-VAE", ICLR).
    """

    def loss(params, batch, key, extra=None):
        label = batch["label"] if model.classes else None
        means = {name: values.mean() for name, values in elbo(model, params, batch[inputs], key, label).items()}
        return beta * means["kl"] - means["reconstruction"], (means, extra)

    return loss
