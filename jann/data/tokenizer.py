"""From text to numbers of tokens and back, by the `tokenizers` library: published ones, and one of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jann.data.files import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTES = 256


def load_tokenizer(path: str | Path) -> Tokenizer:
    """A tokenizer.json, or that of a folder as published, whatever its kind: every text whole, and nothing added to it.

    What the file says of truncation and padding is left behind, as by transformers: it is how somebody called it last.

    Raises FileNotFoundError where there is none, DataError where it is damaged.
    """
    from tokenizers import Tokenizer

    path = Path(path)
    file = path / "tokenizer.json" if path.is_dir() or path.suffix != ".json" else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: give a folder as published, with its tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more exact
        raise DataError(f"{file} is no tokenizer, or a damaged one ({error}): copy it again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def train_bpe(
    texts: Iterable[str], vocab: int, special: Sequence[str] = ("<pad>", "<s>", "</s>"), frequency: int = 2
) -> Tokenizer:
    """Byte-pair encoding of texts with (at most) `vocab` tokens: `special`, numbered from 0, the 256 bytes, then pairs.

        tokenizer = train_bpe(texts, 8000)
        numbers = tokenizer.encode("any text").ids
        tokenizer.decode(numbers, skip_special_tokens=False)    # the text again, to the byte
        tokenizer.save("folder/tokenizer.json")                 # `load_tokenizer` reads it

    It starts from bytes, so that it knows every text (Radford et al. 2019), and joins what stands side by side most
    often (Sennrich, Haddow and Birch 2016, arXiv:1508.07909), until there are `vocab` tokens or none as frequent as
    `frequency`. Equal texts give equal tokenizers. Text that spells a special token becomes that token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if isinstance(texts, str):
        raise TypeError("texts is one string, whose characters are no texts: give a list, such as [text]")
    if vocab < BYTES + len(special):
        raise ValueError(f"vocab={vocab} is too few: there are {BYTES} bytes and {len(special)} special tokens")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=frequency,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
