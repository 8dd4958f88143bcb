"""A training step of a small GPT: forward, backward and AdamW, where the time goes into matrix products.

The same weights, batch and optimiser for all; checked are the first two losses. `products` is the limit: it does as
many multiplications as the step has in its products (three times those of the forward pass), in one large product after
another, and nothing else.
"""

from collections.abc import Iterator

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

VOCAB, TIME, BATCH = 65, 256, 8
EMBED, LAYERS, HEADS = 384, 6, 6
LEARNING_RATE, DECAY = 1e-3, 0.1
PORTION = 2


def jann_model(layers: int = LAYERS):
    from jann.models import GPT2

    return GPT2(VOCAB, TIME, EMBED, layers, HEADS)


def start() -> Arrays:
    """The first weights, by jann's paths, and tokens[batch, time + 1]."""
    import jax

    import jann

    random = np.random.default_rng(0)
    weights = jann.flatten(jann_model().init(jax.random.key(0)))
    tokens = random.integers(0, VOCAB, (BATCH, TIME + 1)).astype(np.int32)
    return {"tokens": tokens, **{path: np.asarray(leaf) for path, leaf in weights.items()}}


def multiplications() -> int:
    """Multiply-and-adds of a forward pass in its products; attention only of what is seen, as if none were wasted."""
    tokens, inner = BATCH * TIME, 4 * EMBED
    linear = tokens * EMBED * (3 * EMBED + EMBED + 2 * inner)
    attention = BATCH * TIME * (TIME + 1) * EMBED
    return LAYERS * (linear + attention) + tokens * EMBED * VOCAB


def repeated(step) -> Advance:
    """`step() -> loss`, PORTION times a portion."""

    def advance(portions):
        return [float(loss) for loss in [step() for _ in range(portions * PORTION)]]

    return advance


def trained(start: Arrays, loss) -> Advance:
    """A step of jann's from a loss of (params, tokens, labels)"""
    import jax
    import jax.numpy as jnp
    import optax

    import jann

    tokens, model = jnp.asarray(start.pop("tokens")), jann_model()
    params = jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()})
    batch = {"token": tokens[:, :-1], "label": tokens[:, 1:]}
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=DECAY, mask=jann.decay_mask(model))
    step = jax.jit(jann.make_step(loss(model), optimizer), donate_argnums=0)
    state = jann.TrainState.start(jax.random.key(0), params, optimizer)

    def one():
        nonlocal state
        state, metrics = step(state, batch)
        return metrics["loss"]

    return repeated(one)


def jann(start: Arrays) -> Advance:
    import jann

    return trained(start, lambda model: jann.objective(model, jann.language, "token"))


