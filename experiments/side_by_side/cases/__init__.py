"""The cases, one a file. To add one: write its file with a `CASE`, and name it here.

A case's file imports libraries inside its rivals, so that each worker has only its own.
"""

from experiments.side_by_side.cases import compile, decode, gpt, imports, lstm, small_mlp, sweep

MODULES = (small_mlp, sweep, lstm, gpt, decode, compile, imports)
CASES = {module.CASE.name: module.CASE for module in MODULES}
