"""The same GPT as each library writes it, with jann's weights: what the cases of decoders share.

Each takes (sizes, weights by jann's paths) and returns (forward, its parameters or module), with
`forward(params, tokens[batch, time]) -> logits[batch, time, vocab]`, not compiled.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.side_by_side.harness import Arrays

Built = tuple[Callable, Any]


class Sizes(NamedTuple):
    """In the order in which jann's GPT2 takes them."""

    vocab: int
    time: int
    embed: int
    layers: int
    heads: int


def jann_model(sizes: Sizes):
    from jann.models import GPT2

    return GPT2(*sizes)


def sizes_of(weights: Arrays) -> Sizes:
    """The sizes of the model whose weights those are, by jann's paths."""
    vocab, embed = weights["tokens/table"].shape
    time, _ = weights["positions/table"].shape
    layers, _, _, heads, _ = weights["blocks/qkv/weight"].shape
    return Sizes(vocab, time, embed, layers, heads)


def start(sizes: Sizes) -> Arrays:
    """The first weights, by jann's paths."""
    import jax

    import jann

    return {path: np.asarray(leaf) for path, leaf in jann.flatten(jann_model(sizes).init(jax.random.key(0))).items()}


def multiplications(sizes: Sizes, batch: int) -> int:
    """Multiply-and-adds of a forward pass in its products; attention only of what is seen, as if none were wasted."""
    vocab, time, embed, layers, _ = sizes
    tokens, inner = batch * time, 4 * embed
    linear = tokens * embed * (3 * embed + embed + 2 * inner)
    attention = batch * time * (time + 1) * embed
    return layers * (linear + attention) + tokens * embed * vocab


def jann(sizes: Sizes, weights: Arrays) -> Built:
    import jax.numpy as jnp

    import jann

    return jann_model(sizes), jann.unflatten({path: jnp.asarray(leaf) for path, leaf in weights.items()})


def raw(sizes: Sizes, weights: Arrays) -> Built:
    """Plain JAX: functions of a dict, and a scan over the blocks."""
    import jax
    import jax.numpy as jnp

    params: dict = {}
    for path, leaf in weights.items():
        *above, name = path.split("/")
        node = params
        for part in above:
            node = node.setdefault(part, {})
        node[name] = jnp.asarray(leaf)

    def norm(p, x):
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]

    def block(x, p):
        qkv = jnp.einsum("bte,eshd->sbthd", norm(p["attention_norm"], x), p["qkv"]["weight"])
        q, k, v = qkv + p["qkv"]["bias"][:, None, None]
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + jnp.einsum("bthd,hde->bte", y, p["attention_out"]["weight"]) + p["attention_out"]["bias"]
        y = jax.nn.gelu(norm(p["mlp_norm"], x) @ p["mlp_in"]["weight"] + p["mlp_in"]["bias"])
        return x + y @ p["mlp_out"]["weight"] + p["mlp_out"]["bias"], None

    def forward(params, tokens):
        x = params["tokens"]["table"][tokens] + params["positions"]["table"][: tokens.shape[1]]
        x, _ = jax.lax.scan(block, x, params["blocks"])
        return norm(params["norm"], x) @ params["tokens"]["table"].T

    return forward, params


NAMES = {
    "attention_norm": "LayerNorm_0", "qkv": "DenseGeneral_0", "attention_out": "DenseGeneral_1",
    "mlp_norm": "LayerNorm_1", "mlp_in": "Dense_0", "mlp_out": "Dense_1",
}  # fmt: skip


