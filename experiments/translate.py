"""Translation with the Transformer: reads a sentence in one language, writes it in another.

    python -m experiments.translate                       # numbers in English words to digits: made up, no download
    python -m experiments.translate --data multi30k       # German to English, captions of photographs

One byte-pair vocabulary serves both languages. Translated by beam search and scored on the test set (Multi30k: Flickr
2016) by BLEU of sacrebleu (Post 2018: 13a tokens, capitals count) and of the same in small letters. Published for
Multi30k: 41.0 by a Transformer of 4 layers, 128 wide (Wu et al. 2021, arXiv:2105.14462), 38.1 by a recurrent network
(Caglayan et al. 2017), both English to German and on tokenised text.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
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
from experiments.sequence_training import report
from jann.generation import beam_search
from jann.models import Transformer

SPECIAL = ("<pad>", "<s>", "</s>")
PAD, BEGIN, STOP = range(3)
PUBLISHED = {"multi30k": "BLEU 41.0 Transformer-Tiny, 38.1 RNN (both en-de)", "number_words": "none (made up)"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: see `main`."""

    steps: int
    batch_size: int
    length: int
    learning_rate: float
    smoothing: float
    average: float
    beams: int


def smoothed(amount: float, logits: jax.Array, batch: dict) -> dict:
    """`jann.language` with `amount` of each label spread over the vocabulary (Szegedy et al. 2015), for training"""
    values = jann.language(logits, batch)
    log_p = jax.nn.log_softmax(logits)
    spread = -(log_p.mean(-1) * batch["weight"]).sum(-1)
    likely, tokens = values["loss"]
    return {**values, "loss": ((1 - amount) * likely + amount * spread, tokens)}


