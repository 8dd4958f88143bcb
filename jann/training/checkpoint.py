"""Checkpoints of runs, through Orbax: written in the background, whole or not at all."""

import contextlib
import dataclasses
import json
import logging
import math
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.parallel import together
from jann.trees import Tree, path_name

SECONDS = 30  # from one checkpoint to the next: much less, and small models write longer than they train


class CheckpointError(ValueError):
    """A checkpoint cannot be used as asked, or not be written."""


class Checkpoints:
    """The checkpoints of one run, in `folder/checkpoints`; a context manager that waits for the last write.

    keep:       how many of the latest to keep
    best:       (metric, "max" or "min"): also keep the one that is best by this metric
    read_only:  look without touching: a run that is still writing is not disturbed
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int = 2,
        best: tuple[str, str] | None = None,
        read_only: bool = False,
    ):
        import orbax.checkpoint as ocp
        from orbax.checkpoint.checkpoint_managers import preservation_policy as preserve
        from orbax.checkpoint.checkpoint_managers import save_decision_policy as decide

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are raised, and here in one line
        if best is not None and best[1] not in ("max", "min"):
            raise ValueError(f"best={best}: the second part is 'max' or 'min'")
        if keep < 1:
            raise ValueError(f"keep={keep}: at least the latest checkpoint is kept, else no run could go on")
        self.folder = Path(folder).absolute() / "checkpoints"
        self._best = best
        policies, tracked = [preserve.LatestN(keep)], {}
        if best is not None:
            least = best[1] == "min"
            policies.append(
                preserve.BestN(get_metric_fn=self._score, reverse=least, n=1, keep_checkpoints_without_metrics=False)
            )
            tracked = {"best_fn": self._score, "best_mode": best[1]}  # else Orbax would not write the metrics
        if read_only and not self.folder.exists():
            raise CheckpointError(f"{self.folder} does not exist: there is no checkpoint to read")
        self._ocp, self._decide = ocp, decide.ContinuousCheckpointingPolicy(minimum_interval_secs=SECONDS)
        self._writing: int | None = None
        self._last: timedelta | None = None
        self._manager = ocp.CheckpointManager(
            self.folder,
            # There is little to compress, and one data base for all arrays is written half as fast as a file for each.
            item_handlers=ocp.PyTreeCheckpointHandler(use_compression=False, use_ocdbt=False),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preserve.AnyPreservationPolicy(policies),
                save_decision_policy=self,
                enable_background_delete=True,  # else the wait for the new one would be for the end of the old one too
                create=not read_only,
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                **tracked,
            ),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._written():
            self._manager.close()

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The kept step that is best by `best`; None if there is none."""
        if self._best is None:
            return None
        scores = {step: self._score(self._manager.metrics(step) or {}) for step in self.steps()}
        scores = {step: score for step, score in scores.items() if math.isfinite(score)}
        choose = max if self._best[1] == "max" else min
        return choose(scores, key=scores.get) if scores else None

    def _score(self, metrics: dict[str, float]) -> float:
        """The metric that `best` names; NaN and nothing count as worst."""
        name, mode = self._best
        value = metrics.get(name, math.nan)
        return value if not math.isnan(value) else math.inf if mode == "min" else -math.inf

    def due(self, step: int) -> bool:
        """Whether it is time for one: this process has written none yet, or half a minute has passed and it is whole.

        Of several processes the first decides.
        """
        return self._manager.should_save(step)

    def should_save(self, step: Any, previous_steps: Any, *, context: Any) -> bool:
        """Orbax asks this: its own policy, by a clock that nobody sets in place of the dates of checkpoints."""
        now = dataclasses.replace(step, time=_clock())
        last = [] if self._last is None else [dataclasses.replace(step, time=self._last)]
        return self._decide.should_save(now, last, context=context)

    def save(self, step: int, tree: Tree, metrics: dict[str, float] | None = None) -> None:
        """Starts writing `tree` as the checkpoint of `step`; what is in memory may change or be donated at once.

        Raises CheckpointError if this one or the one before cannot be written, as do `wait` and the end of the context.
        """
        flat = _flat(jax.tree.map(lambda leaf: jnp.copy(_data(leaf)), tree))
        self.wait()
        self._writing, self._last = step, _clock()
        with self._written():
            self._manager.save(step, args=self._ocp.args.PyTreeSave(flat), metrics=metrics, force=True)

    def wait(self) -> None:
        """Returns when everything that was started is on disk."""
        with self._written():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise what they like, for a full disk too
            whole = [step for step in self.steps() if step != self._writing]
            kept = f"the run goes on from step {whole[-1]}" if whole else "there is none before it"
            raise CheckpointError(
                f"cannot write the checkpoint of step {self._writing} in {self.folder} ({_first_line(error)}): "
                f"make room if the disk is full; {kept}"
            ) from error

    def restore(self, template: Tree, step: int | None = None) -> Tree:
        """The checkpoint of `step` (by default the latest) with the structure, dtypes and shardings of `template`.

        What is bound to no device there is bound to none here, and so goes where what it meets is.

        Raises CheckpointError if there is none, if it is damaged (with what to delete to go on from an earlier one), or
        if it belongs to another run (listing what differs).
        """
        step, template = self._chosen(step), together(template)
        want = _flat(jax.tree.map(_target, template))
        self._compare(step, want)
        return self._read(step, template, want)

    def restore_part(self, part: str, template: Tree, step: int | None = None) -> Tree:
        """Only the subtree at path `part` ("params") of a checkpoint, in the structure of `template`."""
        step, template = self._chosen(step), together(template)
        prefix = part.replace("/", ".")
        want = {f"{prefix}.{name}": target for name, target in _flat(jax.tree.map(_target, template)).items()}
        self._compare(step, want, part=f"{prefix}.")
        return self._read(step, template, want)

    def holds(self, part: str, step: int | None = None) -> bool:
        """Whether a checkpoint has a subtree at path `part` ("extra/average")."""
        prefix = part.replace("/", ".") + "."
        return any(name.startswith(prefix) for name in dict(self._manager.item_metadata(self._chosen(step))))

    def _chosen(self, step: int | None) -> int:
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"{self.folder} holds no finished checkpoint")
        if step is not None and step not in steps:
            raise CheckpointError(f"{self.folder} holds no checkpoint of step {step}; it has {steps}")
        return steps[-1] if step is None else step

    def _compare(self, step: int, want: dict[str, Any], part: str = "") -> None:
        try:
            found = self._manager.item_metadata(step)
            found = {name: tuple(leaf.shape) for name, leaf in dict(found).items() if name.startswith(part)}
        except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise self._damaged(step, error) from error
        differs = [f"{name}: missing in the checkpoint" for name in want if name not in found]
        differs += [f"{name}: only in the checkpoint" for name in found if name not in want]
        differs += [
            f"{name}: {list(found[name])} in the checkpoint, wanted {list(leaf.shape)}"
            for name, leaf in want.items()
            if name in found and found[name] != tuple(leaf.shape)
        ]
        if differs:
            lines = "\n  ".join(differs[:10]) + (f"\n  ... and {len(differs) - 10} more" if len(differs) > 10 else "")
            raise CheckpointError(
                f"the checkpoint {self.folder / str(step)} is of another model, optimiser or state:\n  {lines}\n"
                f"give this run a folder of its own, or the model and optimiser that the checkpoint was made with"
            )

    def _read(self, step: int, template: Tree, want: dict[str, Any]) -> Tree:
        ocp = self._ocp
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        how = {name: ocp.ArrayRestoreArgs(dtype=t.dtype, sharding=t.sharding or here) for name, t in want.items()}
        try:
            args = ocp.args.PyTreeRestore(want, restore_args=how, partial_restore=True)
            flat = self._manager.restore(step, args=args)
        except Exception as error:  # Orbax and TensorStore raise what they like for damaged files
            raise self._damaged(step, error) from error

        def read(name):
            stored = flat.pop(name)  # so that no array is there twice but the one at hand
            return stored if want[name].sharding else jnp.asarray(np.asarray(stored))  # by the host, bound to no device

        leaves, structure = jax.tree.flatten(template)
        return structure.unflatten(_like(leaf, read(name)) for leaf, name in zip(leaves, want, strict=True))

    def _damaged(self, step: int, error: Exception) -> CheckpointError:
        earlier = [s for s in self.steps() if s < step]
        mend = f"delete that folder to go on from step {earlier[-1]}" if earlier else "delete it to start afresh"
        where = self.folder / str(step)
        return CheckpointError(f"the checkpoint {where} is damaged or incomplete ({_first_line(error)}): {mend}")


def _first_line(error: Exception) -> str:
    """What the error says: of a long line both ends, as TensorStore names files first and causes last."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else f"{line[:98]} ... {line[-98:]}"


def _clock() -> timedelta:
    return timedelta(seconds=time.monotonic())


def _flat(tree: Tree) -> dict[str, Any]:
    """Any pytree -> {"params.layers.0.weight": leaf}: plain names, so that a part can be read without the rest."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_name(path).replace("/", "."): leaf for path, leaf in leaves}


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    """Random keys are stored as the integers that they wrap."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _like(leaf: Any, stored: jax.Array) -> jax.Array:
    if not _is_key(leaf):
        return stored
    kinds: list[Any] = []  # found under eval_shape, because a template may have no values
    jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), leaf)
    return jax.random.wrap_key_data(stored, impl=kinds[0])


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """What to read for it; without a sharding where it is bound to no device."""
    plain, bound = jax.eval_shape(_data, leaf), getattr(leaf, "committed", True)
    return jax.ShapeDtypeStruct(plain.shape, plain.dtype, sharding=getattr(leaf, "sharding", None) if bound else None)
