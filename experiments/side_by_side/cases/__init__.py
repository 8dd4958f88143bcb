"""The cases, one a file. To add one: write its file with a `CASE`, and name it here.

A case's file imports libraries inside its rivals, so that each worker has only its own. What several cases share is in
`decoders`, `classifiers` and `limits`.
"""

from experiments.side_by_side.cases import (
    checkpoint,
    compile,
    decode,
    diffusion,
    first_step,
    forward,
    gpt,
    imports,
    lenet,
    loading,
    lstm,
    memory,
    pause,
    pipeline,
    resnet20,
    restore,
    small_mlp,
    sweep,
    vit,
)

MODULES = (
    small_mlp, sweep, forward, lenet, resnet20, lstm, gpt, memory, decode, vit, diffusion, imports, first_step, compile,
    loading, pipeline, checkpoint, restore, pause,
)  # fmt: skip
CASES = {module.CASE.name: module.CASE for module in MODULES}