def by_length(arrays: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Arrays [pairs, ...] -> [blocks, size, ...] of pairs of about equal length; the longest that fill no block go.

    Raises ValueError for a size that fills no block.
    """
    order = np.lexsort((arrays["weight"].sum(1), arrays["source_length"]))
    if not 1 <= size <= len(order):
        raise ValueError(f"batch_size={size}: give from 1 to {len(order)}, as many as there are training pairs")
    blocks = len(order) // size
    return {name: values[order[: blocks * size]].reshape(blocks, size, -1) for name, values in arrays.items()}


def one_block(batch: dict, key: jax.Array) -> dict:
    """A batch of one block: {name: [1, size, ...]} -> {name: [size, ...]}"""
    batch = {name: values[0] for name, values in batch.items()}
    return {**batch, "source_length": batch["source_length"][:, 0]}


def at_its_length(step: Any, lengths: tuple[int, ...]) -> Any:
    """The step, on the first so many tokens of its batch: the least of `lengths` that leaves out none but padding."""

    def cut(length, train_state, batch):
        return step(train_state, {name: x[:, :length] if x.ndim == 2 else x for name, x in batch.items()})

    def shortest(train_state, batch):
        needed = jnp.maximum(batch["source_length"].max(), batch["weight"].sum(1).max().astype(jnp.int32))
        which = (needed > jnp.array(lengths[:-1])).sum()
        return jax.lax.switch(which, [functools.partial(cut, length) for length in lengths], train_state, batch)

    return shortest


@dataclasses.dataclass(frozen=True)
class Task:
    """Sentences as tokens: `train` and `validation` arrays of `jann.data.paired`, `test` pairs of texts."""

    name: str
    tokenizer: Any
    train: dict
    validation: dict
    test: list[tuple[str, str]]


def prepare(data: str, vocab: int, length: int) -> Task:
    """Reads the data set as (source, target) pairs and trains its tokenizer; cuts what is longer than `length`."""
    if data == "multi30k":
        corpus = jann.data.load("multi30k")
        parts = (corpus.train, corpus.validation, corpus.test)
        splits = [[(german, english) for english, german in part] for part in parts]
    else:
        splits = number_words()
    tokenizer = jann.data.train_bpe([text for pair in splits[0] for text in pair], vocab, SPECIAL)
    arrays = [encoded(tokenizer, part, length) for part in splits[:2]]
    return Task(data, tokenizer, *arrays, splits[2])


def encoded(tokenizer: Any, pairs: list[tuple[str, str]], length: int) -> dict:
    sides = [[e.ids[: length - 1] for e in tokenizer.encode_batch(list(texts))] for texts in zip(*pairs, strict=True)]
    return jann.data.paired(*sides, BEGIN, STOP, length, length, PAD)


def number_words(train: int = 4000, unseen: int = 500, limit: int = 1_000_000) -> list[list[tuple[str, str]]]:
    """(a number in English words, in digits) below a million: made up, each number once in one of the three splits"""
    ones = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen"
    ).split()
    tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()

    def words(n):
        if n < 20:
            return ones[n]
        if n < 100:
            return tens[n // 10 - 2] + (f"-{ones[n % 10]}" if n % 10 else "")
        size, name = (100, "hundred") if n < 1000 else (1000, "thousand")
        return f"{words(n // size)} {name}" + (f" {words(n % size)}" if n % size else "")

    random = np.random.default_rng(0)
    numbers = [int(n) for n in random.choice(limit, train + 2 * unseen, replace=False)]
    pairs = [(words(n), " ".join(str(n))) for n in numbers]
    return [pairs[:train], pairs[train : train + unseen], pairs[train + unseen :]]


def train_one(folder: Path, task: Task, model: jann.Model, recipe: Recipe, seed: int) -> tuple[Any, dict]:
    """One seed, gone on with where it was interrupted: -> (parameters, history)."""
    key = jax.random.key(seed)
    blocks = by_length(task.train, recipe.batch_size)
    batches = jann.data.batches(blocks, 1, jax.random.fold_in(key, 1), one_block)
    schedule = warmup_cosine(recipe.learning_rate, recipe.steps, part=10)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, 0.9, 0.98))
    inputs = ("source", "token", "source_length")
    loss = jann.objective(model, functools.partial(smoothed, recipe.smoothing), inputs)
    lengths = tuple(sorted({min(n, recipe.length) for n in (16, 20, 24, 32, recipe.length)}))
    measure = jann.measure(model, jann.language, inputs)

    def evaluate(train_state):
        found = jann.evaluate(measure, jann.eval_params(train_state), task.validation, 128)
        return {f"validation_{name}": value for name, value in found.items()}

    train_state, history = jann.fit(
        at_its_length(jann.make_step(loss, optimizer, average=recipe.average), lengths),
        batches, jann.start(model, optimizer, key, average_weights=True), recipe.steps,
        evaluate=evaluate, folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < recipe.steps:
        raise KeyboardInterrupt
    return jann.eval_params(train_state), history


def translated(task: Task, model: jann.Model, params: Any, texts: list[str], recipe: Recipe, size: int = 50) -> list:
    """texts -> their translations by beam search, `size` at a time in order of length."""
    sources = [e.ids[: recipe.length - 1] for e in task.tokenizer.encode_batch(texts)]
    order = np.argsort([len(source) for source in sources], kind="stable")
    said = [""] * len(texts)
    for i in range(0, len(order), size):
        part = order[i : i + size]
        made, _ = beam_search(
            model, params, [sources[j] for j in np.resize(part, size)], recipe.length,
            beams=recipe.beams, stop=(STOP,), length_penalty=1.0,
        )  # fmt: skip
        for j, tokens, count in zip(part, np.asarray(made.tokens), np.asarray(made.lengths), strict=False):
            said[j] = task.tokenizer.decode(tokens[: int(count)].tolist()).strip()
    return said


def scores(said: list[str], wanted: list[str]) -> dict[str, float]:
    """BLEU of the whole (sacrebleu), with capitals and without, and the share of sentences that are exactly right."""
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError("BLEU needs sacrebleu, which is not installed: pip install 'jann[text]'") from error
    return {
        "test_bleu": sacrebleu.corpus_bleu(said, [wanted]).score,
        "test_bleu_small_letters": sacrebleu.corpus_bleu(said, [wanted], lowercase=True).score,
        "test_exact": float(np.mean([a == b for a, b in zip(said, wanted, strict=True)])),
    }


def run(out: Path, task: Task, model: jann.Model, recipe: Recipe, seeds: int, seed: int) -> None:
    """Trains `seeds` models, each in a folder of its own in `out`; translates the test set with each."""
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": task.name})
    task.tokenizer.save(str(folder / "tokenizer.json"))
    pairs = f"train {len(task.train['token']):,}, test {len(task.test):,} pairs"
    print(f"{task.name}: {pairs}", jann.summary(model), sep="\n\n", end="\n\n")
    sources, wanted = map(list, zip(*task.test, strict=True))

    def one(at, number):
        params, history = train_one(at, task, model, recipe, number)
        said = translated(task, model, params, sources, recipe)
        (at / "translations.txt").write_text("".join(f"{line}\n" for line in said))
        return scores(said, wanted), history, said

    results = each_seed(folder, seeds, seed, one)
    found, histories, said = zip(*results, strict=True)
    metrics = {"train (smoothed labels, dropout)": "loss", "validation": "validation_loss"}
    save_figures(folder, loss=metric_curves(histories, metrics, ylabel="nats a token", title=task.name))
    for i in range(min(5, len(sources))):
        print(f"\n  {sources[i]}\n→ {said[0][i]}\n  ({wanted[i]})")
    row = {"dataset": task.name, "model": repr(model), "parameters": jann.count(model)}
    report(folder, f"{task.name}: {model!r}", row, {n: [f[n] for f in found] for n in found[0]}, PUBLISHED[task.name])


def main(
    data: Literal["number_words", "multi30k"] = "number_words",
    vocab: int | None = None,
    embed: int = 128,
    layers: int | None = None,
    heads: int = 4,
    hidden: int = 256,
    dropout: float | None = None,
    length: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    smoothing: float = 0.1,
    average: float = 0.998,
    beams: int = 5,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Trains a translator from scratch.

    Args:
        data: The sentences: numbers in words to digits, made up; or Multi30k, German to English.
        vocab: Tokens of both languages together.
        embed: Width of the model.
        layers: Blocks of the encoder, and as many of the decoder.
        heads: Heads of attention in each block.
        hidden: Width inside a block's second half.
        dropout: Rate on embeddings, attention and what each half of a block adds.
        length: The most tokens of a sentence; more are cut off.
        steps: Training steps.
        batch_size: Pairs in a step, of about equal length.
        learning_rate: Peak of the warm-up (a tenth of the steps) and cosine schedule (Adam).
        smoothing: How much of each label is spread over the vocabulary.
        average: Decay of the running average of the weights, which translates.
        beams: Sequences that beam search follows at once.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/translate-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(vocab=vocab, layers=layers, length=length, steps=steps, batch_size=batch_size, beams=beams)
    at_least_one(seeds=seeds)
    at_least_one(embed=embed, heads=heads, hidden=hidden)
    more_than_zero(learning_rate=learning_rate)
    below_one(dropout=dropout, smoothing=smoothing, average=average)
    large = data == "multi30k"
    length = (48 if large else 32) if length is None else length
    layers = (4 if large else 2) if layers is None else layers
    steps = (6000 if large else 1500) if steps is None else steps
    task = prepare(data, (6000 if large else 320) if vocab is None else vocab, length)
    model = Transformer(
        task.tokenizer.get_vocab_size(), embed, layers, heads, hidden, norm_first=True,
        begin_token=BEGIN, dropout=(0.2 if large else 0.1) if dropout is None else dropout,
    )  # fmt: skip
    recipe = Recipe(steps, batch_size, length, learning_rate, smoothing, average, beams)
    run(out or Path(f"runs/translate-{data}"), task, model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
