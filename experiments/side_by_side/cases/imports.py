"""How long a fresh process takes to import a library: whole processes, Python's own start among it."""

import importlib.util
import subprocess
import sys
from functools import partial

import numpy as np

from experiments.side_by_side.harness import Advance, Arrays, Bar, Case

SCRIPTS = {
    "jax": "import jax",
    "jann": "import jax, jann",
    "nnx": "import jax; from flax import nnx",
    "equinox": "import jax, equinox",
    "haiku": "import jax, haiku",
    "torch": "import torch",
}
PACKAGES = {"nnx": "flax"}


def importing(name: str, start: Arrays) -> Advance:
    package = PACKAGES.get(name, name)
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    def advance(portions):
        for _ in range(portions):
            subprocess.run([sys.executable, "-c", SCRIPTS[name]], check=True)
        return np.zeros(1)  # there are no losses to compare

    return advance


CASE = Case(
    name="import",
    work="a process that imports the library and ends",
    unit="s",
    portion=1,
    start=dict,
    rivals={name: partial(importing, name) for name in SCRIPTS},
    reference="jann",
    bars=(Bar("jann", "jax", seconds=0.3),),
)
