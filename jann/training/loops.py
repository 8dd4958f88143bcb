"""Many steps: as one scan, or a chunk of them at a time under a loop of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jann.layers.canonical import convolutions_are_canonical
from jann.parallel import kept_at, named_shardings, together
from jann.training.recompiled import Recompiled
from jann.training.state import Step, TrainState, refuse
from jann.trees import copied, flatten


def train(step: Step, batches: Any, train_state: TrainState, n: int) -> tuple[TrainState, dict]:
    """n steps as one `lax.scan`: -> (train_state, history), each metric of the history [n]. Pure: jit, vmap, nest it.

    batches:  `jann.data.batches(...)`, a traceable function of the step's number, or the n batches themselves, stacked
              (each leaf [n, ...]). The batch of a step depends on its number alone, so 10 + 10 steps equal 20. A
              function is traced once: draw with `jax.random` from the number; NumPy's numbers would be drawn once.

    On a CPU, XLA makes convolutions in a loop many times slower unless they are those of `jann.layers` without groups;
    `chunks` and `fit` know that.
    """
    refuse(step, 2, "step", "(train_state, batch)", "of a loss, jann.make_step(loss, optimizer) makes one")
    refuse_no_state(train_state)
    rows, take = _plan(batches, train_state.step, n)
    return jax.lax.scan(lambda state, row: step(state, take(row)), train_state, rows)


def refuse_no_state(train_state: Any) -> None:
    if not hasattr(train_state, "step"):
        kind = type(train_state).__name__
        raise TypeError(f"a train state is wanted, got {kind}: jann.start(model, optimizer, key) makes one")


def are_arrays(batches: Any) -> bool:
    """Whether they are arrays, rather than what makes or reads batches. Raises TypeError for what is neither."""
    if callable(batches) or hasattr(batches, "plan") or hasattr(batches, "read"):
        return False
    leaves = [batches] if isinstance(batches, Iterator) else jax.tree.leaves(batches)
    if bad := [leaf for leaf in leaves if not hasattr(leaf, "shape")]:
        raise TypeError(
            f"batches hold a {type(bad[0]).__name__}, which cannot be compiled: jann.data.batches(arrays, size, key) "
            "makes batches of a data set, jann.data.Stream of what is read piece by piece; an iterator of one's own "
            "goes to jann.chunks and jann.fit as an object with read(step, n), which returns n batches stacked"
        )
    return True


def _plan(batches: Any, step: jax.Array, n: int) -> tuple[Any, Callable]:
    """What to scan over, each leaf [n, ...], and the function that makes a batch of one row of it."""
    if n < 1:
        raise ValueError(f"n={n}: train takes at least one step")
    are_arrays(batches)
    if hasattr(batches, "plan"):
        return batches.plan(step, n), batches.take
    if callable(batches):
        return step + jnp.arange(n, dtype=step.dtype), batches
    if hasattr(batches, "read"):
        raise TypeError("a stream is read on the host, between compiled parts: give it to jann.chunks or jann.fit")
    lengths = {path: leaf.shape[:1] for path, leaf in flatten(batches).items() if leaf.shape[:1] != (n,)}
    if lengths:
        raise ValueError(
            f"batches given as arrays must be stacked [n={n}, batch, ...], but {lengths} differ: "
            f"jann.data.batches(arrays, size, key) makes batches of a data set"
        )
    return batches, lambda batch: batch


def chunks(
    step: Step, batches: Any, train_state: TrainState, n: int, every: int, scan: bool | None = None
) -> Iterator[tuple[TrainState, dict]]:
    """n steps, `every` at a time: an iterator of (train_state, metrics), each metric [every]. Compiled once.

    The loop is yours: evaluate, log, save and stop in its body.

    batches are as for `train`, or a `jann.data.Stream`, which is read on the host, or any object with
    `read(step, n) -> the n batches from that step on, stacked` ([n, batch, ...] each). A train state stacked along a
    leading axis (an ensemble, a population; `step` has shape [members]) trains all members on the same batches, metrics
    [every, members]. Arrays that are split over devices (NamedSharding) stay split as they came.

    scan:  True compiles a chunk as one program, False calls a compiled step from Python. None scans, except on a CPU
           where a convolution has an order of axes that XLA has no fast code for inside a loop (`layers.canonical`).

    The train state given is left alone; a yielded one gives its memory to the next chunk, so keep values from it, or a
    copy, not itself. With `scan`, if `every` does not divide n, the shorter last chunk compiles once more. Where the
    step is compiled again because its arguments have changed, a warning names them.
    """
    if n < 1 or every < 1:
        raise ValueError(f"n={n}, every={every}: both must be at least 1")
    refuse(step, 2, "step", "(train_state, batch)", "of a loss, jann.make_step(loss, optimizer) makes one")
    refuse_no_state(train_state)
    step = step if isinstance(step, Partial) else Partial(step)
    recompiled = Recompiled(_scanned, _stepped)
    stacked = are_arrays(batches)
    if stacked:
        _plan(batches, train_state.step, n)  # says where they are not n
    done = 0
    while n > 0:
        size = min(every, n)
        source = jax.tree.map(itemgetter(slice(done, done + size)), batches) if stacked else batches
        if hasattr(batches, "read"):
            source = batches.read(int(train_state.step.ravel()[0]), size)
            if getattr(batches, "world", 1) > 1:
                _refuse_parts(source)
        elif callable(batches) and not hasattr(batches, "plan"):
            source = Partial(batches)
        if done == 0:
            train_state = copied(together(train_state, source))  # the caller's buffers are not ours to give away
            where = named_shardings(train_state)
        if scan is None:
            scan = not _slow_in_a_loop(step, source, train_state, size, where)
        if scan:
            after, metrics = _scanned(step, source, train_state, size, where)
            recompiled(source, train_state, after, size)
        else:
            after, metrics = _looped(step, source, train_state, size, recompiled, where)
        train_state = after
        yield train_state, metrics
        done, n = done + size, n - size


def _refuse_parts(source):
    """JAX takes arrays of the host for the same in all processes: each would train by its own part of a batch alone."""
    if jax.process_count() > 1 and not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(source)):
        raise ValueError(
            "this Stream reads another part of each batch in each process, and nothing makes one batch of them: give "
            "it sharding=NamedSharding(mesh, PartitionSpec('data')), by the axis of the mesh over which batches split"
        )


@partial(jax.jit, static_argnums=(3, 4), donate_argnums=2)
def _scanned(step, batches, train_state, n, where):
    # Planned once, also for many members.
    rows, take = _plan(batches, train_state.step.ravel()[0], n)
    train_state, metrics = jax.lax.scan(lambda state, row: _over_members(step, state, take(row)), train_state, rows)
    return kept_at(where, train_state), metrics


def _looped(step, batches, train_state, n, recompiled, where):
    rows = jax.device_get(_rows(batches, train_state.step.ravel()[0], n))
    history = []
    for i in range(n):
        row = jax.tree.map(itemgetter(i), rows)
        after, metrics = _stepped(step, batches, train_state, row, where)
        recompiled(batches, train_state, after, 1)
        train_state = after
        history.append(metrics)
    return train_state, jax.tree.map(lambda *values: jnp.stack(values), *history)


@partial(jax.jit, static_argnums=2)
def _rows(batches, step, n):
    return _plan(batches, step, n)[0]


@partial(jax.jit, static_argnums=4, donate_argnums=2)
def _stepped(step, batches, train_state, row, where):
    take = batches.take if hasattr(batches, "plan") else batches if callable(batches) else lambda row: row
    train_state, metrics = _over_members(step, train_state, take(row))
    return kept_at(where, train_state), metrics


def _over_members(step, train_state, batch):
    if train_state.step.ndim == 0:
        return step(train_state, batch)
    return jax.vmap(step, in_axes=(0, None))(train_state, batch)


def _slow_in_a_loop(step, batches, train_state, n, where):
    if jax.default_backend() != "cpu":
        return False
    traced = _scanned.trace(step, batches, train_state, n, where)  # which the call then need not trace again
    return not convolutions_are_canonical(traced.jaxpr)
