"""The usual training loop: short enough to copy into a notebook and change."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import Model, ShapeError, check
from jann.saving import MODEL, WEIGHTS, save, to_json
from jann.training.checkpoint import Checkpoints
from jann.training.diagnose import NonFiniteError
from jann.training.logs import Log, Progress, RunFolderError, only_writer, open_run
from jann.training.loops import are_arrays, chunks, refuse_no_state
from jann.training.state import Step, TrainState, eval_params
from jann.trees import Tree, copied


def fit(
    step: Step,
    batches: Any,
    train_state: TrainState,
    n: int,
    *,
    every: int | None = None,
    evaluate: Callable[[TrainState], dict] | None = None,
    folder: str | Path | None = None,
    model: Model | None = None,
    save_every: int | None = None,
    keep: int = 2,
    best: tuple[str, str] | None = None,
    patience: int | None = None,
    tensorboard: bool = False,
    progress: bool = True,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Takes n steps from `train_state`: -> (train_state, history), one entry of the history every `every` steps.

    A loop over `chunks` with the usual body: progress, logs, evaluation, checkpoints, early stopping. Ctrl-C ends it
    after the present chunk and keeps what there is; a second one interrupts at once. A step that is compiled again
    (batches of another shape) is named in a warning.

    step:        from `make_step`, or any function (train_state, batch) -> (train_state, metrics) with a "loss"
    batches:     from `jann.data`, or a traceable function of the step's number
    every:       steps between two log entries (means over those steps); by default n / 20
    evaluate:    `evaluate(train_state) -> {name: number}`, logged with each entry; {"test": {...}} as "test/...". The
                 train state gives its memory to the next chunk: keep copies of its arrays, not itself
    folder:      the run folder: `metrics.jsonl` and checkpoints go there, and a run that it already holds goes on from
                 its last checkpoint to the same end, bit for bit as if it had never stopped. Another step (loss,
                 optimiser) or other data are not noticed: give each experiment a folder of its own
    model:       also writes the model, so that `jann.load(folder)` gives it back with its parameters, and
                 `jann.load(folder, best)` with the best; what is returned is always the end
    save_every:  steps between two checkpoints; by default one is written with the first entry, with the next after half
                 a minute without one, with an entry that is better than all before, and at the end. `keep` of them are
                 kept, and the best by `best=(metric, "max" or "min")`
    patience:    stop when `best` has not improved for so many entries
    tensorboard: also write TensorBoard event files (extra `jann[tensorboard]`)

    Raises NonFiniteError when a loss or the parameters become NaN or infinite: it carries the step and the last good
    train state, and `jann.diagnose` says which layer it came from. Of several members (a train state stacked along a
    leading axis) the others go on and a warning names those; what is best is then judged without them. Raises
    RunFolderError or CheckpointError for a folder that cannot be used or written, in which another process writes, or
    that holds the run of another model; ValueError for n < 1 or patience < 1, for a name that both step and `evaluate`
    report, and where the train state has only a part of the `model` that is to be saved.
    """
    refuse_no_state(train_state)
    if isinstance(train_state.step, jax.core.Tracer):
        raise TypeError("fit is a loop in Python: inside jit, vmap or the experiment of a sweep use jann.train")
    if n < 1:
        raise ValueError(f"n={n}: fit takes at least one step")
    if patience is not None and best is None:
        raise ValueError("patience needs best=(metric, 'max' or 'min') to know what improves")
    if patience is not None and patience < 1:
        raise ValueError(f"patience={patience}: it counts entries that are not better, at least one")
    if best is not None and best[1] not in ("max", "min"):
        raise ValueError(f"best={best}: the second part is 'max' or 'min'")
    saved_as_model = folder is not None and model is not None and train_state.step.ndim == 0
    if saved_as_model:
        _refuse_a_part(model, eval_params(train_state))
    begin = _step(train_state)

    def between(first: int, last: int) -> Any:
        """The batches of those steps"""
        if not are_arrays(batches):
            return batches
        return jax.tree.map(itemgetter(slice(first - begin, last - begin)), batches)

    every, patience = every or -(-n // 20), np.inf if patience is None else patience
    end = begin + n
    with contextlib.ExitStack() as closing:
        interrupt, checkpoints = closing.enter_context(Interrupt()), None
        if folder is not None:
            folder = _writable(folder)
            closing.enter_context(only_writer(folder))
            if model is not None:
                open_run(folder, to_json(model), MODEL)
            checkpoints = closing.enter_context(Checkpoints(folder, keep, best))
            if checkpoints.steps():
                train_state = checkpoints.restore(train_state)
                if _step(train_state) < end and model is not None:
                    (folder / WEIGHTS).unlink(missing_ok=True)  # of a shorter run: its checkpoints are soon newer
        log = closing.enter_context(contextlib.closing(Log(folder, tensorboard)))
        done = saved = _step(train_state)
        log.resume(done)
        ended = done < end and _behind(log.rows, best) >= patience
        bar = closing.enter_context(Progress("training", end, progress, done))

        if done > end:
            warnings.warn(f"{folder} already holds {done} steps, more than the {end} asked for", stacklevel=2)
        if begin < done <= end and progress:
            how = "patience ended it" if ended else "it goes on" if done < end else "nothing is trained"
            print(f"{folder} holds {done} of {end} steps: {how}")
        lost: set[int] = set()
        good = train_state  # chunks leaves what it starts from alone
        clock = time.perf_counter()
        if done < end and not ended:
            for train_state, metrics in chunks(step, between(done, end), good, end - done, every):
                bad = _first_not_finite(metrics, train_state)
                if (bad < len(metrics["loss"])).all():
                    if checkpoints is not None and saved > _step(good):
                        checkpoints.wait()
                        good = checkpoints.restore(train_state)
                    if done > _step(good):  # the same steps once more, to where this chunk began
                        again = between(_step(good), done)
                        for state, _ in chunks(step, again, good, done - _step(good), every):
                            good = state
                    raise _stopped(done + int(bad.max()), metrics["loss"][bad.max()], good)
                lost = _warn_of_lost(lost, bad, done)
                took, clock = time.perf_counter() - clock, time.perf_counter()
                steps = len(metrics["loss"])
                done += steps
                row = {"step": done, **{name: np.mean(value, 0) for name, value in metrics.items()}}
                row |= {name: metrics[name][-1] for name in metrics if name.startswith("learning_rate")}
                row["steps_per_second"] = round(steps / took, 1)
                if evaluate is not None:
                    found = _named(evaluate(train_state))
                    if both := found.keys() & row.keys():
                        raise ValueError(
                            f"evaluate and the step both report {', '.join(sorted(both))}: nest what evaluate returns, "
                            'such as {"test": {...}}'
                        )
                    row.update(found)
                    clock = time.perf_counter()
                if best is not None and best[0] not in row:
                    raise ValueError(f"best={best}: there is no {best[0]!r} among {list(row)}")
                log.write(row)
                bar.update(done, _note(row))
                behind = _behind(log.rows, best)
                stop = done == end or interrupt.asked or behind >= patience
                if checkpoints is None:
                    good = copied(train_state)
                else:
                    is_best = best is not None and behind == 0
                    due = done - saved >= save_every if save_every else is_best or checkpoints.due(done)
                    if stop or due:
                        checkpoints.save(done, train_state, _numbers(row))
                        saved = done
                if stop:
                    break
        if saved_as_model:
            save(folder, model, eval_params(train_state))
    return train_state, log.history()


class Interrupt:
    """Turns the first ctrl-C into `asked`, so that work ends where nothing is lost; the second interrupts at once.

    An Interrupt around it is told at its end, so that what came too late here is in force there.
    """

    def __init__(self):
        self.asked = False

    def __enter__(self):
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_):
        if self._main:
            signal.signal(signal.SIGINT, self._before)
            around = getattr(self._before, "__self__", None)
            if isinstance(around, Interrupt):
                around.asked |= self.asked

    def _ask(self, *_):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nstopping after the present chunk; ctrl-C again stops at once", flush=True)


