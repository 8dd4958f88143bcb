"""T5 from scratch: spans are cut out of a text, and it learns to write what is missing.

    python -m experiments.corrupted_spans                      # the text of Python's help(), no download
    python -m experiments.corrupted_spans --data wikitext2

Of "a b c d e f" it reads "a b X f" and writes "X c d e" (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4). A
byte-level BPE is trained on the text first. Spans are drawn anew in each epoch, on the host; those of validation are
fixed, and the recipe was chosen by their loss. 30 % of the tokens are cut out, not the paper's 15 %, since small models
learn little in a step. Trained by Adafactor (Shazeer and Stern 2018, arXiv:1804.04235), as T5 was. Nothing is published
at this size. The loss of guessing by frequency alone is reported beside that of the tokens that were cut out. Every
seed's folder holds `hugging_face`, which `jann.from_pretrained` and PyTorch's transformers open: what fine-tuning
begins with. Reading needs Grain: pip install 'jann[stream]'.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax

import jann
from experiments.masked_words import log_frequencies, publish, texts_of, token_stream
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    each_seed,
    metric_curves,
    more_than_zero,
    save_figures,
)
from experiments.schedules import warmup_cosine
from experiments.sequence_training import report, with_speed
from jann.data import corrupt_spans, train_bpe
from jann.data.stream import Stream
from jann.generation import generate

NAMED = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
SPECIAL = (*NAMED.values(), *(f"<extra_id_{i}>" for i in range(100)))  # the names and the number of T5
PAD, STOP = 0, 1
SENTINELS = range(len(NAMED), len(SPECIAL))
INPUTS = ("source", "token")
SAMPLE = 256  # rows of validation that are looked at along the way


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: see `main`.

    corruptions:  of each row of validation
    """

    steps: int
    batch_size: int = 16
    length: int = 64
    learning_rate: float = 3e-2
    average: float = 0.998
    rate: float = 0.3
    corruptions: int = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """A tokeniser; rows of tokens to train on [rows, length]; those of validation with spans cut out: `corrupted`."""

    name: str
    tokenizer: Any
    train: np.ndarray
    validation: dict[str, np.ndarray]

    @property
    def words(self) -> dict[str, np.ndarray]:
        """Validation, in which only what was cut out counts: not the sentinels and what stops a text."""
        return {**self.validation, "weight": (self.validation["label"] >= len(SPECIAL)).astype(np.float32)}


def prepared(name: str, train: list[str], validation: list[str], vocab: int, recipe: Recipe) -> Texts:
    """Trains the tokeniser on the texts to train on; cuts both into rows; corrupts validation's, several times each."""
    tokenizer = train_bpe(train, vocab, SPECIAL)
    random = np.random.default_rng(0)
    rows = np.tile(rows_of(tokenizer, validation, recipe.length), (recipe.corruptions, 1))
    held_out = [corrupted(row, random, recipe.rate) for row in rows]
    held_out = {name: np.stack([each[name] for each in held_out]) for name in held_out[0]}
    return Texts(name, tokenizer, rows_of(tokenizer, train, recipe.length), held_out)