def linen(start: Arrays) -> Advance:
    """Flax Linen, as its examples write a decoder, its blocks scanned; with Optax."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            h = nn.LayerNorm(epsilon=1e-5)(x)
            qkv = nn.DenseGeneral((3, HEADS, EMBED // HEADS))(h)
            h = nn.dot_product_attention(*(qkv[..., i, :, :] for i in range(3)), mask=nn.make_causal_mask(x[..., 0]))
            x = x + nn.DenseGeneral(EMBED, (-2, -1))(h)
            h = nn.gelu(nn.Dense(4 * EMBED)(nn.LayerNorm(epsilon=1e-5)(x)))
            return x + nn.Dense(EMBED)(h), None

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            table = nn.Embed(VOCAB, EMBED, name="tokens")
            x = table(tokens) + nn.Embed(TIME, EMBED, name="positions")(jnp.arange(tokens.shape[1]))
            blocks = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS)
            return table.attend(nn.LayerNorm(epsilon=1e-5, name="norm")(blocks(name="blocks")(x, None)[0]))

    names = {
        "attention_norm": "LayerNorm_0", "qkv": "DenseGeneral_0", "attention_out": "DenseGeneral_1",
        "mlp_norm": "LayerNorm_1", "mlp_in": "Dense_0", "mlp_out": "Dense_1",
    }  # fmt: skip
    tokens = jnp.asarray(start.pop("tokens"))
    params = {name: {"embedding": start[f"{name}/table"]} for name in ("tokens", "positions")}
    params["norm"] = {"scale": start["norm/scale"], "bias": start["norm/bias"]}
    params["blocks"] = {theirs: {} for theirs in names.values()}
    for ours, theirs in names.items():
        kernel = "scale" if "norm" in ours else "kernel"
        weight = start[f"blocks/{ours}/{'scale' if 'norm' in ours else 'weight'}"]
        params["blocks"][theirs] = {kernel: weight, "bias": start[f"blocks/{ours}/bias"]}
    params = jax.tree.map(jnp.asarray, params)
    mask = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
    optimizer, model = optax.adamw(LEARNING_RATE, weight_decay=DECAY, mask=mask), Decoder()

    def loss(params):
        logits = model.apply({"params": params}, tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def step(state):
        params, opt_state = state
        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    step, state = jax.jit(step, donate_argnums=0), (params, optimizer.init(params))

    def one():
        nonlocal state
        state, value = step(state)
        return value

    return repeated(one)


def torch(start: Arrays, compiled: bool = False) -> Advance:
    """PyTorch, as nanoGPT writes it."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm, self.mlp_norm = nn.LayerNorm(EMBED), nn.LayerNorm(EMBED)
            self.qkv, self.attention_out = nn.Linear(EMBED, 3 * EMBED), nn.Linear(EMBED, EMBED)
            self.mlp_in, self.mlp_out = nn.Linear(EMBED, 4 * EMBED), nn.Linear(4 * EMBED, EMBED)

        def forward(self, x):
            rows, time, _ = x.shape
            parts = self.qkv(self.attention_norm(x)).split(EMBED, -1)
            q, k, v = (part.view(rows, time, HEADS, -1).transpose(1, 2) for part in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(rows, time, EMBED)
            x = x + self.attention_out(y)
            return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh"))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(VOCAB, EMBED), nn.Embedding(TIME, EMBED)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(EMBED)

        def forward(self, tokens):
            x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            return F.linear(self.norm(x), self.tokens.weight)

    tokens = torch.from_numpy(start.pop("tokens")).long()
    model = Decoder()
    model.load_state_dict(dict(renamed(start, torch.from_numpy)))
    kernels = [p for name, p in model.named_parameters() if p.ndim == 2 and "tokens" not in name and "pos" not in name]
    others = [p for p in model.parameters() if not any(p is kernel for kernel in kernels)]
    groups = [{"params": kernels, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    forward = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = forward(tokens[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, VOCAB), tokens[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return repeated(step)


def renamed(start: Arrays, convert) -> Iterator:
    """jann's weights by PyTorch's names, kernels as [outputs, inputs]"""
    for path, leaf in start.items():
        *block, layer, part = path.split("/")
        name = {"table": "weight", "scale": "weight"}.get(part, part)
        if not block:
            yield f"{layer}.{name}", convert(leaf)
            continue
        for i in range(LAYERS):
            each = leaf[i]
            if part == "weight":
                inputs = EMBED * 4 if layer == "mlp_out" else EMBED
                each = np.ascontiguousarray(each.reshape(inputs, -1).T)
            elif layer == "qkv":
                each = each.reshape(-1)
            yield f"blocks.{i}.{layer}.{name}", convert(each)


def torch_compile(start: Arrays) -> Advance:
    return torch(start, compiled=True)


def products(start: Arrays) -> Advance:
    """The limit: nothing but products of the size of a block's widest, as many as a step's multiplications ask for."""
    import jax
    import jax.numpy as jnp

    rows, inner = BATCH * TIME, 4 * EMBED
    count = round(3 * multiplications() / (rows * EMBED * inner))
    x, w = jnp.ones((rows, EMBED)), jnp.ones((EMBED, inner))
    product = jax.jit(jnp.matmul)

    def advance(portions):
        for _ in range(portions * PORTION * count):
            y = product(x, w)
        jax.block_until_ready(y)
        return []

    return advance


CASE = Case(
    name="gpt",
    work=f"training steps of a GPT, {LAYERS} layers, {EMBED} wide, batch {BATCH} × {TIME}, float32, AdamW",
    unit="steps/s",
    portion=PORTION,
    start=start,
    rivals={
        "jann": jann, "linen": linen, "torch": torch, "torch_compile": torch_compile, "products": products,
    },
    reference="jann",
    bars=(
        Bar("jann", "torch", times=1.2), Bar("jann", "torch_compile", times=1.4), Bar("jann", "products", times=0.45),
    ),
    checked=2,
)  # fmt: skip
