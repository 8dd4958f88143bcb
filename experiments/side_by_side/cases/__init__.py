"""The cases, one a file. To add one: write its file with a `CASE`, and name it here.

A case's file imports libraries inside its rivals, so that each worker has only its own. What several cases share is in
`decoders`, `classifiers`, `unets` and `limits`.
"""

from experiments.side_by_side.cases import (
    checkpoint,
    compile,
    decode,
    decode_32,
    decode_bf16,
    diffusion,
    first_step,
    forward,
    gpt,
    gpt_124m,
    gpt_bf16,
    gpt_small,
    imports,
    lenet,
    loading,
    lstm,
    memory,
    mixture,
    pause,
    pipeline,
    resnet20,
    restore,
    small_mlp,
    sweep,
    vit,
)

MODULES = (
    small_mlp, sweep, forward, lenet, resnet20, lstm, gpt, gpt_small, gpt_124m, gpt_bf16, mixture, memory, decode,
    decode_32, decode_bf16, vit, diffusion, imports, first_step, compile, loading, pipeline, checkpoint, restore, pause,
)  # fmt: skip
CASES = {module.CASE.name: module.CASE for module in MODULES}
