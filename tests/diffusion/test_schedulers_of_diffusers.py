"""Schedules and steps equal those of the library diffusers, given the same noise and predictions, to 1e-5."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jann import diffusion

FILE = Path(__file__).parent.parent / "goldens" / "schedulers.safetensors"
SHARED = (
    "ddpm-linear-fixed_small", "ddpm-cosine-fixed_large-v", "ddim-scaled_linear-eta0", "ddim-linear-eta0.7-trailing",
    "euler-scaled_linear", "flow-match-euler",
)  # fmt: skip
PREDICTIONS = {"epsilon": "noise", "v_prediction": "v", "sample": "x0"}


def own_cases():
    with safe_open(FILE, "np") as file:
        return json.loads(file.metadata()["cases"])


@pytest.fixture
def case(request):
    """(configuration, tensors by name) of a scheduler's run, from the repository or the shared goldens."""
    name = request.param
    if name not in SHARED:
        prefix = f"{name}."
        tensors, config = load_file(FILE), own_cases()[name]
        return config, {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}
    folder = request.getfixturevalue("goldens") / "schedulers"
    about = json.loads((folder / "io.json").read_text())["schedulers"][name]
    config = json.loads((folder / name / "scheduler_config.json").read_text())
    tensors = load_file(folder / "io.safetensors")
    parts = {key.split(f".{name}.", 1)[1]: v for key, v in tensors.items() if f".{name}." in key}
    return {"class": about["class"], "eta": about["eta"], **config}, parts


def cases(*names):
    return pytest.mark.parametrize("case", names, indirect=True)


def schedule_of(config):
    steps, kind = config["num_train_timesteps"], config["beta_schedule"]
    if kind == "squaredcos_cap_v2":
        return diffusion.cosine_schedule(steps)
    make = {"linear": diffusion.linear_schedule, "scaled_linear": diffusion.scaled_linear_schedule}[kind]
    return make(steps, config["beta_start"], config["beta_end"])


@cases(*own_cases(), *SHARED)
def test_steps(case):
    config, given = case
    xs = [given["sample0"], *given["samples"][:-1]]
    close = {"rtol": 1e-5, "atol": 1e-5}
    if config["class"] == "FlowMatchEulerDiscreteScheduler":
        # Their time is that of the noise, and their velocity points to it.
        def velocity(x, t):
            return -jnp.asarray(given["model_outputs"])[jnp.argmin(jnp.abs(1 - given["sigmas"][:-1] - t))]

        _, states = diffusion.euler(velocity, given["sample0"], 1 - given["sigmas"], trajectory=True)
        np.testing.assert_allclose(states, given["samples"], **close)
        return

    schedule = schedule_of(config)
    np.testing.assert_allclose(schedule.alpha_bar, given["alphas_cumprod"], rtol=3e-5)
    if config["class"] == "EulerDiscreteScheduler":
        # ddim without noise is Euler's method for x / sqrt(alpha_bar), which is what their samples are.
        for i, (x, predicted) in enumerate(zip(xs, given["model_outputs"], strict=True)):
            now, after = 1 / (1 + given["sigmas"][i : i + 2] ** 2)
            ours = diffusion.ddim_step(x * np.sqrt(now), predicted, now, after) / np.sqrt(after)
            np.testing.assert_allclose(ours, given["samples"][i], **close)
        return

    if "add_noise" in given:
        level = schedule.at(given["add_noise.timesteps"].astype(int))
        noisy = diffusion.noised(given["add_noise.original"], given["add_noise.noise"], level)
        np.testing.assert_allclose(noisy, given["add_noise"], **close)
    options = {
        "prediction": PREDICTIONS[config["prediction_type"]],
        "clip": config["clip_sample_range"] if config["clip_sample"] else None,
    }
    if config["class"] == "DDPMScheduler":
        step = diffusion.ddpm_step
        options["variance"] = config["variance_type"].removeprefix("fixed_")
    else:
        step = diffusion.ddim_step
        options |= {"eta": config["eta"], "clip_noise": config.get("clip_noise", False)}
    final = 1.0 if config.get("set_alpha_to_one", True) else schedule.alpha_bar[0]
    n = len(given["samples"])
    times = diffusion.spaced_times(schedule.steps, n, config["timestep_spacing"], config["steps_offset"])
    np.testing.assert_array_equal(times, given["timesteps"])
    for i, t in enumerate(times):
        # Theirs goes down by a whole number, which is not always where the next step starts.
        previous = t - schedule.steps // n
        level = schedule.alpha_bar[previous] if previous >= 0 else final
        noise = given["variance_noise"][i] if "variance_noise" in given else None
        ours = step(
            xs[i], given["model_outputs"][i], jnp.float32(schedule.alpha_bar[t]), jnp.float32(level), noise, **options
        )
        np.testing.assert_allclose(ours, given["samples"][i], **close)


@cases("ddim_latent", "ddim-scaled_linear-eta0")
def test_a_whole_trajectory(case):
    """By the sampler itself, where nothing is drawn and the steps divide the schedule."""
    config, given = case
    schedule = schedule_of(config)
    outputs, times = jnp.asarray(given["model_outputs"]), given["timesteps"]

    def predict(x, t):
        return outputs[jnp.argmax(times == t)]

    final = 1.0 if config["set_alpha_to_one"] else schedule.alpha_bar[0]
    x, states = jax.jit(
        lambda x: diffusion.ddim(
            predict, x, schedule, len(times), spacing="leading", offset=config["steps_offset"], final=final,
            trajectory=True,
        )
    )(given["sample0"])  # fmt: skip
    np.testing.assert_allclose(states, given["samples"], rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(x, states[-1])
