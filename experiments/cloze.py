"""Questions made of texts: a sentence with one name taken out, and the rest of its paragraph, in which the name stands.

In the manner of Hermann et al. 2015 (arXiv:1506.03340) and of Lewis, Denoyer and Riedel 2019 (arXiv:1906.04980). In
prose, names are runs of capitalised words that do not begin a sentence. In Python, a paragraph is a function, a
sentence a line of it, and names are those of variables, functions and attributes.
"""

import ast
import keyword
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from jann.analysis import exact_match, word_f1
from jann.data import Question

PLACEHOLDER = "[MASK]"
Name = tuple[str, int]
# Behind a word or a comma; whole, also where a rare word that was left out of the text follows.
CAPITALS = re.compile(r"(?<=[\w,] )[A-Z]\w++(?: [A-Z]\w++)*+(?! \[UNK\])")
WORD = re.compile(r"\b[A-Za-z_]\w{2,}\b")
STRING = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
NO_NAMES = {*keyword.kwlist, "self", "cls"}


def names_in_prose(text: str) -> list[Name]:
    """The names in a text, with the character where each begins"""
    return [(found.group(), found.start()) for found in CAPITALS.finditer(text)]


def names_in_code(text: str) -> list[Name]:
    """The names in lines of Python of at least three letters, not those in strings, with where each begins"""
    bare = STRING.sub(lambda found: " " * len(found.group()), text)
    found = ((found.group(), found.start()) for found in WORD.finditer(bare))
    return [(name, begin) for name, begin in found if name not in NO_NAMES]


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
            questions += asked(piece, " ", names_in_prose)
    return questions


def from_code(sources: Sequence[str], shortest: int = 5, longest: int = 500) -> list[Question]:
    """Sources of Python -> questions on each line of the functions with so many lines at least, characters at most"""
    questions = []
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not ast.get_docstring(node):
                code = textwrap.dedent(ast.unparse(node))
                if code.count("\n") + 1 >= shortest and len(code) <= longest:
                    questions += asked(code.split("\n"), "\n", names_in_code)
    return questions


def asked(sentences: list[str], between: str, names: Callable[[str], list[Name]], most: int = 30) -> list[Question]:
    """Each sentence of at most so many words, with a name out of it that stands in the rest, at the first place there

    One name a sentence: of those that stand once in it, the rarest of the rest, which is the least to be guessed. The
    rest has three different names at least.
    """
    questions = []
    for i, sentence in enumerate(sentences):
        rest = between.join(sentences[:i] + sentences[i + 1 :])
        there = names(rest)
        often = Counter(name for name, _ in there)
        blanks = [(often[name], begin, name) for name, begin in names(sentence) if sentence.count(name) == 1]
        blanks = [blank for blank in blanks if blank[0]]
        if not blanks or len(often) < 3 or len(sentence.split()) > most:
            continue
        _, begin, name = min(blanks)
        question = sentence[:begin] + PLACEHOLDER + sentence[begin + len(name) :]
        places = tuple(place for other, place in there if other == name)
        questions.append(Question(question.strip(), rest, (name,), places[:1]))
    return questions


def guessed(questions: Sequence[Question], names: Callable[[str], list[Name]]) -> dict[str, dict[str, float]]:
    """What guessing by names alone scores in percent: a random one of the context's, in the mean, and the most frequent

    {way: {"exact_match", "f1"}}; "" is said where the context has none.
    """
    scores = {way: [] for way in ("a random name of the context", "the most frequent name")}
    for question in questions:
        often = Counter(name for name, _ in names(question.context)) or Counter([""])
        right = question.answers or ("",)
        of = [[max(score(name, each) for each in right) for score in (exact_match, word_f1)] for name in often]
        for way, score in zip(scores, (np.mean(of, 0), of[int(np.argmax(list(often.values())))]), strict=True):
            scores[way].append(score)
    return {
        way: dict(zip(("exact_match", "f1"), (100 * np.mean(each, 0)).tolist(), strict=True))
        for way, each in scores.items()
    }
