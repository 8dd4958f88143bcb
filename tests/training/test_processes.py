"""Several processes that train together do what one does."""

import json

import jax
import numpy as np
import optax
import pytest

import jann

MODEL, OPTIMIZER = jann.models.MLP(8, (16,), 4), optax.adam(1e-2)


class Examples:
    def __len__(self):
        return 64

    def __getitem__(self, index):
        image = np.random.default_rng(index).normal(size=8).astype(np.float32)
        return {"image": image, "label": np.int32(image[:4].argmax())}


OF_TWO = """
import json
import jann
from jax.sharding import NamedSharding, PartitionSpec as P
from tests.training.test_processes import MODEL, OPTIMIZER, Examples
mesh, key = jax.sharding.Mesh(jax.devices(), ("data",)), jax.random.key(0)
params = jax.device_put(MODEL.init(key), jann.shardings(MODEL, mesh, {"inputs": "data"}))
state = jann.TrainState.start(key, params, OPTIMIZER)  # a part of it on no device of this process
step = jann.make_step(jann.objective(MODEL), OPTIMIZER)
parts = jann.data.Stream(Examples(), 16, seed=0, rank=number, world=2)
try:
    jann.fit(step, parts, state, 4)
except ValueError as error:
    print(error)
whole = jann.data.Stream(Examples(), 16, seed=0, rank=number, world=2, sharding=NamedSharding(mesh, P("data")))
for steps in (4, 8):
    end, history = jann.fit(step, whole, state, steps, every=4, folder=arguments[0], model=MODEL, progress=False)
print(json.dumps(history["loss"].tolist()))
"""


def test_two_processes_train_as_one_on_split_batches_and_parameters(in_two_processes, key, tmp_path):
    """To files that one process reads. Each reads its part of a batch, also of a run that goes on."""
    pytest.importorskip("grain")
    state = jann.TrainState.start(key, MODEL.init(key), OPTIMIZER)
    step = jann.make_step(jann.objective(MODEL), OPTIMIZER)
    end, history = jann.fit(step, jann.data.Stream(Examples(), 16, seed=0), state, 8, every=4, progress=False)
    for *_, refused, losses in in_two_processes(OF_TWO, tmp_path):
        assert refused.startswith("this Stream reads another part of each batch in each process")
        np.testing.assert_allclose(json.loads(losses), history["loss"], rtol=1e-5)
    _, params = jann.load(tmp_path)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), params, end.params)
