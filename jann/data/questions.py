"""Questions whose answer stands in a text: rows of tokens for a model that points at it, and back to the characters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jann.data.files import DataError
from jann.data.sequences import padded

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


@dataclass(frozen=True)
class Question:
    """A question, the text that it is asked of, and what is right to answer; no answers where the text holds none.

    begins:  the character of the context at which each answer begins
    name:    what it is called in its file
    """

    question: str
    context: str
    answers: tuple[str, ...] = ()
    begins: tuple[int, ...] = ()
    name: str = ""

    def __post_init__(self):
        if len(self.answers) != len(self.begins):
            raise ValueError(f"{self.question!r}: {len(self.answers)} answers, but {len(self.begins)} begins")
        for answer, begin in zip(self.answers, self.begins, strict=True):
            stands = self.context[max(begin, 0) : max(begin, 0) + len(answer)]
            if not answer or begin < 0 or stands != answer:
                raise ValueError(
                    f"{self.question!r}: {answer!r} does not begin at {begin}, where {stands!r} stands: count "
                    "characters, not bytes, from 0"
                )


class Answer(NamedTuple):
    """The very characters of the context, the first of them by its number, and the log-probability in nats.

    "" and -1 where no answer is said to be in the context.
    """

    text: str
    begin: int
    log_probability: float


def read_squad(path: str | Path) -> list[Question]:
    """The questions of a JSON file as of SQuAD, 1.1 or 2.0, whose `is_impossible` are those without answers.

    Rajpurkar et al. 2016, arXiv:1606.05250; Rajpurkar, Jia and Liang 2018, arXiv:1806.03822. Raises FileNotFoundError,
    or DataError where the file is none of SQuAD's, naming the place, and where an answer does not stand where it says.
    """
    path = Path(path)
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}): it is truncated or altered, copy it again") from None
    questions = []
    for i, article in enumerate(_entry(contents, "data", list, f"{path}")):
        for j, paragraph in enumerate(_entry(article, "paragraphs", list, f"{path}: data[{i}]")):
            place = f"{path}: data[{i}].paragraphs[{j}]"
            context = _entry(paragraph, "context", str, place)
            for k, asked in enumerate(_entry(paragraph, "qas", list, place)):
                questions.append(_question(asked, context, f"{place}.qas[{k}]"))
    return questions


def _question(asked: Any, context: str, place: str) -> Question:
    question, answers = _entry(asked, "question", str, place), []
    if not asked.get("is_impossible", False):
        answers = _entry(asked, "answers", list, place)
        if not answers:
            raise DataError(f'{place} has no answers: give one, or say "is_impossible": true')
    texts = tuple(_entry(answer, "text", str, f"{place}.answers[{n}]") for n, answer in enumerate(answers))
    begins = tuple(_entry(answer, "answer_start", int, f"{place}.answers[{n}]") for n, answer in enumerate(answers))
    try:
        return Question(question, context, texts, begins, str(asked.get("id", "")))
    except ValueError as error:
        raise DataError(f"{place}: {error}") from None


def _entry(node: Any, name: str, kind: type, place: str) -> Any:
    """node[name]; DataError by its place where that is missing or of another kind"""
    if not isinstance(node, dict) or not isinstance(node.get(name), kind):
        found = f"{type(node[name]).__name__}" if isinstance(node, dict) and name in node else "none"
        mend = "give a file in the form of SQuAD's"
        raise DataError(f'{place}: wants "{name}", a {kind.__name__}, found {found}: {mend}')
    return node[name]


def question_rows(
    tokenizer: Tokenizer, questions: Sequence[Question], length: int = 384, overlap: int = 128, asked: int = 64,
    pad: int = 0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Questions -> rows for a model that points at their answers, as BERT's code makes them of SQuAD: a dict of arrays

    "token", "length", "segment":  [CLS] question [SEP] context [SEP], as the tokenizer frames a pair; [rows, length],
                                   [rows], [rows, length]
    "begin", "end":                the first and the last token of the first answer, [rows]; both 0, which is [CLS],
                                   where not the whole of it is in the row
    "allowed":                     the tokens of the context, and [CLS], bool[rows, length]
    "question":                    which of the questions it is, [rows]
    "character":                   where each token of the context begins and ends in it, [rows, length, 2]; else 0

        loss = jann.objective(BERT(head="span"), jann.span, ("token", "length", "segment"))

    A context too long for a row is cut into windows, a row each.

    overlap:  tokens that a window has in common with the next
    asked:    tokens of a question; more are cut off

    Raises ValueError where there is no question, a row has no room, or the tokenizer frames no pairs.
    """
    from tokenizers import Tokenizer

    if not questions:
        raise ValueError("there are no questions: give a list of jann.data.Question")
    tokenizer = Tokenizer.from_str(tokenizer.to_str())  # a copy: the one that is given stays as it is
    tokenizer.no_padding()
    tokenizer.no_truncation()
    frame = tokenizer.num_special_tokens_to_add(True)
    if frame < 2:
        mend = "set tokenizer.post_processor, such as TemplateProcessing of the tokenizers library"
        raise ValueError(f"the tokenizer does not frame a question and its text by [CLS] and [SEP]: {mend}")
    if length < asked + frame + overlap + 1:
        raise ValueError(
            f"length={length} has no room for a question of {asked} tokens, {frame} that frame it, an overlap of "
            f"{overlap} and one more: give a greater length or a smaller overlap"
        )
    texts = [question.question for question in questions]
    for i, found in enumerate(tokenizer.encode_batch(texts, add_special_tokens=False)):
        if len(found.ids) > asked:
            texts[i] = cut(tokenizer, texts[i], found, asked)
    tokenizer.enable_truncation(length, stride=overlap, strategy="only_second")
    pairs = [(text, question.context) for text, question in zip(texts, questions, strict=True)]
    encodings = tokenizer.encode_batch(pairs)
    windows = [(i, window) for i, found in enumerate(encodings) for window in (found, *found.overflowing)]
    ends = np.array([answer_tokens(window, questions[i]) for i, window in windows], np.int32)
    token, lengths = padded([window.ids for _, window in windows], length, pad)
    segment, _ = padded([window.type_ids for _, window in windows], length)
    allowed, character = np.zeros(token.shape, bool), np.zeros((*token.shape, 2), np.int32)
    for row, (_, window) in enumerate(windows):
        allowed[row, : lengths[row]] = np.array(window.sequence_ids) == 1
        character[row, : lengths[row]] = window.offsets
    character[~allowed] = 0
    allowed[:, 0] = True
    return {
        "token": token, "length": lengths, "segment": segment, "begin": ends[:, 0], "end": ends[:, 1],
        "allowed": allowed, "question": np.array([i for i, _ in windows], np.int32), "character": character,
    }  # fmt: skip


