"""Decoding as in `decode`, of weights in bfloat16, as most are published: half as many bytes are read for each token.

The blocks' weights are drawn less large than there, so that rounding does not decide which token is next.
"""

from experiments.side_by_side.cases import decode
from experiments.side_by_side.harness import Bar

CASE = decode.decoding("decode_bf16", 1, (Bar("jann", "transformers", times=1.0),), "bfloat16", times=1)
