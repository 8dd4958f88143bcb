"""One run, to be killed and started again, which prints its steps: `python worker.py KIND FOLDER STEPS SAVE_EVERY`

KIND: "plain" (a traceable function of the step), "stream" (Grain, read on the host), "stacked" (an ensemble of three).

`python worker.py` reads lines of such arguments, as JSON with two files for what the run prints, and forks for each.
"""

import hashlib
import json
import os
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from jann.core import Model
from jann.layers import batch_norm, batch_norm_spec, dropout, linear, linear_spec


class Net(Model):
    """Everything that a run can carry: weights, noise, running statistics."""

    def spec(self):
        return {"first": linear_spec(4, 16), "norm": batch_norm_spec(16), "last": linear_spec(16, 3)}

    def apply(self, params, x, state=None, key=None):
        h, statistics = batch_norm(params["norm"], linear(params["first"], x))
        return linear(params["last"], dropout(jax.nn.relu(h), 0.2, key)), {"norm": statistics}


def batches(step):
    x = jax.random.normal(jax.random.fold_in(jax.random.key(9), step), (16, 4))
    return {"x": x, "label": (x[:, 0] > 0).astype(jnp.int32) + (x[:, 1] > 0)}


class Points:
    """What the stream reads from; takes a while, so that kills fall between reading and training too."""

    def __len__(self):
        return 200

    def __getitem__(self, i):
        time.sleep(0.0003)
        x = np.random.default_rng(i).normal(size=4).astype(np.float32)
        return {"x": x, "label": np.int32(x[0] > 0) + np.int32(x[1] > 0)}


def jitter(example, rng):
    return {**example, "x": example["x"] + 0.1 * rng.normal(size=4).astype(np.float32)}


def fingerprint(train_state):
    """One number for all bits of a train state: parameters, optimiser, statistics, average, key and step."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(train_state)[0]:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        digest.update(f"{jann.trees.path_name(path)} {leaf.dtype} {leaf.shape}".encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def main(kind, folder, steps, save_every):
    optimizer = optax.inject_hyperparams(optax.adamw)(optax.cosine_decay_schedule(1e-2, 400))
    step = jann.make_step(jann.objective(Net(), inputs="x"), optimizer, average=0.9)
    begin = jax.jit(lambda key: jann.start(Net(), optimizer, key, average_weights=True))
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    train_state = jax.vmap(begin)(keys) if kind == "stacked" else begin(keys[0])

    def announce(train_state):
        step = int(np.ravel(train_state.step)[0])
        print(f"step {step}", flush=True)
        return {}

    source = jann.data.Stream(Points(), 16, seed=3, transform=jitter) if kind == "stream" else batches
    options = {"every": 2, "save_every": save_every, "folder": folder, "model": Net(), "progress": False}
    end, history = jann.fit(step, source, train_state, steps, evaluate=announce, **options)
    losses = hashlib.sha256(history["loss"].tobytes()).hexdigest()
    print(f"end {int(np.ravel(end.step)[0])} {fingerprint(end)} {losses}")


def serve():
    """A process for each line: prints its number, and its exit status at its end. Importing costs more than many runs.

    JAX starts what it has of threads in the fork alone.
    """
    import orbax.checkpoint  # noqa: F401

    warnings.filterwarnings("ignore", "os.fork")
    for line in sys.stdin:
        kind, folder, steps, save_every, out, errors = json.loads(line)
        if process := os.fork():
            print(process, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
        else:
            for file, descriptor in ((out, 1), (errors, 2)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
            return main(kind, folder, steps, save_every)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        serve()
