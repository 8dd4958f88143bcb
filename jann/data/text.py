"""Text as characters: Tiny Shakespeare, and the language reference that comes with every Python."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
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


def windows(tokens: np.ndarray, size: int, length: int, key: jax.Array) -> "Windows":
    """Batches for truncated backpropagation through time: `size` places of tokens[n] read on, `length` at a step.

    A batch is {"inputs": int32[size, length], "targets": the same one token later, "fresh": bool[]}. Row i goes on
    where row i of the step before stopped, so a recurrent state can be carried from step to step; it is `fresh` where
    the state should be zero: at each epoch's start, when all rows go to new places. An epoch is a pass over all tokens.
    The text is read as a circle of which each epoch begins elsewhere, so the batch of step n depends on `key` and n
    alone, as with `jann.data.batches`.

    Raises ValueError where the tokens do not fill one window.
    """
    tokens = jnp.asarray(tokens)
    if tokens.ndim != 1 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"tokens must be integers [n], got {tokens.dtype}{list(tokens.shape)}")
    if size < 1 or length < 1:
        raise ValueError(f"size={size}, length={length}: both must be at least 1")
    if size * length > len(tokens):
        raise ValueError(f"{size} windows of {length} need {size * length:,} tokens, there are {len(tokens):,}")
    return Windows(tokens, key, size, length)


@partial(jax.tree_util.register_dataclass, data_fields=["tokens", "key"], meta_fields=["size", "length"])
@dataclass(frozen=True, eq=False)
class Windows:
    """What `windows` makes: a pytree with the interface of `Batches`."""

    tokens: jax.Array = field(repr=False)
    key: jax.Array
    size: int
    length: int

    @property
    def steps_per_epoch(self) -> int:
        """The number of windows that each row reads in an epoch."""
        return len(self.tokens) // (self.size * self.length)

    def plan(self, step: int | jax.Array, n: int) -> dict[str, jax.Array]:
        """Where the rows of steps step .. step + n − 1 begin, to scan over: {"start": [n, size], "fresh": [n]}."""
        steps = jnp.asarray(step, jnp.int32) + jnp.arange(n, dtype=jnp.int32)
        epoch, within = steps // self.steps_per_epoch, steps % self.steps_per_epoch
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.key, epoch)
        turned = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(self.tokens)))(keys)
        rows = jnp.arange(self.size, dtype=jnp.int32) * (len(self.tokens) // self.size)
        starts = (turned + within * self.length)[:, None] + rows[None, :]
        return {"start": starts % len(self.tokens), "fresh": within == 0}

    def take(self, planned: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The batch of one planned step."""
        places = planned["start"][:, None] + jnp.arange(self.length + 1)[None, :]
        tokens = self.tokens[places % len(self.tokens)]
        return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "fresh": planned["fresh"]}

    def __call__(self, step: int | jax.Array) -> dict[str, jax.Array]:
        """The batch of step `step`. To train, plan many."""
        return self.take(jax.tree.map(lambda x: x[0], self.plan(step, 1)))
