"""Sequences of tokens, of any lengths, as arrays of one shape for language models."""

from collections.abc import Sequence

import numpy as np

Tokens = Sequence[int] | np.ndarray


def padded(
    sequences: Sequence[Tokens], length: int | None = None, pad: int = 0, multiple: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """sequences, n of them -> (tokens int32[n, length], `pad` after each; lengths int32[n])

    length:    by default that of the longest, rounded up to a `multiple`, so that few shapes are compiled

    Raises ValueError where there is none, one is empty or one is longer than `length`.
    """
    arrays = [as_tokens(sequence, f"sequence {i}") for i, sequence in enumerate(sequences)]
    if not arrays:
        raise ValueError("there are no sequences: give a list of lists of tokens")
    lengths = np.array([len(array) for array in arrays], np.int32)
    longest = int(lengths.max())
    if length is None:
        length = -(-longest // multiple) * multiple
    elif longest > length:
        raise ValueError(
            f"sequence {lengths.argmax()} has {longest} tokens, more than length={length}: cut it (tokens[:{length}]), "
            "leave it out or give a greater length"
        )
    tokens = np.full((len(arrays), length), pad, np.int32)
    tokens[np.arange(length) < lengths[:, None]] = np.concatenate(arrays)
    return tokens, lengths


def packed(documents: Sequence[Tokens], length: int, pad: int = 0) -> dict[str, np.ndarray]:
    """documents -> rows for training on each next token, several documents in one: a dict of arrays [rows, length]

    "token":     what is read: all tokens of a document but its last
    "label":     the token after each, in the same document
    "weight":    1; 0 where nothing stands
    "position":  0, 1, 2, ... from where each document begins; -1 where nothing stands
    "document":  1, 2, ... in each row, 0 where nothing stands: none looks into another

    A decoder takes them so, and every token but the first of a document is foretold once:

        loss = jann.objective(model, jann.language, inputs=("token", None, "position", "document"))

    Documents too long for a row are cut into pieces, each then a document of its own. The longest is placed first, each
    in the fullest row that has room for it (best-fit decreasing: Ding et al. 2024, arXiv:2404.10830).

    Raises ValueError where no document has two tokens, or one none.
    """
    if length < 1:
        raise ValueError(f"length={length}: a row holds at least one token")
    arrays = [as_tokens(document, f"document {i}") for i, document in enumerate(documents)]
    pieces = [array[i : i + length + 1] for array in arrays for i in range(0, len(array) - 1, length)]
    if not pieces:
        raise ValueError("nothing follows anything: give at least one document of two tokens")
    return rows_of(pieces, [0] * len(pieces), length, pad)


def instructed(pairs: Sequence[tuple[Tokens, Tokens]], length: int, pad: int = 0) -> dict[str, np.ndarray]:
    """pairs of (prompt, answer) -> rows as of `packed`, in which only the answers are foretold

    "weight" is 0 where the label is of the prompt. The answer should end with what stops it, such as "</s>": that is
    learnt too.

    Raises ValueError where there is no pair, a prompt or an answer is empty, or both together do not fit in a row.
    """
    pieces, prompts = [], []
    for i, (prompt, answer) in enumerate(pairs):
        prompt, answer = as_tokens(prompt, f"prompt {i}"), as_tokens(answer, f"answer {i}")
        if len(prompt) + len(answer) - 1 > length:
            raise ValueError(
                f"pair {i} has {len(prompt)} + {len(answer)} tokens, more than {length + 1} (length + 1, for the last "
                "is only foretold): cut or leave out long ones, or give a greater length"
            )
        pieces.append(np.concatenate([prompt, answer]))
        prompts.append(len(prompt))
    if not pieces:
        raise ValueError("there are no pairs: give a list of (prompt, answer), each a list of tokens")
    return rows_of(pieces, prompts, length, pad)


def paired(
    sources: Sequence[Tokens],
    targets: Sequence[Tokens],
    begin: int,
    stop: int,
    source_length: int | None = None,
    target_length: int | None = None,
    pad: int = 0,
) -> dict[str, np.ndarray]:
    """Source i and target i -> what trains an encoder-decoder, a dict of arrays [n, ...]

    "source":         int32[n, source], and "source_length" int32[n]
    "token":          int32[n, time], what the decoder reads: `begin`, then the target
    "label":          what it foretells: the target, then `stop`
    "weight":         1; 0 after `stop`

        loss = jann.objective(model, jann.language, inputs=("source", "token", "source_length"))

    source_length, target_length:  as `length` of `padded`; the latter counts `begin`

    Raises ValueError where their numbers differ, and as `padded` does.
    """
    if len(sources) != len(targets):
        raise ValueError(f"{len(sources)} sources and {len(targets)} targets: give one target for each source")
    targets = [as_tokens(target, f"target {i}") for i, target in enumerate(targets)]
    source, lengths = padded(sources, source_length, pad)
    token, time = padded([np.append(begin, target) for target in targets], target_length, pad)
    label, _ = padded([np.append(target, stop) for target in targets], token.shape[1], pad)
    weight = (np.arange(token.shape[1]) < time[:, None]).astype(np.float32)
    return {"source": source, "source_length": lengths, "token": token, "label": label, "weight": weight}


def as_tokens(sequence: Tokens, name: str) -> np.ndarray:
    """The sequence as int32[time]; ValueError by its name where it is empty or no list of numbers."""
    array = np.asarray(sequence)
    if array.size == 0:
        raise ValueError(f"{name} is empty: leave it out, or give it a token")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        kind = f"an array {list(array.shape)} of {array.dtype}"
        raise ValueError(f"{name} is {kind}: give a list of tokens' numbers, such as tokenizer.encode(text).ids")
    return array.astype(np.int32, copy=False)


def rows_of(pieces: list[np.ndarray], prompts: Sequence[int], length: int, pad: int) -> dict[str, np.ndarray]:
    """Pieces of at most length + 1 tokens, of which the first `prompts` are given, -> the arrays of `packed`"""
    sizes = np.array([len(piece) - 1 for piece in pieces])
    row, column, number = best_fit(sizes, length)
    rows = int(row.max()) + 1
    # The place of each token in rows written one after another, and where it stands in its piece.
    position = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = np.repeat(row * length + column, sizes) + position
    whole = np.concatenate(pieces)
    last = np.cumsum(sizes + 1) - 1
    weight = position + 1 >= np.repeat(prompts, sizes)

    def laid(values, nothing, dtype=np.int32):
        out = np.full(rows * length, nothing, dtype)
        out[place] = values
        return out.reshape(rows, length)

    return {
        "token": laid(np.delete(whole, last), pad),
        "label": laid(np.delete(whole, last - sizes), pad),
        "weight": laid(weight, 0, np.float32),
        "position": laid(position, -1),
        "document": laid(np.repeat(number, sizes), 0),
    }


def best_fit(sizes: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """sizes[n], 1 to length -> each one's row, its first column there, and its number in the row from 1, each [n]"""
    row, column, number = (np.zeros(len(sizes), np.int64) for _ in range(3))
    with_room = [[] for _ in range(length + 1)]  # rows, by how many places are free
    free = 0  # bit n is 1 where with_room[n] is not empty
    used, held = [], []
    for i in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[i])
        enough = free >> size
        if enough:
            room = size + (enough & -enough).bit_length() - 1
            at = with_room[room].pop()
            if not with_room[room]:
                free ^= 1 << room
        else:
            room, at = length, len(used)
            used.append(0)
            held.append(0)
        row[i], column[i], number[i] = at, used[at], held[at] + 1
        used[at] += size
        held[at] += 1
        if room > size:
            with_room[room - size].append(at)
            free |= 1 << (room - size)
    return row, column, number
