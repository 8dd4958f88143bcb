"""Truncated backpropagation through time: long sequences are trained on a window at a time, the carry rides along."""

import jax
import jax.numpy as jnp

from jann.core import Model
from jann.functions import remembered
from jann.training.objective import Criterion, classification, entries, judged, means_of
from jann.training.state import Loss


@remembered
def windowed(model: Model, criterion: Criterion = classification, inputs: str = "token") -> Loss:
    """The loss of `make_step` for batches that go on where the one before ended, such as `jann.data.contiguous` makes.

    The mean of `criterion(model's outputs, batch)["loss"]`, all its values as metrics. The carry rides in
    `extra["carry"]`, from `model.carry(batch size)` on; gradients stop where a window begins, so that with a window as
    long as the sequence it is plain backpropagation through time. A batch's "start", where it has one, is true where a
    sequence begins anew (a scalar, or [batch]): there the carry is zeroed. (Williams and Peng 1990)

        loss = jann.training.windowed(model)
        step = jann.make_step(loss, optimizer)
        extra = {"carry": model.carry(32)}
        state = jann.TrainState.start(key, model.init(key), optimizer, extra)
        state, history = jann.train(step, jann.data.contiguous(tokens, 32, 64), state, 1000)
    """

    def loss(params, batch, key, extra=None):
        if not isinstance(extra, dict) or "carry" not in extra:
            raise ValueError('windowed(model) needs extra={"carry": model.carry(batch size)} in the train state')
        carry = extra["carry"]
        if "start" in batch:
            fresh = jnp.asarray(batch["start"])

            def kept(leaf):
                mask = fresh.reshape(*fresh.shape, *(1,) * (leaf.ndim - fresh.ndim))
                return jnp.where(mask, jnp.zeros((), leaf.dtype), leaf)

            carry = jax.tree.map(kept, carry)
        outputs, after = model.apply(params, *entries(batch, inputs), state=jax.lax.stop_gradient(carry), key=key)
        value, metrics = means_of(judged(criterion, outputs, batch))
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, carry)
        return value, (metrics, {**extra, "carry": jax.lax.stop_gradient(after)})

    return loss
