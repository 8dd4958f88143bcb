"""The compilation of a GPT's training step, shallow and deep: blocks are scanned, so it should hardly grow.

Traced and compiled anew each time, without any cache. `_list` has its blocks in a list, as decoding does: they are
written out, and it grows with depth.
"""

from functools import partial

import numpy as np

from experiments.side_by_side.cases import decoders, gpt
from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

SHALLOW, DEEP = 4, 24


def compiled(start: Arrays, layers: int, listed: bool = False) -> Advance:
    import jax
    import jax.numpy as jnp
    import optax

    import jann

    jax.config.update("jax_enable_compilation_cache", False)
    model = decoders.jann_model(gpt.SIZES._replace(layers=layers))
    optimizer = optax.adamw(gpt.LEARNING_RATE)
    state = jax.eval_shape(lambda: jann.start(model, optimizer, jax.random.key(0)))
    if listed:
        params = jax.eval_shape(lambda params: jann.core.listed(model, params), state.params)
        opt_state = jax.eval_shape(optimizer.init, params)
        state = state.replace(params=params, opt_state=opt_state)
    tokens = jax.ShapeDtypeStruct((gpt.BATCH, gpt.SIZES.time), jnp.int32)

    def advance(portions):
        for _ in range(portions):
            jax.clear_caches()
            step = jann.make_step(jann.objective(model, jann.language, "token"), optimizer)
            jax.jit(step).lower(state, {"token": tokens, "label": tokens}).compile()
        return np.zeros(1)  # there are no losses to compare

    return advance


CASE = Case(
    name="compile",
    work=f"tracing and compiling the training step of a GPT, {gpt.SIZES.embed} wide, of {SHALLOW} and of {DEEP} layers",
    unit="s",
    portion=1,
    start=lambda: {},
    rivals={
        "jann_4": partial(compiled, layers=SHALLOW),
        "jann_24": partial(compiled, layers=DEEP),
        "jann_24_list": partial(compiled, layers=DEEP, listed=True),
    },
    reference="jann_24",
    bars=(Bar("jann_24", "jann_4", times=1 / 1.3),),
    compiles=True,
)
