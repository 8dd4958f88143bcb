"""Golden models: published families at small size, with what PyTorch's transformers makes of them."""

import json
from types import SimpleNamespace

import pytest
from safetensors.numpy import load_file

from jann.pretrained import from_pretrained


@pytest.fixture(scope="session")
def golden(goldens):
    """name -> .model, .params, .inputs and .outputs by case, and .bar(output): twenty times PyTorch's own rounding"""
    loaded = {}

    def load(name):
        if name not in loaded:
            folder = goldens / name
            arrays = load_file(folder / "io.safetensors")
            about = json.loads((folder / "io.json").read_text())["outputs"]
            model, params = from_pretrained(folder)

            def bar(output):
                return 20 * about[output]["max_abs_err_f32_vs_f64"] + 1e-7

            loaded[name] = SimpleNamespace(
                folder=folder, model=model, params=params, bar=bar,
                inputs={key[3:]: value for key, value in arrays.items() if key.startswith("in.")},
                outputs={key[4:]: value for key, value in arrays.items() if key.startswith("out.")},
            )  # fmt: skip
        return loaded[name]

    return load
