"""Makes the stored goldens of this folder with PyTorch: `python tests/goldens/make.py` (needs torch).

Layouts are jann's: channels last, kernels [*window, inputs, outputs]. How a case was made is in the files' metadata.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent

CONVOLUTIONS = {
    "1d": dict(dims=1, window=3, inputs=4, outputs=6, stride=1, padding=1, dilation=1, groups=1),
    "1d_strided_dilated": dict(dims=1, window=3, inputs=4, outputs=6, stride=2, padding=2, dilation=2, groups=2),
    "2d": dict(dims=2, window=3, inputs=3, outputs=5, stride=1, padding=0, dilation=1, groups=1),
    "2d_strided": dict(dims=2, window=3, inputs=3, outputs=5, stride=2, padding=1, dilation=1, groups=1),
    "2d_dilated_grouped": dict(dims=2, window=3, inputs=4, outputs=8, stride=1, padding=2, dilation=2, groups=4),
    "2d_depthwise": dict(dims=2, window=5, inputs=4, outputs=4, stride=2, padding=2, dilation=1, groups=4),
    "3d": dict(dims=3, window=3, inputs=2, outputs=3, stride=1, padding=1, dilation=1, groups=1),
    "3d_strided_grouped": dict(dims=3, window=2, inputs=4, outputs=4, stride=2, padding=0, dilation=1, groups=2),
}
TRANSPOSED = {
    "1d": dict(dims=1, window=4, inputs=3, outputs=5, stride=2, padding=1),
    "2d": dict(dims=2, window=3, inputs=3, outputs=4, stride=1, padding=0),
    "2d_strided": dict(dims=2, window=4, inputs=3, outputs=4, stride=2, padding=1),
    "3d": dict(dims=3, window=2, inputs=2, outputs=3, stride=2, padding=0),
}
POOLS = {
    "max_1d": dict(kind="max", dims=1, window=2, stride=2, padding=0),
    "max_2d": dict(kind="max", dims=2, window=3, stride=2, padding=1),
    "max_3d": dict(kind="max", dims=3, window=2, stride=2, padding=0),
    "average_1d": dict(kind="average", dims=1, window=3, stride=1, padding=0),
    "average_2d": dict(kind="average", dims=2, window=3, stride=2, padding=1),
    "average_3d": dict(kind="average", dims=3, window=2, stride=1, padding=0),
}
SIZES = {1: (11,), 2: (9, 8), 3: (5, 6, 4)}
RESNETS = {
    "resnet18": dict(bottleneck=False, depths=(2, 2, 2, 2), width=8),
    "resnet50_short": dict(bottleneck=True, depths=(1, 2, 1, 1), width=4),
}
RECURRENT = {
    f"{cell.lower()}_{layers}{'_both' * both}": dict(cell=cell, layers=layers, bidirectional=both)
    for cell in ("RNN", "LSTM", "GRU")
    for layers in (1, 2, 3)
    for both in (False, True)
} | {"relu_2_both": dict(cell="RNN", layers=2, bidirectional=True, nonlinearity="relu")}
GRADIENTS = ("conv1.weight", "layer1.0.bn2.weight", "layer2.0.downsample.0.weight", "layer4.0.bn1.bias", "fc.weight")
MOMENTUM = 0.1


def last(x: torch.Tensor) -> np.ndarray:
    """[batch, channels, *space] -> [batch, *space, channels]"""
    return np.ascontiguousarray(x.detach().movedim(1, -1).numpy())


def layers() -> dict[str, np.ndarray]:
    out = {}
    for name, c in CONVOLUTIONS.items():
        x = torch.randn(2, c["inputs"], *SIZES[c["dims"]])
        weight = torch.randn(c["outputs"], c["inputs"] // c["groups"], *(c["window"],) * c["dims"])
        bias = torch.randn(c["outputs"])
        function = (F.conv1d, F.conv2d, F.conv3d)[c["dims"] - 1]
        y = function(x, weight, bias, c["stride"], c["padding"], c["dilation"], c["groups"])
        kernel = weight.permute(*range(2, weight.ndim), 1, 0).contiguous()
        out |= {f"conv/{name}/x": last(x), f"conv/{name}/weight": kernel.numpy()}
        out |= {f"conv/{name}/bias": bias.numpy(), f"conv/{name}/y": last(y)}
    for name, c in TRANSPOSED.items():
        x = torch.randn(2, c["inputs"], *SIZES[c["dims"]])
        weight = torch.randn(c["inputs"], c["outputs"], *(c["window"],) * c["dims"])
        bias = torch.randn(c["outputs"])
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[c["dims"] - 1]
        y = function(x, weight, bias, c["stride"], c["padding"])
        kernel = weight.permute(*range(2, weight.ndim), 0, 1).contiguous()
        out |= {f"conv_transpose/{name}/x": last(x), f"conv_transpose/{name}/weight": kernel.numpy()}
        out |= {f"conv_transpose/{name}/bias": bias.numpy(), f"conv_transpose/{name}/y": last(y)}
    for name, c in POOLS.items():
        x = torch.randn(2, 3, *SIZES[c["dims"]])
        if c["kind"] == "max":
            function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[c["dims"] - 1]
            y = function(x, c["window"], c["stride"], c["padding"])
        else:
            function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[c["dims"] - 1]
            y = function(x, c["window"], c["stride"], c["padding"], count_include_pad=False)
        out |= {f"pool/{name}/x": last(x), f"pool/{name}/y": last(y)}

    x, scale, bias = torch.randn(4, 6, 5, 5) * 2 + 1, torch.randn(6), torch.randn(6)
    flat = x.movedim(1, -1)
    mean, variance = torch.randn(6), torch.rand(6) + 0.5
    running_mean, running_variance = torch.zeros(6), torch.ones(6)
    out |= {
        "norm/x": last(x),
        "norm/scale": scale.numpy(),
        "norm/bias": bias.numpy(),
        "norm/layer": F.layer_norm(flat, (6,), scale, bias).numpy(),
        "norm/rms": F.rms_norm(flat, (6,), scale, 1e-6).numpy(),
        "norm/group": last(F.group_norm(x, 3, scale, bias)),
        "norm/instance": last(F.group_norm(x, 6, scale, bias)),
        "norm/mean": mean.numpy(),
        "norm/variance": variance.numpy(),
        "norm/batch_fixed": last(F.batch_norm(x, mean, variance, scale, bias)),
        "norm/batch": last(
            F.batch_norm(x, running_mean, running_variance, scale, bias, training=True, momentum=1.0)
        ),
        "norm/batch_mean": running_mean.numpy(),
        "norm/batch_variance": running_variance.numpy(),
    }
    return out


class Block(nn.Module):
    """A basic or a bottleneck block, named as in torchvision."""

    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = width * (4 if bottleneck else 1)
        plan = (
            [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
            if bottleneck
            else [(inputs, width, 3, stride), (width, outputs, 3, 1)]
        )
        self.n = len(plan)
        for i, (a, b, window, step) in enumerate(plan, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, window, step, window // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b, momentum=MOMENTUM))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, momentum=MOMENTUM)
            )

    def forward(self, x):
        y = x
        for i in range(1, self.n + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.n else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """He et al.'s network for ImageNet, named as in torchvision."""

    def __init__(self, depths, width, bottleneck, classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width, momentum=MOMENTUM)
        channels = width
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                blocks.append(Block(channels, width * 2**i, 2 if i and not j else 1, bottleneck))
                channels = width * 2**i * (4 if bottleneck else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


def resnet(case) -> dict[str, np.ndarray]:
    model = ResNet(**case)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if "bn" in name or "downsample.1" in name:
                if name.endswith(("weight", "running_var")):
                    value.copy_(0.5 + torch.rand_like(value))
                elif name.endswith(("bias", "running_mean")):
                    value.copy_(0.2 * torch.randn_like(value))
    x, labels = torch.randn(4, 3, 64, 64), torch.tensor([1, 7, 3, 0])
    out = {f"weights.{k}": v.numpy().copy() for k, v in model.state_dict().items() if "num_batches" not in k}
    out |= {"x": last(x), "labels": labels.numpy().astype(np.int32)}
    with torch.no_grad():
        out["eval"] = model.eval()(x).numpy()
    logits = model.train()(x)
    F.cross_entropy(logits, labels).backward()
    out["train"] = logits.detach().numpy()
    out |= {f"after.{k}": v.numpy() for k, v in model.state_dict().items() if "running" in k}
    named = dict(model.named_parameters())
    out |= {f"grad.{name}": named[name].grad.numpy() for name in GRADIENTS}
    return out


def recurrent(case) -> dict[str, np.ndarray]:
    """Weights, outputs y, the last states h (and c), and for x the gradient of sum(y²) / 2 + sum(h)."""
    options = {name: value for name, value in case.items() if name not in ("cell", "layers")}
    layer = getattr(nn, case["cell"])(3, 4, case["layers"], batch_first=True, **options)
    x = torch.randn(2, 5, 3, requires_grad=True)
    y, state = layer(x)
    h = state[0] if isinstance(state, tuple) else state
    (y.square().sum() / 2 + h.sum()).backward()
    out = {f"weights.{name}": value.numpy() for name, value in layer.state_dict().items()}
    out |= {"x": x.detach().numpy(), "y": y.detach().numpy(), "h": h.detach().numpy(), "grad": x.grad.numpy()}
    out |= {"c": state[1].detach().numpy()} if isinstance(state, tuple) else {}
    return {name: np.ascontiguousarray(array) for name, array in out.items()}


def main() -> None:
    torch.manual_seed(0)
    cases = {"conv": CONVOLUTIONS, "conv_transpose": TRANSPOSED, "pool": POOLS}
    save_file(layers(), HERE / "layers.safetensors", {"cases": json.dumps(cases)})
    for name, case in RESNETS.items():
        torch.manual_seed(0)
        metadata = {"case": json.dumps(case), "momentum": str(MOMENTUM)}
        save_file(resnet(case), HERE / f"{name}.safetensors", metadata)
    torch.manual_seed(0)
    arrays = {f"{name}/{key}": a for name, case in RECURRENT.items() for key, a in recurrent(case).items()}
    save_file(arrays, HERE / "recurrent.safetensors", {"cases": json.dumps(RECURRENT)})


if __name__ == "__main__":
    main()
