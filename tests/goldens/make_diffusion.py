"""Makes schedulers.safetensors and unet.safetensors: what the library diffusers computes for random numbers.

    pip install torch diffusers && python tests/goldens/make_diffusion.py

schedulers: for each case the first sample, a model's outputs (just random numbers) and the noise of each step, and what
the scheduler makes of them after each step. unet: a small UNet2DModel with labels, its weights, inputs and output.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.numpy import save_file

HERE = Path(__file__).parent
LATENT = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
CASES = {
    "ddpm_linear_small": (DDPMScheduler, 10, 0, {}),
    "ddpm_cosine_large_v": (
        DDPMScheduler, 8, 0,
        dict(num_train_timesteps=200, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
             variance_type="fixed_large", clip_sample=False),
    ),
    "ddpm_every_step_x0": (DDPMScheduler, 20, 0, dict(num_train_timesteps=20, prediction_type="sample", **LATENT)),
    "ddim_latent": (DDIMScheduler, 10, 0.0, dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **LATENT)),
    "ddim_trailing_noisy": (DDIMScheduler, 7, 0.7, dict(timestep_spacing="trailing")),
    "ddim_v_noisy": (
        DDIMScheduler, 5, 1.0,
        dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample_range=0.5),
    ),
    "ddim_clipped_noise": (DDIMScheduler, 6, 0.3, dict(clip_sample_range=0.7)),
    "euler": (EulerDiscreteScheduler, 10, None, LATENT),
    "flow": (FlowMatchEulerDiscreteScheduler, 8, None, dict(shift=3.0)),
}  # fmt: skip
UNET = dict(
    sample_size=8, in_channels=2, out_channels=1, layers_per_block=2, block_out_channels=(8, 12, 12),
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    norm_num_groups=4, attention_head_dim=6, num_class_embeds=5, flip_sin_to_cos=False, freq_shift=1,
    downsample_padding=0, norm_eps=1e-6,
)  # fmt: skip


def schedule(name: str, cls, steps: int, eta: float | None, options: dict) -> dict[str, np.ndarray]:
    scheduler = cls(**options)
    scheduler.set_timesteps(steps)
    sample = torch.randn(2, 3)
    outputs, noise = torch.randn(steps, 2, 3), torch.randn(steps, 2, 3)
    out = {"sample0": sample, "model_outputs": outputs, "variance_noise": noise, "timesteps": scheduler.timesteps}
    if hasattr(scheduler, "alphas_cumprod"):
        out["alphas_cumprod"] = scheduler.alphas_cumprod
    if hasattr(scheduler, "sigmas"):
        out["sigmas"] = scheduler.sigmas
        sample = sample * getattr(scheduler, "init_noise_sigma", 1.0)
        out["sample0"] = sample
    samples = []
    for i, t in enumerate(scheduler.timesteps):
        given = {}
        if cls is DDPMScheduler:
            # A DDPM step takes a generator only, so its drawing is replaced.
            scheduler.step.__globals__["randn_tensor"] = lambda *_, drawn=noise[i], **__: drawn
        elif cls is DDIMScheduler:
            given = dict(eta=eta, variance_noise=noise[i]) if eta else {}
            given["use_clipped_model_output"] = name.endswith("clipped_noise")
        elif cls is EulerDiscreteScheduler:
            scheduler.scale_model_input(sample, t)
        sample = scheduler.step(outputs[i], t, sample, **given).prev_sample
        samples.append(sample)
    out["samples"] = torch.stack(samples)
    return {f"{name}.{key}": value.numpy().astype(np.float32) for key, value in out.items()}


def unet() -> dict[str, np.ndarray]:
    model = UNet2DModel(**UNET).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value.add_(0.3 * torch.randn_like(value))
            elif name.endswith("bias"):
                value.copy_(0.2 * torch.randn_like(value))
        x, times, labels = torch.randn(3, 2, 8, 8), torch.tensor([0, 17, 999]), torch.tensor([4, 0, 2])
        y = model(x, times, class_labels=labels).sample
    out = {f"weights.{name}": value.numpy().copy() for name, value in model.state_dict().items()}
    out |= {"x": x.movedim(1, -1).contiguous().numpy(), "times": times.int().numpy(), "labels": labels.int().numpy()}
    return {**out, "y": y.movedim(1, -1).contiguous().numpy()}


def settings(thing) -> dict:
    return {name: value for name, value in thing.config.items() if not name.startswith("_")}


def main() -> None:
    torch.manual_seed(0)
    tensors, about = {}, {}
    for name, case in CASES.items():
        tensors |= schedule(name, *case)
        cls, _, eta, options = case
        clipped = {"clip_noise": name.endswith("clipped_noise")}
        about[name] = {"class": cls.__name__, "eta": eta, **settings(cls(**options)), **clipped}
    save_file(tensors, HERE / "schedulers.safetensors", {"cases": json.dumps(about)})
    config = settings(UNet2DModel(**UNET))
    torch.manual_seed(0)
    save_file(unet(), HERE / "unet.safetensors", {"config": json.dumps(config)})


if __name__ == "__main__":
    main()
