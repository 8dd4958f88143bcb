"""Generating by undoing noise. Nothing here knows of models: they come in as `predict(x, t)`.

- diffusion: a `Schedule` of noise, `diffusion_loss`, and the samplers `ddpm` and `ddim`
- flow matching: `flow_loss`, and the samplers `euler` and `heun`
- conditions: `drop_labels` in training, `guided` in sampling
"""

from jann.diffusion.flow import euler, flow_loss, flow_times, heun
from jann.diffusion.guidance import drop_labels, guided
from jann.diffusion.losses import diffusion_loss
from jann.diffusion.predictions import PREDICTIONS, denoised, noised, target
from jann.diffusion.samplers import ddim, ddim_step, ddpm, ddpm_step, spaced_times
from jann.diffusion.schedules import Schedule, cosine_schedule, linear_schedule, scaled_linear_schedule

__all__ = [
    "PREDICTIONS",
    "Schedule",
    "cosine_schedule",
    "ddim",
    "ddim_step",
    "ddpm",
    "ddpm_step",
    "denoised",
    "diffusion_loss",
    "drop_labels",
    "euler",
    "flow_loss",
    "flow_times",
    "guided",
    "heun",
    "linear_schedule",
    "noised",
    "scaled_linear_schedule",
    "spaced_times",
    "target",
]
