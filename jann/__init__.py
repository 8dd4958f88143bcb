"""jann: a functional neural-network library for research in JAX.

Parameters are nested dicts of arrays, models are values, training is a function from a run to a run.

- `jann.models`, `jann.layers`: architectures, and the functions that they are made of
- `jann.make_step`, `jann.train`, `jann.chunks`, `jann.fit`, `jann.sweep`: training, from one scan to a whole experiment
- `jann.observe`, `jann.summary`, `jann.diagnose`, `jann.plots`, `jann.analysis`: looking inside
- `jann.diffusion`: generating by undoing noise
- `jann.control`: learning to act
- `jann.boxes`: boxes around objects, and what a detector is taught
- `jann.data`: data sets, batches, streams, augmentation
- `jann.from_pretrained`, `jann.save_pretrained`: published weights, read and written
- `jann.generation`: sequences drawn from a model
- `jann.adapt`: low-rank corrections, prompts, frozen parts, new heads for trained models
- `jann.save`, `jann.load`: models with their parameters, as files
"""

import importlib

from jann import layers, losses, models, process
from jann.core import Model, Param, ShapeError, check, decay_mask, init, split, stack
from jann.counting import count, summary
from jann.depth import TapError, apply_blocks, depth_keys, observe, scope, tap
from jann.drawing import fold
from jann.parallel import cpu_devices, shardings
from jann.saving import from_json, load, save, to_json
from jann.training import (
    Average,
    CheckpointError,
    Checkpoints,
    Diagnosis,
    NonFiniteError,
    RunFolderError,
    Sweep,
    TrainState,
    adversarial_step,
    chunks,
    classification,
    diagnose,
    eval_params,
    evaluate,
    fit,
    language,
    make_step,
    measure,
    objective,
    open_run,
    penalised,
    regression,
    span,
    start,
    start_adversarial,
    start_average,
    sweep,
    train,
    update_average,
)
from jann.trees import combine, flatten, partition, stacked, unflatten, unstacked

process.keep_memory()
process.own_convolutions()
process.keep_programs()

# Imported when first used: they bring pictures and files with them.
ROOMS = ("adapt", "analysis", "boxes", "control", "data", "diffusion", "generation", "plots", "pretrained")
FROM_ROOMS = {"from_pretrained": "pretrained", "save_pretrained": "pretrained"}


def __getattr__(name: str):
    if name in ROOMS:
        return importlib.import_module(f"jann.{name}")
    if name in FROM_ROOMS:
        return getattr(importlib.import_module(f"jann.{FROM_ROOMS[name]}"), name)
    raise AttributeError(f"module 'jann' has no attribute {name!r}")


__all__ = [
    "Average",
    "CheckpointError",
    "Checkpoints",
    "Diagnosis",
    "Model",
    "NonFiniteError",
    "Param",
    "RunFolderError",
    "ShapeError",
    "Sweep",
    "TapError",
    "TrainState",
    "adversarial_step",
    "apply_blocks",
    "check",
    "chunks",
    "classification",
    "combine",
    "count",
    "cpu_devices",
    "decay_mask",
    "depth_keys",
    "diagnose",
    "eval_params",
    "evaluate",
    "fit",
    "flatten",
    "fold",
    "from_json",
    "init",
    "language",
    "layers",
    "load",
    "losses",
    "make_step",
    "measure",
    "models",
    "objective",
    "observe",
    "open_run",
    "partition",
    "penalised",
    "regression",
    "save",
    "scope",
    "shardings",
    "span",
    "split",
    "stack",
    "stacked",
    "start",
    "start_adversarial",
    "start_average",
    "summary",
    "sweep",
    "tap",
    "to_json",
    "train",
    "unflatten",
    "unstacked",
    "update_average",
]
