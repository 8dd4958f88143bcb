"""A training step of a GPT: forward, backward and AdamW, where the time goes into matrix products.

The same weights, batch and optimiser for all, of the sizes that the arrays have; checked are the first two losses.
`torch_compile` has PyTorch's fused AdamW too: on 2 cores it takes a seventh of the time of the default. `products` is
the limit: it does as many multiplications as the step has in its products (three times those of the forward pass), in
one large product after another, and nothing else.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from experiments.side_by_side.cases import decoders, limits
from experiments.side_by_side.cases.decoders import Sizes
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case, steps

SIZES, BATCH = Sizes(vocab=65, time=256, embed=384, layers=6, heads=6), 8
LEARNING_RATE, DECAY = 1e-3, 0.1
PORTION = 2

Run = tuple[Callable, Any, Any]  # step(state, batch) -> (state, loss), compiled; the first state; the batch


def start(sizes: Sizes, batch: int) -> Arrays:
    """The first weights, by jann's paths, and tokens[batch, time + 1]."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, sizes.vocab, (batch, sizes.time + 1)).astype(np.int32)
    return {"tokens": tokens, **decoders.start(sizes)}


def looped(run: Run) -> Advance:
    step, state, batch = run

    def one():
        nonlocal state
        state, loss = step(state, batch)
        return loss

    return steps(one, PORTION)


def jann_run(start: Arrays, half: bool = False) -> Run:
    import jax
    import jax.numpy as jnp
    import optax

    import jann

    tokens = jnp.asarray(start.pop("tokens"))
    model, params = decoders.jann(decoders.sizes_of(start), start)
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=DECAY, mask=jann.decay_mask(model))
    objective = jann.objective(model, jann.language, "token")
    step = jann.make_step(objective, optimizer, dtype=jnp.bfloat16 if half else None)

    def with_loss(state, batch):
        state, metrics = step(state, batch)
        return state, metrics["loss"]

    state = jann.TrainState.start(jax.random.key(0), params, optimizer)
    return jax.jit(with_loss, donate_argnums=0), state, {"token": tokens[:, :-1], "label": tokens[:, 1:]}


def jann(start: Arrays) -> Advance:
    return looped(jann_run(start))


def optax_run(start: Arrays, build: Callable, kernel: str, half: bool = False) -> Run:
    """A step by hand, with Optax, of a model whose kernels have that name; half: in bfloat16, from float32 weights."""
    import jax
    import jax.numpy as jnp
    import optax

    tokens = jnp.asarray(start.pop("tokens"))
    forward, params = build(decoders.sizes_of(start), start)
    mask = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == kernel, params)
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=DECAY, mask=mask)

    def loss(params, tokens):
        params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params) if half else params
        logits = forward(params, tokens[:, :-1]).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def step(state, tokens):
        params, opt_state = state
        value, grads = jax.value_and_grad(loss)(params, tokens)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    return jax.jit(step, donate_argnums=0), (params, optimizer.init(params)), tokens


def raw_run(start: Arrays) -> Run:
    return optax_run(start, decoders.raw, "weight")


def raw(start: Arrays) -> Advance:
    return looped(raw_run(start))


def linen_run(start: Arrays) -> Run:
    return optax_run(start, decoders.linen, "kernel")


def linen(start: Arrays) -> Advance:
    return looped(linen_run(start))


def torch(start: Arrays, compiled: bool = False, half: bool = False) -> Advance:
    import torch
    from torch.nn import functional as F

    tokens, sizes = torch.from_numpy(start.pop("tokens")).long(), decoders.sizes_of(start)
    _, model = decoders.torch(sizes, start)
    kernels = [p for name, p in model.named_parameters() if p.ndim == 2 and "tokens" not in name and "pos" not in name]
    others = [p for p in model.parameters() if not any(p is kernel for kernel in kernels)]
    groups = [{"params": kernels, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=compiled)
    forward = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = forward(tokens[:, :-1])
        loss = F.cross_entropy(logits.float().reshape(-1, sizes.vocab), tokens[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return steps(step, PORTION)


def torch_compile(start: Arrays) -> Advance:
    return torch(start, compiled=True)


def products(start: Arrays, dtype: str = "float32") -> Advance:
    """The limit: nothing but products of the size of a block's widest, as many as a step's multiplications ask for."""
    sizes, batch = decoders.sizes_of(start), len(start["tokens"])
    widest = batch * sizes.time, sizes.embed, 4 * sizes.embed
    return limits.products(PORTION * 3 * decoders.multiplications(sizes, batch), widest, dtype)


RIVALS = {"jann": jann, "raw": raw, "torch": torch, "torch_compile": torch_compile, "products": products}


def training(
    name: str,
    sizes: Sizes,
    batch: int,
    rivals: dict[str, Callable],
    bars: tuple[Bar, ...],
    dtype: str = "float32",
    tolerance: float = 1e-4,
) -> Case:
    """The case of those sizes."""
    return Case(
        name=name,
        work=f"training steps of a GPT, {sizes.layers} layers, {sizes.embed} wide, vocabulary {sizes.vocab:,}, batch "
        f"{batch} × {sizes.time}, {dtype}, AdamW",
        unit="steps/s",
        portion=PORTION,
        start=partial(start, sizes, batch),
        rivals=rivals,
        reference="jann",
        bars=(Bar("jann", "raw", times=0.95), *bars),
        checked=2,
        tolerance=tolerance,
    )


CASE = training(
    "gpt", SIZES, BATCH, {**RIVALS, "linen": linen},
    (Bar("jann", "torch", times=1.4), Bar("jann", "torch_compile", times=1.4), Bar("jann", "products", times=0.55)),
)  # fmt: skip
