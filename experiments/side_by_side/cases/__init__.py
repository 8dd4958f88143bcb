"""The cases, one a file. To add one: write its file with a `CASE`, and name it here.

A case's file imports libraries inside its rivals, so that each worker has only its own.
"""

from experiments.side_by_side.cases import decode, gpt, imports, lstm, small_mlp, sweep

CASES = {case.name: case for case in (small_mlp.CASE, sweep.CASE, lstm.CASE, gpt.CASE, decode.CASE, imports.CASE)}
