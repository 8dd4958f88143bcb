"""Making sequences with a model: sampling, beam search, speculation. Knows of a model what it is asked to do here.

A decoder has `features(params, tokens, lengths=, state=) -> (x, state)`, `logits(params, x)` and `cache(lead, places)`;
an encoder-decoder has `begin(params, inputs, lengths, places) -> (first tokens, state)` in place of `cache`.
`best_spans` picks an answer from a text instead, by logits alone.
"""

from jann.generation.beams import beam_search
from jann.generation.choice import no_repeated_ngrams, repetition_penalised, warped
from jann.generation.decoding import Generated, for_decoding, generate, stream
from jann.generation.sampling import sample
from jann.generation.spans import best_spans
from jann.generation.speculation import speculate

__all__ = [
    "Generated",
    "beam_search",
    "best_spans",
    "for_decoding",
    "generate",
    "no_repeated_ngrams",
    "repetition_penalised",
    "sample",
    "speculate",
    "stream",
    "warped",
]