def _writable(folder: str | Path) -> Path:
    folder = Path(folder)
    if os.sep == "/" and "\\" in str(folder.absolute()):  # which checkpoints would take for a separator
        raise RunFolderError(f"the run folder {folder.absolute()} has a backslash in its name: choose another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_text("")
        probe.unlink(missing_ok=True)  # another process may have been here
    except OSError as error:
        raise RunFolderError(f"cannot write the run folder {folder}: {error}; choose another") from None
    return folder


def _refuse_a_part(model: Model, params: Tree) -> None:
    try:
        check(model, params)
    except ShapeError as error:
        raise ValueError(
            f"what is trained is not the whole model, so that it could not be saved at the end: {error}\n"
            "leave model out, and jann.save(folder, model, jann.combine(rest, state.params)) after the run"
        ) from None


def _step(train_state: TrainState) -> int:
    return int(np.ravel(train_state.step)[0])


def _named(found: dict, above: str = "") -> dict:
    """{"test": {"loss": 1.0}} -> {"test/loss": 1.0}"""
    if not isinstance(found, dict):
        raise TypeError(f"evaluate returns numbers by name, {{name: number}}, got {found!r:.100}")
    named = {}
    for name, value in found.items():
        if isinstance(value, dict):
            named.update(_named(value, f"{above}{name}/"))
        elif np.asarray(value).dtype.kind in "OUSM":
            raise TypeError(f"evaluate gave {value!r:.100} for {above}{name}: only numbers are logged")
        else:
            named[f"{above}{name}"] = value
    return named


def _first_not_finite(metrics: dict, train_state: TrainState) -> np.ndarray:
    """The step of a chunk in which each member went wrong [members], or the chunk's length if all is well.

    It is the first without a finite loss, or the last if only the parameters are not finite.
    """
    loss = np.asarray(metrics["loss"])
    bad = ~np.isfinite(loss.reshape(len(loss), -1))
    first = np.where(bad.any(0), bad.argmax(0), len(bad))
    finite = np.ravel(_all_finite(train_state.params, train_state.step.ndim))
    return np.where(finite, first, np.minimum(first, len(bad) - 1))


@partial(jax.jit, static_argnums=1)
def _all_finite(tree: Tree, leading: int) -> jax.Array:
    """Whether all values are finite, of each member where a leading axis counts them."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    each = [jnp.isfinite(leaf).all(tuple(range(leading, leaf.ndim))) for leaf in floats]
    return jnp.stack(each).all(0) if each else jnp.array(True)


def _warn_of_lost(lost: set[int], bad: np.ndarray, done: int) -> set[int]:
    """The members that are no longer finite, of which those that were so far are named in a warning."""
    found = {int(member) for member in np.flatnonzero(bad < bad.max())}
    if new := sorted(found - lost):
        which = ", ".join(f"{member} (step {done + bad[member]})" for member in new)
        warnings.warn(f"members {which} have a loss or parameters that are not finite; the others go on", stacklevel=3)
    return found | lost


def _stopped(step: int, loss: Any, good: TrainState) -> NonFiniteError:
    loss = np.asarray(loss)
    what = f"the loss of step {step} is {loss.tolist()}"
    if np.isfinite(loss).all():
        what = f"step {step} made parameters that are not finite, from a loss of {loss.tolist()}"
    return NonFiniteError(
        f"{what}; the last good state is that of step {_step(good)} (error.train_state). "
        f"jann.diagnose(loss, params, batch) says where it comes from",
        step,
        good,
    )


def _behind(rows: list[dict], best: tuple[str, str] | None) -> int:
    """How many rows came after the best one."""
    if best is None or not rows:
        return 0
    worst = -np.inf if best[1] == "max" else np.inf
    values = np.array([_mean(row.get(best[0], worst)) for row in rows])
    values = np.where(np.isnan(values), worst, values)
    top = int(values.argmax() if best[1] == "max" else values.argmin())
    return len(values) - 1 - top


def _numbers(row: dict) -> dict[str, float]:
    return {name: _mean(value) for name, value in row.items()}


def _note(row: dict) -> str:
    return "  ".join(f"{name} {_mean(value):.4g}" for name, value in row.items() if name != "step")


def _mean(value: Any) -> float:
    """Over the members for which it is finite: those that were lost leave the others' mean alone."""
    value = np.ravel(value)
    finite = value[np.isfinite(value)]
    return float((finite if finite.size else value).mean())
