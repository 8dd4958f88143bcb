"""Questions made of texts: a sentence with one name taken out, and the rest of its paragraph, in which the name stands.

And made-up texts with questions, from which a small model learns at once what it is to look something up.

In the manner of Hermann et al. 2015 (arXiv:1506.03340) and of Lewis, Denoyer and Riedel 2019 (arXiv:1906.04980). Names
are runs of capitalised words that do not begin a sentence.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from experiments.masked_words import MASK, SPECIAL
from jann.analysis import exact_match, word_f1
from jann.data import Question

PLACEHOLDER = SPECIAL[MASK]
Name = tuple[str, int]
PEOPLE = "Anna Bea Carl Dora Emil Frida Gus Hugo Ida Jon Karl Lena".split()
THINGS = "Ball Book Cup Drum Fan Hat Kite Lamp Map Pen Ring Shoe".split()
DEEDS = ("has", "sees", "wants")
# Behind a word or a comma; whole, also where a rare word that was left out of the text follows.
CAPITALS = re.compile(r"(?<=[\w,] )[A-Z]\w++(?: [A-Z]\w++)*+(?! \[UNK\])")


def names_in(text: str) -> list[Name]:
    """The names in a text, with the character where each begins"""
    return [(found.group(), found.start()) for found in CAPITALS.finditer(text)]


def from_articles(articles: Sequence[str], words: int = 80) -> list[Question]:
    """Articles of WikiText -> questions on each sentence of their paragraphs, in pieces of so many words at most"""
    questions = []
    for line in (line for article in articles for line in article.split("\n")):
        text = re.sub(r" @([-,.])@ ", r"\1", line.strip().replace("<unk>", "[UNK]"))
        pieces, room = [[]], words
        for sentence in re.split(r"(?<= \.) ", text):
            size = len(sentence.split())
            if size > room:
                pieces.append([])
                room = words
            pieces[-1].append(sentence)
            room -= size
        for piece in pieces:
            questions += asked(piece)
    return questions


def asked(sentences: list[str], most: int = 30) -> list[Question]:
    """Each sentence of at most so many words, with a name out of it that stands in the rest, at the first place there

    One name a sentence: of those that stand once in it, the rarest of the rest, which is the least to be guessed. The
    rest has three different names at least.
    """
    questions = []
    for i, sentence in enumerate(sentences):
        rest = " ".join(sentences[:i] + sentences[i + 1 :])
        there = names_in(rest)
        often = Counter(name for name, _ in there)
        blanks = [(often[name], begin, name) for name, begin in names_in(sentence) if sentence.count(name) == 1]
        blanks = [blank for blank in blanks if blank[0]]
        if not blanks or len(often) < 3 or len(sentence.split()) > most:
            continue
        _, begin, name = min(blanks)
        question = sentence[:begin] + PLACEHOLDER + sentence[begin + len(name) :]
        places = tuple(place for other, place in there if other == name)
        questions.append(Question(question.strip(), rest, (name,), places[:1]))
    return questions


def made_up(count: int, seed: int) -> list[Question]:
    """Made-up texts: three people have, see and want something, in any order. Asked is who has it, or what that is."""
    random, questions = np.random.default_rng(seed), []
    for _ in range(count):
        facts = np.stack([random.permutation(names)[: len(DEEDS)] for names in (PEOPLE, DEEDS, THINGS)], 1).tolist()
        context = "now " + " , ".join(f"{who} {does} the {what}" for who, does, what in facts)
        who, what = next((who, what) for who, does, what in facts if does == "has")
        question, answer = ("who has it ?", who) if random.random() < 0.5 else ("what is it ?", what)
        questions.append(Question(question, context, (answer,), (context.index(answer),)))
    return questions


def guessed(questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """What guessing by names alone scores in percent: a random one of the context's, in the mean, and the most frequent

    {way: {"exact_match", "f1"}}; "" is said where the context has none.
    """
    scores = {way: [] for way in ("a random name of the context", "the most frequent name")}
    for question in questions:
        often = Counter(name for name, _ in names_in(question.context)) or Counter([""])
        right = question.answers or ("",)
        of = [[max(score(name, each) for each in right) for score in (exact_match, word_f1)] for name in often]
        for way, score in zip(scores, (np.mean(of, 0), of[int(np.argmax(list(often.values())))]), strict=True):
            scores[way].append(score)
    return {
        way: dict(zip(("exact_match", "f1"), (100 * np.mean(each, 0)).tolist(), strict=True))
        for way, each in scores.items()
    }
