"""Decoding as in `decode`, of 32 sequences at once, where all rows share what is read of the weights."""

from experiments.side_by_side.cases import decode
from experiments.side_by_side.harness import Bar

ROWS = 32

CASE = decode.decoding("decode_32", ROWS, (Bar("jann", "transformers", times=1.0),))