def rows_of(tokenizer: Any, texts: list[str], length: int) -> np.ndarray:
    """All texts one after another, STOP after each, cut into rows, without the rest: [rows, length]"""
    ids = token_stream(tokenizer, texts, STOP)
    return ids[: len(ids) // length * length].reshape(-1, length)


def corrupted(tokens: np.ndarray, random: np.random.Generator, rate: float) -> dict[str, np.ndarray]:
    """tokens[length] -> what the encoder reads, "source"; what the decoder reads, "token", and foretells, "label"

    Rows of one length give arrays of one length: how much is cut out does not depend on chance, only where.
    """
    source, label = (np.append(part, np.int32(STOP)) for part in corrupt_spans(tokens, random, SENTINELS, rate))
    return {"source": source, "token": np.append(np.int32(PAD), label[:-1]), "label": label}


def train_one(folder: Path, texts: Texts, model: jann.Model, recipe: Recipe, seed: int) -> tuple[dict, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (measured values, history, parameters)."""
    key = jax.random.key(seed)
    batches = Stream(texts.train, recipe.batch_size, seed, partial(corrupted, rate=recipe.rate), threads=0)
    optimizer = optax.adafactor(warmup_cosine(recipe.learning_rate, recipe.steps))
    measure = jann.measure(model, jann.language, INPUTS)
    sample = {name: array[:SAMPLE] for name, array in texts.validation.items()}

    def evaluate(train_state):
        found = jann.evaluate(measure, jann.eval_params(train_state), sample, 64)
        return {f"validation_{name}": float(value) for name, value in found.items()}

    train_state, history = jann.fit(
        jann.make_step(jann.objective(model, jann.language, INPUTS), optimizer, average=recipe.average),
        batches, jann.start(model, optimizer, key, average_weights=True), recipe.steps,
        evaluate=with_speed(evaluate, recipe.batch_size * recipe.length), folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < recipe.steps:
        raise KeyboardInterrupt
    params = jann.eval_params(train_state)
    found = jann.evaluate(measure, params, texts.validation, 64)
    words = jann.evaluate(measure, params, texts.words, 64)
    publish(folder / "hugging_face", texts.tokenizer, NAMED, model, params)
    found = {**found, **{f"word_{name}": value for name, value in words.items()}}
    return {name: float(value) for name, value in found.items()}, history, params


def spans_of(tokens: np.ndarray) -> dict[int, list[int]]:
    """A target, or what was written as one -> the tokens behind each sentinel, up to STOP"""
    tokens = tokens[: np.argmax(tokens == STOP)] if STOP in tokens else tokens
    parts = np.split(tokens, np.flatnonzero(np.isin(tokens, SENTINELS)))[1:]
    return {int(part[0]): part[1:].tolist() for part in parts}


def filled_in(texts: Texts, model: jann.Model, params: Any, examples: int) -> str:
    """Rows of validation with spans cut out: what stood there, and what the model writes, the likeliest each time."""
    rows = {name: array[:examples] for name, array in texts.validation.items()}
    written = generate(model, params, rows["source"], rows["label"].shape[1] + 8, stop=(STOP,), pad=PAD)

    def text(tokens):
        return texts.tokenizer.decode([int(token) for token in tokens if token != STOP], skip_special_tokens=False)

    parts = []
    for source, label, tokens in zip(rows["source"], rows["label"], np.asarray(written.tokens), strict=True):
        parts.append(text(source).replace("\n", " "))
        found = spans_of(tokens)
        for sentinel, was in spans_of(label).items():
            said = repr(text(found[sentinel])) if sentinel in found else "nothing"
            parts.append(f"    {text([sentinel])} was {text(was)!r}; written {said}")
    return "\n".join(parts) + "\n"


def run(out: Path, texts: Texts, model: jann.Model, recipe: Recipe, seeds: int, seed: int, examples: int = 10) -> None:
    """Trains `seeds` models, each in a folder of its own in `out`; reports on all of them."""
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": texts.name})
    print(f"{texts.name}: {texts.train.size:,} tokens to train on, {model.vocab:,} different")
    print(f"\n{jann.summary(model)}\n")
    results = each_seed(folder, seeds, seed, lambda at, number: train_one(at, texts, model, recipe, number))
    found, histories, params = zip(*results, strict=True)
    sentences = filled_in(texts, model, params[0], examples)
    (folder / "filled_in.txt").write_text(sentences)
    metrics = {"train": "loss", "validation": "validation_loss"}
    save_figures(folder, loss=metric_curves(histories, metrics, ylabel="nats a token of the target", title=texts.name))
    frequencies = log_frequencies(texts.train, model.vocab, len(SPECIAL))
    asked = texts.words["label"][texts.words["weight"] > 0]
    row = {
        "dataset": texts.name, "model": repr(model), "parameters": jann.count(model), "tokens": texts.train.size,
        "frequency_word_loss": round(-float(frequencies[asked].mean()), 4),
    }  # fmt: skip
    measured = {f"validation_{name}": [each[name] for each in found] for name in found[0]}
    print(f"\n{sentences}")
    report(folder, f"{texts.name}: {model!r}", row, measured, "none at this size")


def main(
    data: Literal["python_topics", "python_sources", "wikitext2"] = "python_topics",
    vocab: int = 4000,
    embed: int = 128,
    layers: int = 2,
    heads: int = 4,
    hidden: int = 256,
    dropout: float = 0.0,
    steps: int | None = None,
    batch_size: int = 16,
    length: int = 64,
    learning_rate: float = 3e-2,
    average: float = 0.998,
    rate: float = 0.3,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Pre-trains a T5 by writing the missing spans of a text.

    Args:
        data: Python's help topics or its sources, which need no download, or articles of Wikipedia.
        vocab: Tokens of the byte-pair encoding.
        embed: Features of a token.
        layers: Blocks of the encoder, and as many of the decoder.
        heads: Heads of attention in each.
        hidden: Gated units (GELU) of each block.
        dropout: Rate on the embeddings, on attention, inside and on what each part of a block adds.
        steps: Updates, by default 3000 for Python's help topics, else 8000.
        batch_size: Rows of text in each.
        length: Tokens of a row before spans are cut out.
        learning_rate: Peak of the warm-up and cosine schedule, in proportion to what is trained (Adafactor).
        average: Decay of the running average of the weights, which is what is evaluated and saved.
        rate: Share of each row's tokens that is cut out.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/corrupted_spans-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(steps=steps, batch_size=batch_size, length=length, seeds=seeds)
    at_least_one(vocab=vocab, embed=embed, layers=layers, heads=heads, hidden=hidden)
    more_than_zero(learning_rate=learning_rate)
    below_one(dropout=dropout, average=average)
    steps = (3000 if data == "python_topics" else 8000) if steps is None else steps
    recipe = Recipe(steps, batch_size, length, learning_rate, average, rate)
    texts = prepared(data, *texts_of(data), vocab, recipe)
    model = jann.models.T5(
        texts.tokenizer.get_vocab_size(), embed, layers, heads, embed // heads, hidden, activation=jax.nn.gelu,
        gated=True, dropout=dropout,
    )  # fmt: skip
    run(out or Path(f"runs/corrupted_spans-{data}"), texts, model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
