"""The gradient of a mixture of experts, as Mixtral's: where its products are, and what sorting the tokens costs.

The mean square of what the layer makes of tokens, differentiated for the tokens and all weights. Checked are the loss
and the gradient's norm.
"""

from collections.abc import Callable

import numpy as np

from experiments.side_by_side.cases import limits
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

TOKENS, EMBED, HIDDEN, EXPERTS, CHOSEN = 2048, 384, 1024, 8, 2
PORTION = 2


def start() -> Arrays:
    """x[tokens, embed]; router[embed, experts]; gate and up[experts, embed, hidden]; down[experts, hidden, embed]"""
    random = np.random.default_rng(0)
    shapes = {
        "x": (TOKENS, EMBED),
        "router": (EMBED, EXPERTS),
        "gate": (EXPERTS, EMBED, HIDDEN),
        "up": (EXPERTS, EMBED, HIDDEN),
        "down": (EXPERTS, HIDDEN, EMBED),
    }
    arrays = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return {name: a if name == "x" else a / np.float32(a.shape[-2] ** 0.5) for name, a in arrays.items()}


def repeated(gradient: Callable) -> Advance:
    """`gradient() -> (loss, the gradient's norm)`, numbers that are there"""

    def advance(portions):
        for _ in range(portions * PORTION):
            loss, norm = gradient()
        return [float(loss), float(norm)]

    return advance


def of_jax(layer: Callable, start: Arrays) -> Advance:
    """`layer(weights, x, indices[tokens, chosen], their weights[tokens, chosen]) -> [tokens, embed]`"""
    import jax
    import jax.numpy as jnp

    def loss(weights):
        probabilities, indices = jax.lax.top_k(jax.nn.softmax(weights["x"] @ weights["router"]), CHOSEN)
        mixed = probabilities / probabilities.sum(-1, keepdims=True)
        return (layer(weights, weights["x"], indices, mixed) ** 2).mean()

    weights = {name: jnp.asarray(array) for name, array in start.items()}
    compiled = jax.jit(jax.value_and_grad(loss))

    def gradient():
        value, gradients = jax.block_until_ready(compiled(weights))
        return value, np.sqrt(sum(float(jnp.vdot(leaf, leaf)) for leaf in gradients.values()))

    return repeated(gradient)


def jann(start: Arrays) -> Advance:
    import jax

    from jann.layers import through_experts

    def expert(p, x):
        return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]

    def layer(weights, x, indices, mixed):
        return through_experts(expert, {name: weights[name] for name in ("gate", "up", "down")}, x, indices, mixed)

    return of_jax(layer, start)


def ragged(start: Arrays) -> Advance:
    """Raw JAX, with its product of sorted rows, each group of them by a matrix of its own."""
    import jax
    import jax.numpy as jnp

    def layer(weights, x, indices, mixed):
        order = jnp.argsort(indices.reshape(-1))
        counts = jnp.bincount(indices.reshape(-1), length=EXPERTS)
        rows = x[order // CHOSEN]
        gate, up = (jax.lax.ragged_dot(rows, weights[name], counts) for name in ("gate", "up"))
        y = jax.lax.ragged_dot(jax.nn.silu(gate) * up, weights["down"], counts)
        y = jnp.zeros_like(y).at[order].set(y).reshape(*indices.shape, -1)
        return (y * mixed[..., None]).sum(-2)

    return of_jax(layer, start)


def dense(start: Arrays) -> Advance:
    """Raw JAX, every token through every expert."""
    import jax
    import jax.numpy as jnp

    def layer(weights, x, indices, mixed):
        each = (jax.nn.one_hot(indices, EXPERTS) * mixed[..., None]).sum(-2)
        hidden = jax.nn.silu(jnp.einsum("ti,eih->eth", x, weights["gate"]))
        hidden = hidden * jnp.einsum("ti,eih->eth", x, weights["up"])
        return jnp.einsum("eth,eho,te->to", hidden, weights["down"], each)

    return of_jax(layer, start)


def transformers(start: Arrays, experts: str = "grouped_mm") -> Advance:
    import torch
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=EMBED, intermediate_size=HIDDEN, num_local_experts=EXPERTS, num_experts_per_tok=CHOSEN
    )
    config._experts_implementation = experts
    layer = MixtralSparseMoeBlock(config)
    turned = {name: torch.from_numpy(array).mT.contiguous() for name, array in start.items() if name != "x"}
    gate_up = torch.cat([turned["gate"], turned["up"]], 1)
    names = {"gate.weight": turned["router"], "experts.gate_up_proj": gate_up, "experts.down_proj": turned["down"]}
    layer.load_state_dict(names)
    x = torch.from_numpy(start["x"])[None].requires_grad_()
    inputs = [x, *layer.parameters()]

    def gradient():
        loss = layer(x).square().mean()
        gradients = torch.autograd.grad(loss, inputs)
        return loss.detach(), sum(leaf.square().sum() for leaf in gradients).sqrt()

    return repeated(gradient)


def transformers_loop(start: Arrays) -> Advance:
    return transformers(start, "eager")


def products(start: Arrays) -> Advance:
    """The limit: as many multiplications as forward and backward need, in products of an expert's size."""
    needed = 3 * TOKENS * CHOSEN * 3 * EMBED * HIDDEN
    return limits.products(PORTION * needed, (TOKENS * CHOSEN // EXPERTS, EMBED, HIDDEN))


CASE = Case(
    name="mixture",
    work=f"gradient of a mixture of {EXPERTS} gated experts, {CHOSEN} chosen, {EMBED} wide, {HIDDEN} hidden, "
    f"{TOKENS:,} tokens, float32",
    unit="gradients/s",
    portion=PORTION,
    start=start,
    rivals={
        "jann": jann,
        "ragged": ragged,
        "dense": dense,
        "transformers": transformers,
        "transformers_loop": transformers_loop,
        "products": products,
    },
    reference="jann",
    bars=(Bar("jann", "ragged", times=0.95), Bar("jann", "transformers", times=1.0)),
    checked=2,
)