def linen(sizes: Sizes, weights: Arrays) -> Built:
    """Flax Linen, as its examples write a decoder, its blocks scanned."""
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    vocab, time, embed, layers, heads = sizes

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            h = nn.LayerNorm(epsilon=1e-5)(x)
            qkv = nn.DenseGeneral((3, heads, embed // heads))(h)
            h = nn.dot_product_attention(*(qkv[..., i, :, :] for i in range(3)), mask=nn.make_causal_mask(x[..., 0]))
            x = x + nn.DenseGeneral(embed, (-2, -1))(h)
            h = nn.gelu(nn.Dense(4 * embed)(nn.LayerNorm(epsilon=1e-5)(x)))
            return x + nn.Dense(embed)(h), None

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            table = nn.Embed(vocab, embed, name="tokens")
            x = table(tokens) + nn.Embed(time, embed, name="positions")(jnp.arange(tokens.shape[1]))
            blocks = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=layers)
            return table.attend(nn.LayerNorm(epsilon=1e-5, name="norm")(blocks(name="blocks")(x, None)[0]))

    params = {name: {"embedding": weights[f"{name}/table"]} for name in ("tokens", "positions")}
    params["norm"] = {"scale": weights["norm/scale"], "bias": weights["norm/bias"]}
    params["blocks"] = {}
    for ours, theirs in NAMES.items():
        kernel, weight = ("scale", "scale") if "norm" in ours else ("kernel", "weight")
        parts = {kernel: weights[f"blocks/{ours}/{weight}"], "bias": weights[f"blocks/{ours}/bias"]}
        params["blocks"][theirs] = parts
    decoder = Decoder()
    return lambda params, tokens: decoder.apply({"params": params}, tokens), jax.tree.map(jnp.asarray, params)


def nnx(sizes: Sizes, weights: Arrays) -> Built:
    """Flax NNX, its blocks in a list."""
    import jax.numpy as jnp
    from flax import nnx

    vocab, time, embed, layers, heads = sizes

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.attention_norm = nnx.LayerNorm(embed, epsilon=1e-5, rngs=rngs)
            self.qkv = nnx.LinearGeneral(embed, (3, heads, embed // heads), rngs=rngs)
            self.attention_out = nnx.LinearGeneral((heads, embed // heads), embed, axis=(-2, -1), rngs=rngs)
            self.mlp_norm = nnx.LayerNorm(embed, epsilon=1e-5, rngs=rngs)
            self.mlp_in = nnx.Linear(embed, 4 * embed, rngs=rngs)
            self.mlp_out = nnx.Linear(4 * embed, embed, rngs=rngs)

        def __call__(self, x):
            qkv = self.qkv(self.attention_norm(x))
            mask = nnx.make_causal_mask(x[..., 0])
            x = x + self.attention_out(nnx.dot_product_attention(*(qkv[..., i, :, :] for i in range(3)), mask=mask))
            return x + self.mlp_out(nnx.gelu(self.mlp_in(self.mlp_norm(x))))

    class Decoder(nnx.Module):
        def __init__(self, rngs):
            self.tokens = nnx.Embed(vocab, embed, rngs=rngs)
            self.positions = nnx.Embed(time, embed, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(layers)])
            self.norm = nnx.LayerNorm(embed, epsilon=1e-5, rngs=rngs)

        def __call__(self, tokens):
            x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.tokens.attend(self.norm(x))

    decoder = Decoder(nnx.Rngs(0))
    theirs = {"weight": "kernel", "table": "embedding"}
    for path, leaf in weights.items():
        *above, layer, part = path.split("/")
        nodes = zip(decoder.blocks, leaf, strict=True) if above else [(decoder, leaf)]
        for node, value in nodes:
            getattr(getattr(node, layer), theirs.get(part, part))[...] = jnp.asarray(value)
    return lambda decoder, tokens: decoder(tokens), decoder


def equinox(sizes: Sizes, weights: Arrays) -> Built:
    """Equinox: modules for one sequence, and `vmap`."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    vocab, time, embed, layers, heads = sizes

    class Block(eqx.Module):
        attention_norm: eqx.nn.LayerNorm
        qkv: eqx.nn.Linear
        attention_out: eqx.nn.Linear
        mlp_norm: eqx.nn.LayerNorm
        mlp_in: eqx.nn.Linear
        mlp_out: eqx.nn.Linear

        def __call__(self, x):
            qkv = jax.vmap(self.qkv)(jax.vmap(self.attention_norm)(x)).reshape(len(x), 3, heads, -1)
            y = jax.nn.dot_product_attention(*(qkv[:, i] for i in range(3)), is_causal=True)
            x = x + jax.vmap(self.attention_out)(y.reshape(len(x), -1))
            y = jax.nn.gelu(jax.vmap(self.mlp_in)(jax.vmap(self.mlp_norm)(x)))
            return x + jax.vmap(self.mlp_out)(y)

    class Decoder(eqx.Module):
        tokens: eqx.nn.Embedding
        positions: eqx.nn.Embedding
        blocks: list
        norm: eqx.nn.LayerNorm

        def __call__(self, tokens):
            x = jax.vmap(self.tokens)(tokens) + jax.vmap(self.positions)(jnp.arange(len(tokens)))
            for block in self.blocks:
                x = block(x)
            return jax.vmap(self.norm)(x) @ self.tokens.weight.T

    def filled(module, *arrays):
        return eqx.tree_at(lambda m: (m.weight, m.bias), module, tuple(map(jnp.asarray, arrays)))

    def norm(scale, bias):
        return filled(eqx.nn.LayerNorm(embed), scale, bias)

    def linear(weight, bias, inputs):
        weight = weight.reshape(inputs, -1).T
        return filled(eqx.nn.Linear(*weight.shape[::-1], key=jax.random.key(0)), weight, bias.reshape(-1))

    def block(i):
        made = {}
        for name in NAMES:
            bias = weights[f"blocks/{name}/bias"][i]
            if "norm" in name:
                made[name] = norm(weights[f"blocks/{name}/scale"][i], bias)
            else:
                inputs = 4 * embed if name == "mlp_out" else embed
                made[name] = linear(weights[f"blocks/{name}/weight"][i], bias, inputs)
        return Block(**made)

    tables = [eqx.nn.Embedding(weight=jnp.asarray(weights[f"{name}/table"])) for name in ("tokens", "positions")]
    decoder = Decoder(*tables, [block(i) for i in range(layers)], norm(weights["norm/scale"], weights["norm/bias"]))
    return lambda decoder, tokens: jax.vmap(decoder)(tokens), decoder


def haiku(sizes: Sizes, weights: Arrays) -> Built:
    import haiku as hk
    import jax
    import jax.numpy as jnp

    vocab, time, embed, layers, heads = sizes

    def decoder(tokens):
        table = hk.Embed(vocab, embed, name="tokens")
        x = table(tokens) + hk.Embed(time, embed, name="positions")(jnp.arange(tokens.shape[1]))
        for i in range(layers):
            h = hk.LayerNorm(-1, True, True, name=f"attention_norm_{i}")(x)
            qkv = hk.Linear(3 * embed, name=f"qkv_{i}")(h).reshape(*x.shape[:2], 3, heads, -1)
            y = jax.nn.dot_product_attention(*(qkv[:, :, j] for j in range(3)), is_causal=True)
            x = x + hk.Linear(embed, name=f"attention_out_{i}")(y.reshape(x.shape))
            h = hk.LayerNorm(-1, True, True, name=f"mlp_norm_{i}")(x)
            x = x + hk.Linear(embed, name=f"mlp_out_{i}")(jax.nn.gelu(hk.Linear(4 * embed, name=f"mlp_in_{i}")(h)))
        return hk.LayerNorm(-1, True, True, name="norm")(x) @ table.embeddings.T

    params: dict = {}
    for path, leaf in weights.items():
        *block, layer, part = path.split("/")
        of_norm = "norm" in layer
        name = {"table": "embeddings", "weight": "w", "bias": "offset" if of_norm else "b"}.get(part, part)
        if not block:
            params.setdefault(layer, {})[name] = jnp.asarray(leaf)
            continue
        for i, each in enumerate(leaf):
            if part == "weight":
                each = each.reshape(4 * embed if layer == "mlp_out" else embed, -1)
            params.setdefault(f"{layer}_{i}", {})[name] = jnp.asarray(each if part == "weight" else each.reshape(-1))
    return hk.without_apply_rng(hk.transform(decoder)).apply, params


def keras(sizes: Sizes, weights: Arrays) -> Built:
    """Keras's functional model on JAX, called without state, so that it can be compiled like the others."""
    os.environ["KERAS_BACKEND"] = "jax"  # Keras reads it when it is imported
    import keras
    from keras import layers as nn

    vocab, time, embed, layers, heads = sizes

    class Positions(nn.Embedding):
        def call(self, tokens):
            return super().call(keras.ops.arange(tokens.shape[1])[None])

    def norm(name):
        return nn.LayerNormalization(epsilon=1e-5, name=name)

    def gelu(x):
        return keras.activations.gelu(x, approximate=True)

    tokens, table = keras.Input((time,), dtype="int32"), nn.ReversibleEmbedding(vocab, embed, name="tokens")
    x = table(tokens) + Positions(time, embed, name="positions")(tokens)
    for i in range(layers):
        y = norm(f"attention_norm_{i}")(x)
        x = x + nn.MultiHeadAttention(heads, embed // heads, name=f"attention_{i}")(y, y, use_causal_mask=True)
        y = nn.Dense(4 * embed, gelu, name=f"mlp_in_{i}")(norm(f"mlp_norm_{i}")(x))
        x = x + nn.Dense(embed, name=f"mlp_out_{i}")(y)
    decoder = keras.Model(tokens, table(norm("norm")(x), reverse=True))

    for name in ("tokens", "positions"):
        decoder.get_layer(name).set_weights([weights[f"{name}/table"]])
    decoder.get_layer("norm").set_weights([weights["norm/scale"], weights["norm/bias"]])
    for i in range(layers):
        block = {path.removeprefix("blocks/"): leaf[i] for path, leaf in weights.items() if path.startswith("blocks/")}
        for name in ("attention_norm", "mlp_norm", "mlp_in", "mlp_out"):
            kernel = block[f"{name}/{'scale' if 'norm' in name else 'weight'}"]
            decoder.get_layer(f"{name}_{i}").set_weights([kernel, block[f"{name}/bias"]])
        parts = [part for j in range(3) for part in (block["qkv/weight"][:, j], block["qkv/bias"][j])]
        parts += [block["attention_out/weight"], block["attention_out/bias"]]
        decoder.get_layer(f"attention_{i}").set_weights(parts)
    params = [variable.value for variable in decoder.trainable_variables]
    return lambda params, tokens: decoder.stateless_call(params, [], tokens)[0], params


def torch(sizes: Sizes, weights: Arrays) -> Built:
    """PyTorch, as nanoGPT writes it; the parameters are its module."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    vocab, time, embed, layers, heads = sizes

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm, self.mlp_norm = nn.LayerNorm(embed), nn.LayerNorm(embed)
            self.qkv, self.attention_out = nn.Linear(embed, 3 * embed), nn.Linear(embed, embed)
            self.mlp_in, self.mlp_out = nn.Linear(embed, 4 * embed), nn.Linear(4 * embed, embed)

        def forward(self, x):
            rows, time, _ = x.shape
            parts = self.qkv(self.attention_norm(x)).split(embed, -1)
            q, k, v = (part.view(rows, time, heads, -1).transpose(1, 2) for part in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(rows, time, embed)
            x = x + self.attention_out(y)
            return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh"))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocab, embed), nn.Embedding(time, embed)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(layers)), nn.LayerNorm(embed)

        def forward(self, tokens):
            x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            return F.linear(self.norm(x), self.tokens.weight)

    decoder = Decoder()
    decoder.load_state_dict({name: torch.from_numpy(array) for name, array in torch_names(sizes, weights)})
    return lambda decoder, tokens: decoder(tokens), decoder


def torch_names(sizes: Sizes, weights: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """jann's weights by PyTorch's names, kernels as [outputs, inputs]"""
    for path, leaf in weights.items():
        *block, layer, part = path.split("/")
        name = {"table": "weight", "scale": "weight"}.get(part, part)
        if not block:
            yield f"{layer}.{name}", leaf
            continue
        for i, each in enumerate(leaf):
            if part == "weight":
                inputs = sizes.embed * 4 if layer == "mlp_out" else sizes.embed
                each = np.ascontiguousarray(each.reshape(inputs, -1).T)
            elif layer == "qkv":
                each = each.reshape(-1)
            yield f"blocks.{i}.{layer}.{name}", each
