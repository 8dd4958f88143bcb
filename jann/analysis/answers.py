"""How right answers in words are, as SQuAD counts it."""

import re
import string
from collections import Counter
from collections.abc import Sequence

WITHOUT = str.maketrans("", "", string.punctuation)


def answer_scores(said: Sequence[str], right: Sequence[Sequence[str]]) -> dict[str, float]:
    """n answers, and all that would have been right for each -> {"exact_match", "f1"}, means in percent

    Both compare words in small letters without punctuation and articles, with the right answer that is nearest. Nothing
    right to say is (), and then "" is the right answer.

    Rajpurkar et al. 2016, arXiv:1606.05250, and the evaluation script of SQuAD 2.0. Raises ValueError where there are
    none, or not as many of one as of the other.
    """
    if len(said) != len(right) or not said:
        raise ValueError(f"{len(said)} answers and {len(right)} lists of right ones: give one list for each answer")
    for i, each in enumerate(right):
        if isinstance(each, str):
            raise TypeError(f"right[{i}] is a string, whose letters are no answers: give a list, [{each!r}]")
    scores = {"exact_match": exact_match, "f1": word_f1}
    return {
        name: 100 * sum(max(score(a, b) for b in several or ("",)) for a, several in zip(said, right, strict=True))
        / len(said) for name, score in scores.items()
    }  # fmt: skip


def exact_match(said: str, right: str) -> float:
    return float(answer_words(said) == answer_words(right))


def word_f1(said: str, right: str) -> float:
    """2 × shared words / all words of both, which is the harmonic mean of precision and recall"""
    said, right = answer_words(said), answer_words(right)
    if not said or not right:
        return float(said == right)
    return 2 * (Counter(said) & Counter(right)).total() / (len(said) + len(right))


def answer_words(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation, and without "a", "an" and "the" """
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(WITHOUT)).split()