def cut(tokenizer: Tokenizer, text: str, found: Encoding, most: int) -> str:
    """A text, and its tokens -> the text up to the last of them before which it is at most so many tokens itself

    Its first tokens may be more than that again: where several are one character, as of bytes, or a cut joins others.
    """
    shorter = (text[:end] for _, end in reversed(found.offsets[:most]))
    return next((each for each in shorter if len(tokenizer.encode(each, add_special_tokens=False).ids) <= most), "")


def answer_tokens(window: Encoding, question: Question) -> tuple[int, int]:
    """The first and the last token of the first answer; (0, 0) where there is none, or not the whole in this window"""
    places = [i for i, part in enumerate(window.sequence_ids) if part == 1]
    if not question.answers or not places:
        return 0, 0
    begin, end = question.begins[0], question.begins[0] + len(question.answers[0])
    if window.offsets[places[0]][0] > begin or window.offsets[places[-1]][1] < end:
        return 0, 0
    held = [i for i in places if window.offsets[i][1] > begin and window.offsets[i][0] < end]
    return (held[0], held[-1]) if held else (0, 0)


def read_answers(
    questions: Sequence[Question], rows: dict[str, np.ndarray], begin: np.ndarray, end: np.ndarray,
    log_probability: np.ndarray, impossible: bool = False,
) -> list[Answer]:  # fmt: skip
    """The best spans of all rows, each [rows, count], as of `best_spans` -> the answer to each question

        spans = best_spans(logits, count=2, allowed=rows["allowed"])
        answers = read_answers(questions, rows, *spans)

    That is the likeliest span of all windows of a question but [CLS], which says that a window has no answer: ask for
    two spans of each, as one may be that.

    impossible:  texts need not hold an answer, as in SQuAD 2.0: where [CLS] comes first in all windows, there is none
    """
    begin, end, log_probability = map(np.asarray, (begin, end, log_probability))
    best = [Answer("", -1, -np.inf)] * len(questions)
    none = np.ones(len(questions), bool)
    for row, which in enumerate(rows["question"]):
        none[which] &= begin[row, 0] == 0
        for first, last, score in zip(begin[row], end[row], log_probability[row], strict=True):
            if first > 0 and score > best[which].log_probability:
                text = questions[which].context[rows["character"][row, first, 0] : rows["character"][row, last, 1]]
                start = rows["character"][row, first, 0] + len(text) - len(text.lstrip())
                best[which] = Answer(text.strip(), int(start), float(score))
    if not impossible:
        return best
    # That it is nowhere is as sure as the least sure of the windows.
    sure = np.full(len(questions), np.inf)
    np.minimum.at(sure, rows["question"], log_probability[:, 0])
    return [Answer("", -1, float(sure[i])) if none[i] else answer for i, answer in enumerate(best)]
