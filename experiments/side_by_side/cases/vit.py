"""Inference with a small Vision Transformer on a batch of images, where the time goes into matrix products."""

from collections.abc import Callable

import numpy as np

from experiments.side_by_side.cases import limits
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

SIZE, PATCH, CHANNELS, BATCH = 32, 4, 3, 64
EMBED, LAYERS, HEADS, HIDDEN, CLASSES = 192, 6, 3, 768, 10
PORTION = 4  # batches


def jann_model():
    from jann.models import ViT

    return ViT(SIZE, PATCH, CHANNELS, EMBED, LAYERS, HEADS, HIDDEN, CLASSES)


def start() -> Arrays:
    """image[batch, size, size, channels] and weights by jann's paths, the head's drawn, for it starts at zero."""
    import jax

    import jann

    random = np.random.default_rng(0)
    weights = {path: np.asarray(leaf) for path, leaf in jann.flatten(jann_model().init(jax.random.key(0))).items()}
    weights["head/weight"] = random.standard_normal((EMBED, CLASSES)).astype(np.float32) / np.float32(EMBED**0.5)
    return {"image": random.standard_normal((BATCH, SIZE, SIZE, CHANNELS)).astype(np.float32), **weights}


def multiplications() -> int:
    """Multiply-and-adds of a batch in its products."""
    patches = (SIZE // PATCH) ** 2
    tokens = patches + 1
    block = tokens * (4 * EMBED**2 + 2 * EMBED * HIDDEN) + 2 * tokens**2 * EMBED
    return BATCH * (LAYERS * block + patches * PATCH**2 * CHANNELS * EMBED + EMBED * CLASSES)


def repeated(forward: Callable) -> Advance:
    """`forward() -> logits[batch, classes]`, there when it returns"""

    def advance(portions):
        for _ in range(portions * PORTION):
            logits = forward()
        return np.asarray(logits).reshape(-1)

    return advance


def jann(start: Arrays) -> Advance:
    import jax
    import jax.numpy as jnp

    import jann

    image, forward = jnp.asarray(start.pop("image")), jax.jit(jann_model())
    params = jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()})
    return repeated(lambda: jax.block_until_ready(forward(params, image)))


def linen(start: Arrays) -> Advance:
    """Flax Linen, as its users write it, with its own attention; blocks one after another."""
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(EMBED, (PATCH, PATCH), PATCH, padding="VALID", name="patches")(x).reshape(len(x), -1, EMBED)
            first = self.param("first", nn.initializers.zeros, (1, 1, EMBED))
            positions = self.param("positions", nn.initializers.zeros, (1, 1 + x.shape[1], EMBED))
            x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, EMBED)), x], 1) + positions
            for i in range(LAYERS):
                y = nn.LayerNorm(epsilon=1e-12, name=f"attention_norm_{i}")(x)
                x = x + nn.MultiHeadDotProductAttention(HEADS, name=f"attention_{i}")(y)
                y = nn.LayerNorm(epsilon=1e-12, name=f"mlp_norm_{i}")(x)
                y = nn.gelu(nn.Dense(HIDDEN, name=f"mlp_in_{i}")(y), approximate=False)
                x = x + nn.Dense(EMBED, name=f"mlp_out_{i}")(y)
            return nn.Dense(CLASSES, name="head")(nn.LayerNorm(epsilon=1e-12, name="norm")(x)[:, 0])

    image, network = jnp.asarray(start.pop("image")), Network()
    params: dict = {"first": start.pop("first")[None, None], "positions": start.pop("positions")[None]}
    params["patches"] = {"kernel": start.pop("patches/weight"), "bias": start.pop("patches/bias")}
    for path, leaf in start.items():
        *block, layer, part = path.split("/")
        name = "kernel" if part == "weight" else part
        if not block:
            params.setdefault(layer, {})[name] = leaf
            continue
        for i, each in enumerate(leaf):
            if layer in ("query", "key", "value", "attention_out"):
                inside = params.setdefault(f"attention_{i}", {})
                inside.setdefault("out" if layer == "attention_out" else layer, {})[name] = each
            else:
                params.setdefault(f"{layer}_{i}", {})[name] = each
    params = jax.tree.map(jnp.asarray, params)
    forward = jax.jit(lambda params, image: network.apply({"params": params}, image))
    return repeated(lambda: jax.block_until_ready(forward(params, image)))


def transformers(start: Arrays) -> Advance:
    import tempfile

    import jax.numpy as jnp
    import torch
    from transformers import ViTForImageClassification

    import jann

    image = torch.from_numpy(np.ascontiguousarray(start.pop("image").transpose(0, 3, 1, 2)))
    params = jann.unflatten({path: jnp.asarray(leaf) for path, leaf in start.items()})
    with tempfile.TemporaryDirectory() as folder:
        jann.save_pretrained(folder, jann_model(), params)
        theirs = ViTForImageClassification.from_pretrained(folder).eval()

    def advance(portions):
        with torch.inference_mode():
            return repeated(lambda: theirs(pixel_values=image).logits)(portions)

    return advance


def products(start: Arrays) -> Advance:
    """The limit: as many multiplications, in products of the size of a block's widest."""
    return limits.products(PORTION * multiplications(), (BATCH * (1 + (SIZE // PATCH) ** 2), EMBED, HIDDEN))


CASE = Case(
    name="vit",
    work=f"inference of a ViT, {LAYERS} layers, {EMBED} wide, {BATCH} images of {SIZE} × {SIZE} in patches of {PATCH}, "
    f"float32",
    unit="images/s",
    portion=PORTION * BATCH,
    start=start,
    rivals={"jann": jann, "linen": linen, "transformers": transformers, "products": products},
    reference="jann",
    bars=(Bar("jann", "linen", times=0.95), Bar("jann", "transformers", times=1.0)),
    checked=BATCH * CLASSES,
)
