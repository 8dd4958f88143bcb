"""The usual training loop: short enough to copy into a notebook and change."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import Model
from jann.saving import MODEL, save, to_json
from jann.training.checkpoint import Checkpoints
from jann.training.diagnose import NonFiniteError
from jann.training.logs import Log, Progress, RunFolderError, write_json
from jann.training.state import Step, TrainState, chunks, eval_params


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
    after the present chunk and keeps what there is; a second one interrupts at once.

    step:        from `make_step`, or any function (train_state, batch) -> (train_state, metrics) with a "loss"
    batches:     from `jann.data`, or a traceable function of the step's number
    every:       steps between two log entries (means over those steps); by default n / 20
    evaluate:    `evaluate(train_state) -> {name: number}`, logged with each entry
    folder:      the run folder: `metrics.jsonl` and checkpoints go there, and a run that it already holds goes on from
                 its last checkpoint to the same end, bit for bit as if it had never stopped
    model:       also writes the model, so that `jann.load(folder)` gives it back with its parameters
    save_every:  steps between two checkpoints, by default `every`; `keep` of them are kept, and the best by
                 `best=(metric, "max" or "min")`
    patience:    stop when `best` has not improved for so many entries
    tensorboard: also write TensorBoard event files (extra `jann[tensorboard]`)

    Raises NonFiniteError when a loss is NaN or infinite: it carries the step and the last good train state, and
    `jann.diagnose` says which layer it came from. Raises RunFolderError or CheckpointError for a folder that cannot be
    used, ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"n={n}: fit takes at least one step")
    if patience is not None and best is None:
        raise ValueError("patience needs best=(metric, 'max' or 'min') to know what improves")
    every = every or -(-n // 20)
    first = int(np.ravel(train_state.step)[0])
    end = first + n
    checkpoints, log = None, Log(None)
    if folder is not None:
        folder = _writable(folder)
        if model is not None:
            write_json(folder / MODEL, to_json(model))
        checkpoints, log = Checkpoints(folder, keep, best), Log(folder, tensorboard)
        if checkpoints.steps():
            train_state = checkpoints.restore(train_state)
        log.resume(int(np.ravel(train_state.step)[0]))
    elif tensorboard:
        log = Log(None, tensorboard)

    done = int(np.ravel(train_state.step)[0])
    saved = done
    with Interrupt() as interrupt, Progress("training", end, progress, done) as bar:
        if done < end and not _out_of_patience(log.rows, best, patience):
            good = None if checkpoints else jax.tree.map(jnp.copy, train_state)
            clock = time.perf_counter()
            start = train_state
            for train_state, metrics in chunks(step, batches, start, end - done, every):
                _stop_if_not_finite(metrics, done, good, checkpoints, saved, train_state)
                took, clock = time.perf_counter() - clock, time.perf_counter()
                steps = len(jax.tree.leaves(metrics)[0])
                done += steps
                row = {"step": done, **{name: np.mean(value, 0) for name, value in metrics.items()}}
                if "learning_rate" in metrics:
                    row["learning_rate"] = metrics["learning_rate"][-1]
                row["steps_per_second"] = round(steps / took, 1)
                if evaluate is not None:
                    row.update(evaluate(train_state))
                    clock = time.perf_counter()
                log.write(row)
                bar.update(done, _note(row))
                stop = done == end or interrupt.asked or _out_of_patience(log.rows, best, patience)
                if checkpoints is None:
                    good = jax.tree.map(jnp.copy, train_state)
                elif stop or done - saved >= (save_every or every):
                    checkpoints.save(done, train_state, _numbers(row))
                    saved = done
                if stop:
                    break
    log.close()
    if checkpoints is not None:
        checkpoints.wait()
        checkpoints.__exit__()
        if model is not None and train_state.step.ndim == 0:
            save(folder, model, eval_params(train_state))
    return train_state, log.history()


class Interrupt:
    """Turns the first ctrl-C into `asked`, so that work ends where nothing is lost; the second interrupts at once."""

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

    def _ask(self, *_):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nstopping after the present chunk; ctrl-C again stops at once", flush=True)


def _writable(folder: str | Path) -> Path:
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise RunFolderError(f"cannot write the run folder {folder}: {error}; choose another") from None
    return folder


def _stop_if_not_finite(metrics, done, good, checkpoints, saved, train_state):
    loss = np.asarray(metrics["loss"]).reshape(len(metrics["loss"]), -1)
    bad = ~np.isfinite(loss).all(1)
    if not bad.any():
        return
    step = done + int(bad.argmax())
    if checkpoints is not None and checkpoints.steps():
        checkpoints.wait()
        good = checkpoints.restore(train_state)
    kept = "" if good is None else f"; the last good state is that of step {int(np.ravel(good.step)[0])}"
    raise NonFiniteError(
        f"the loss of step {step} is {loss[bad.argmax()].tolist()}{kept} (error.train_state). "
        f"jann.diagnose(loss, params, batch) says where it comes from",
        step,
        good,
    )


def _out_of_patience(rows: list[dict], best: tuple[str, str] | None, patience: int | None) -> bool:
    if patience is None or not rows:
        return False
    if best[0] not in rows[-1]:
        raise ValueError(f"best={best}: there is no {best[0]!r} among {list(rows[-1])}")
    values = [np.mean(row[best[0]]) for row in rows]
    top = int(np.argmax(values) if best[1] == "max" else np.argmin(values))
    return len(values) - 1 - top >= patience


def _numbers(row: dict) -> dict[str, float]:
    return {name: float(np.mean(value)) for name, value in row.items()}


def _note(row: dict) -> str:
    return "  ".join(f"{name} {np.mean(value):.4g}" for name, value in row.items() if name != "step")
