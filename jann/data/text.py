"""Text as characters: Tiny Shakespeare, and the language reference that comes with every Python."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jann.data.files import altered, find


@dataclass(frozen=True, eq=False, repr=False)
class Text:
    """A text cut in two, each part as numbers of characters, int32[characters]; `vocabulary[number]` is the character.

    train, validation:  the first nine tenths of the text and the rest
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    vocabulary: tuple[str, ...]

    def encode(self, text: str) -> np.ndarray:
        """text -> the numbers of its characters, int32[characters]. Raises ValueError for one that has none."""
        numbers = {character: number for number, character in enumerate(self.vocabulary)}
        for place, character in enumerate(text):
            if character not in numbers:
                known = "".join(self.vocabulary)
                raise ValueError(f"{self.name} has no character {character!r} (place {place}); it has {known!r}")
        return np.array([numbers[character] for character in text], np.int32)

    def decode(self, numbers: Iterable[int]) -> str:
        """numbers[characters] -> the text."""
        return "".join(self.vocabulary[int(number)] for number in np.asarray(numbers))

    def __repr__(self) -> str:
        sizes = f"train {len(self.train):,}, validation {len(self.validation):,}"
        return f"Text({self.name!r}: {sizes} characters; {len(self.vocabulary)} different)"


def tiny_shakespeare() -> Text:
    """A million characters of Shakespeare's plays, 65 different: 1,003,854 train, 111,540 validation (the last tenth).

    Karpathy 2015, "The unreasonable effectiveness of recurrent neural networks", char-rnn.
    """
    path = find("text/tinyshakespeare_input.txt", SHAKESPEARE_URL, f"sha256:{SHAKESPEARE_SHA256}")
    contents = path.read_bytes()
    found = hashlib.sha256(contents).hexdigest()
    if found != SHAKESPEARE_SHA256:
        raise altered(path, f"has sha256 {found}", SHAKESPEARE_SHA256)
    return as_text("tiny_shakespeare", contents.decode("ascii"))


def python_topics() -> Text:
    """The chapters of the language reference that Python's `help()` shows, about half a million characters.

    They come with Python, so nothing is downloaded, and another version of Python has other text: compare results of
    one version only.
    """
    from pydoc_data.topics import topics

    return as_text("python_topics", "\n".join(topics[name] for name in sorted(topics)))


SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def as_text(name: str, text: str) -> Text:
    """A text as numbers of its characters (in the order of their code points), the last tenth for validation."""
    vocabulary, numbers = np.unique(np.array(list(text)), return_inverse=True)
    cut = 9 * len(text) // 10
    return Text(name, *np.split(numbers.astype(np.int32), [cut]), tuple(vocabulary.tolist()))
