"""Weights of recurrent networks, as the state dicts of PyTorch's nn.RNN, nn.LSTM and nn.GRU hold them.

The gates are in the same order. Where we have one bias PyTorch has two: reading adds them, and writing gives the sum as
the first, with zeros as the second. The outputs are the same either way. Only the GRU's new gate needs both.
"""

import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from jann.core import check
from jann.models.recurrent import Recurrent
from jann.pretrained.tables import WeightsError
from jann.trees import Tree

DIRECTIONS = {"forward": "", "backward": "_reverse"}


def from_torch(tensors: Mapping[str, np.ndarray], model: Recurrent | None = None, prefix: str = "") -> Tree:
    """{"weight_ih_l0": array, "weight_hh_l0_reverse": array, ...} -> parameters of an `RNN`, `LSTM` or `GRU`.

    model:   what the parameters are for: then they must fit it
    prefix:  only names that begin so are read, such as "encoder."

    Raises WeightsError listing missing and unexpected tensors by name, ShapeError for sizes that do not fit the model.
    """
    tensors = {name.removeprefix(prefix): np.asarray(t) for name, t in tensors.items() if name.startswith(prefix)}
    found = {name: re.fullmatch(r"(?:weight|bias)_(?:ih|hh)_l(\d+)(_reverse)?", name) for name in tensors}
    layers = model.layers if model else 1 + max((int(match[1]) for match in found.values() if match), default=0)
    both = model.bidirectional if model else any(match and match[2] for match in found.values())
    directions = DIRECTIONS if both else {"forward": ""}
    wanted = [[_names(i, suffix) for suffix in directions.values()] for i in range(layers)]
    biased = any(name.startswith("bias") for name in tensors)
    names = {name for layer in wanted for cell in layer for name in (cell if biased else cell[:2])}
    problems = [f"{prefix}{name}: missing" for name in sorted(names - set(tensors))]
    problems += [f"{prefix}{name}: unexpected" for name in tensors if name not in names]
    if problems:
        raise WeightsError(f"the tensors do not fit {model or 'a recurrent network'}:\n  " + "\n  ".join(problems))
    cells = [[_cell(*(tensors.get(name) for name in cell)) for cell in layer] for layer in wanted]
    params = {"layers": [dict(zip(directions, layer, strict=True)) for layer in cells]}
    if model:
        check(model, params)
    return params


def to_torch(params: Tree, prefix: str = "") -> dict[str, np.ndarray]:
    """Parameters of an `RNN`, `LSTM` or `GRU` -> {"weight_ih_l0": array, ...}, the inverse of `from_torch`."""
    tensors = {}
    for i, layer in enumerate(params["layers"]):
        for direction, p in layer.items():
            input_weight, weight, bias = p["input"]["weight"], p["recurrent"]["weight"], p["input"]["bias"]
            second = np.zeros(bias.shape, np.float32)
            if "bias" in p["recurrent"]:
                second[-1] = p["recurrent"]["bias"]
            arrays = [_matrix(input_weight), _matrix(weight), np.asarray(bias).reshape(-1), second.reshape(-1)]
            names = _names(i, DIRECTIONS[direction])
            tensors |= {prefix + name: array for name, array in zip(names, arrays, strict=True)}
    return tensors


def _names(layer: int, suffix: str) -> list[str]:
    return [f"{kind}_l{layer}{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _matrix(weight) -> np.ndarray:
    """[inputs, gates, hidden] -> [gates * hidden, inputs]"""
    weight = np.asarray(weight)
    return np.ascontiguousarray(weight.reshape(weight.shape[0], -1).T)


def _cell(input_weight, weight, input_bias=None, bias=None) -> Tree:
    hidden = weight.shape[1]
    gates = weight.shape[0] // hidden
    shape = (hidden,) if gates == 1 else (gates, hidden)
    first, second = (np.zeros(shape, np.float32) if b is None else b.reshape(shape) for b in (input_bias, bias))
    recurrent = {"weight": jnp.asarray(weight.T.reshape(hidden, *shape))}
    if gates == 3:
        recurrent["bias"] = jnp.asarray(second[2])
        second = np.concatenate([second[:2], np.zeros_like(second[2:])])
    weight = jnp.asarray(input_weight.T.reshape(input_weight.shape[1], *shape))
    return {"input": {"weight": weight, "bias": jnp.asarray(first + second)}, "recurrent": recurrent}
