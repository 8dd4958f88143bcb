"""Training: the state of a run, the step, the loop, sweeps, checkpoints and logs."""

from jann.training.adversarial import adversarial_step, gradient_penalty, start_adversarial
from jann.training.checkpoint import CheckpointError, Checkpoints
from jann.training.diagnose import Diagnosis, NonFiniteError, diagnose
from jann.training.fit import Interrupt, fit
from jann.training.logs import Log, Progress, RunFolderError, open_run, write_json
from jann.training.loops import chunks, train
from jann.training.objective import (
    classification,
    evaluate,
    language,
    measure,
    objective,
    penalised,
    regression,
    span,
    update_statistics,
)
from jann.training.state import (
    Average,
    TrainState,
    eval_params,
    make_step,
    start,
    start_average,
    update_average,
)
from jann.training.sweep import Sweep, sweep
from jann.training.windows import windowed

__all__ = [
    "Average",
    "CheckpointError",
    "Checkpoints",
    "Diagnosis",
    "Interrupt",
    "Log",
    "NonFiniteError",
    "Progress",
    "RunFolderError",
    "Sweep",
    "TrainState",
    "adversarial_step",
    "chunks",
    "classification",
    "diagnose",
    "eval_params",
    "evaluate",
    "fit",
    "language",
    "gradient_penalty",
    "make_step",
    "measure",
    "objective",
    "open_run",
    "penalised",
    "regression",
    "span",
    "start",
    "start_adversarial",
    "start_average",
    "sweep",
    "train",
    "update_average",
    "update_statistics",
    "windowed",
    "write_json",
]
