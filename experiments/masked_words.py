"""BERT from scratch: words are taken out of a text, and it learns to put them back from both sides.

    python -m experiments.masked_words                      # the text of Python's help(), no download
    python -m experiments.masked_words --data wikitext2

A byte-level BPE is trained on the text first. Masks are drawn anew in each epoch, as in the paper (Devlin et al. 2018,
arXiv:1810.04805) but of 30 % of the tokens, which teaches more in each step (Wettig et al. 2022, arXiv:2202.08005);
those of validation are fixed, at the paper's 15 %. Nothing is published at this size: on 3.3 billion words, BERT of 3
layers, 768 wide, reaches perplexity 5.84, of 12 layers 3.99 (their table 6). The loss of guessing by frequency alone is
reported too. Every seed's folder holds `hugging_face`, which `jann.from_pretrained` and PyTorch's transformers open:
what fine-tuning begins with.
"""

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jann
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    each_seed,
    metric_curves,
    more_than_zero,
    not_negative,
    save_figures,
)
from experiments.sequence_training import adamw, report, with_speed
from jann.data import mask_places, mask_words, padded, train_bpe
from jann.layers.positions import sinusoidal

NAMED = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip
SPECIAL = tuple(NAMED.values())
PAD, _, BEGIN, END, MASK = range(5)
INPUTS = ("token", "length")
SAMPLE = 128  # rows of validation that are looked at along the way


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: see `main`."""

    steps: int
    batch_size: int = 16
    length: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    average: float = 0.998
    rate: float = 0.3
    maskings: int = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """A tokeniser, and rows of tokens {"token": [rows, length], "length": [rows]}; those of validation masked."""

    name: str
    tokenizer: Any
    train: dict[str, np.ndarray]
    validation: dict[str, Any]


def texts_of(name: str) -> tuple[list[str], list[str]]:
    """A data set by name -> its texts to train on and to validate with"""
    dataset = jann.data.load(name)
    if isinstance(dataset, jann.data.Text):
        return [dataset.decode(dataset.train)], [dataset.decode(dataset.validation)]
    return dataset.train, dataset.validation


def prepared(name: str, tokenizer: Any, train: list[str], validation: list[str], recipe: Recipe) -> Texts:
    """Cuts the texts to train on and those of validation into rows; masks validation's, several times each."""
    masking = masking_of(tokenizer)
    held_out = rows_of(tokenizer, validation, recipe.length)
    masked = [masking(held_out, jax.random.key(number)) for number in range(recipe.maskings)]
    masked = {name: np.concatenate([each[name] for each in masked]) for name in masked[0]}
    return Texts(name, tokenizer, rows_of(tokenizer, train, recipe.length), masked)


def rows_of(tokenizer: Any, texts: list[str], length: int) -> dict[str, np.ndarray]:
    """All texts one after another, END after each, cut into rows that begin with BEGIN"""
    ids = token_stream(tokenizer, texts, END)
    pieces = [np.append(BEGIN, ids[i : i + length - 1]) for i in range(0, len(ids), length - 1)]
    return dict(zip(INPUTS, padded(pieces, length, PAD), strict=True))


def token_stream(tokenizer: Any, texts: list[str], end: int) -> np.ndarray:
    """All texts as tokens one after another, `end` after each: int32[tokens]"""
    return np.concatenate([np.array([*found.ids, end], np.int32) for found in tokenizer.encode_batch(texts)])


def masking_of(tokenizer: Any, draw: Callable = mask_words, **options: Any) -> Callable:
    """The transform of batches that masks this tokeniser's words"""
    vocab, special = tokenizer.get_vocab_size(), tuple(range(len(SPECIAL)))
    return partial(draw, mask=MASK, vocab=vocab, special=special, **options)


def log_frequencies(tokens: np.ndarray, vocab: int, special: int) -> np.ndarray:
    """The logarithm of how often each token is in a text, each counted once more: [vocab]

    special:  so many tokens, the first of the vocabulary, are counted but once: they are never asked for
    """
    counts = np.bincount(tokens.ravel(), minlength=vocab) + 1.0
    counts[:special] = 1
    return np.log(counts / counts.sum())


def beginning(model: jann.Model, texts: Texts, key: jax.Array) -> Any:
    """The parameters that training begins with: those of `model.init`, but for three things

    The logits begin at the words' frequencies, so that no steps go into learning those, the tokens' table larger, and
    the positions as sinusoids, so that what lies beside a token is found alike everywhere. From the model's
    start alone, training stays for thousands of steps at little better than the frequencies.
    """
    params = model.init(key)
    params["head"]["bias"] = jnp.asarray(log_frequencies(texts.train["token"], model.vocab, len(SPECIAL)), jnp.float32)
    table, size = params["tokens"]["table"], 0.08
    params["tokens"]["table"] = table * (size / table.std())
    places = jnp.arange(model.positions)
    params["positions"]["table"] = size * sinusoidal(places, model.embed, longest=3.0 * model.positions)
    return params


def train_one(folder: Path, texts: Texts, model: jann.Model, recipe: Recipe, seed: int) -> tuple[dict, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (measured values, history, parameters)."""
    key = jax.random.key(seed)
    places = max(1, round(recipe.rate * recipe.length))
    masking = masking_of(texts.tokenizer, mask_places, rate=recipe.rate, places=places)
    batches = jann.data.batches(texts.train, recipe.batch_size, jax.random.fold_in(key, 1), transform=masking)
    optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay, recipe.steps)
    params = beginning(model, texts, key)
    noise, averages = jax.random.fold_in(key, 0), {"average": jann.start_average(params)}
    start = jann.TrainState.start(noise, params, optimizer, averages)
    loss = jann.objective(model, jann.language, (*INPUTS, None, "place"))
    measure = jann.measure(model, jann.language, INPUTS)
    sample = {name: array[:SAMPLE] for name, array in texts.validation.items()}

    def evaluate(train_state):
        found = jann.evaluate(measure, jann.eval_params(train_state), sample, 64)
        return {f"validation_{name}": float(value) for name, value in found.items()}

    train_state, history = jann.fit(
        jann.make_step(loss, optimizer, average=recipe.average), batches, start, recipe.steps,
        evaluate=with_speed(evaluate, recipe.batch_size * recipe.length), folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < recipe.steps:
        raise KeyboardInterrupt
    params = jann.eval_params(train_state)
    found = jann.evaluate(measure, params, texts.validation, 64)
    publish(folder / "hugging_face", texts.tokenizer, NAMED, model, params)
    return {name: float(value) for name, value in found.items()}, history, params


def publish(folder: Path, tokenizer: Any, named: dict[str, str], model: jann.Model, params: Any) -> None:
    """Writes the model and its tokeniser as others publish theirs.

    named:  the special tokens by the names that transformers has for them
    """
    jann.save_pretrained(folder, model, params)
    tokenizer.save(str(folder / "tokenizer.json"))
    options = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(options, indent=2) + "\n")


def filled_in(texts: Texts, model: jann.Model, params: Any, examples: int, around: int = 16, best: int = 4) -> str:
    """Words taken out of validation: what stood there, and what the model says, with its probabilities."""
    rows = {name: array[:examples] for name, array in texts.validation.items()}
    logits = jax.jit(model)(params, rows["token"], rows["length"])
    probabilities = np.asarray(jax.nn.softmax(logits))

    def text(tokens):
        return texts.tokenizer.decode([int(token) for token in tokens if token != MASK], skip_special_tokens=False)

    parts = []
    for row in range(len(logits)):
        places = np.flatnonzero((rows["weight"][row] > 0) & (rows["token"][row] == MASK))
        if not len(places):
            continue
        place = places[len(places) // 2]
        before, after = (rows["label"][row][slice(*ends)] for ends in (
            (max(0, place - around), place), (place + 1, place + 1 + around)))  # fmt: skip
        likely = np.argsort(-probabilities[row, place])[:best]
        guesses = ", ".join(f"{text([token])!r} {probabilities[row, place, token]:.2f}" for token in likely)
        asked = f"{text(before)} ____ {text(after)}".replace("\n", " ")
        parts.append(f"{asked}\n    was {text([rows['label'][row][place]])!r}; foretold {guesses}\n")
    return "\n".join(parts)


def run(out: Path, texts: Texts, model: jann.Model, recipe: Recipe, seeds: int, seed: int, examples: int = 10) -> None:
    """Trains `seeds` models, each in a folder of its own in `out`; reports on all of them."""
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "dataset": texts.name})
    tokens = {name: int(getattr(texts, name)["length"].sum()) for name in ("train", "validation")}
    print(f"{texts.name}: {tokens['train']:,} tokens to train on, {model.vocab:,} different\n\n{jann.summary(model)}\n")
    results = each_seed(folder, seeds, seed, lambda at, number: train_one(at, texts, model, recipe, number))
    found, histories, params = zip(*results, strict=True)
    sentences = filled_in(texts, model, params[0], examples)
    (folder / "filled_in.txt").write_text(sentences)
    metrics = {f"train ({recipe.rate:.0%} masked)": "loss", "validation (15% masked)": "validation_loss"}
    save_figures(folder, loss=metric_curves(histories, metrics, ylabel="nats a masked token", title=texts.name))
    frequencies = log_frequencies(texts.train["token"], model.vocab, len(SPECIAL))
    asked = texts.validation["label"][texts.validation["weight"] > 0]
    row = {
        "dataset": texts.name, "model": repr(model), "parameters": jann.count(model), "tokens": tokens["train"],
        "frequency_loss": round(-float(frequencies[asked].mean()), 4),
    }  # fmt: skip
    measured = {f"validation_{name}": [each[name] for each in found] for name in ("loss", "accuracy")}
    measured["validation_perplexity"] = np.exp(measured["validation_loss"])
    print(f"\n{sentences}")
    report(folder, f"{texts.name}: {model!r}", row, measured, "none at this size")


def main(
    data: Literal["python_topics", "python_sources", "wikitext2"] = "python_topics",
    vocab: int = 4000,
    embed: int = 128,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 512,
    dropout: float | None = None,
    steps: int | None = None,
    batch_size: int = 16,
    length: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    average: float = 0.998,
    rate: float = 0.3,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Pre-trains a BERT by filling in the missing words of a text.

    Args:
        data: Python's help topics or its sources, which need no download, or articles of Wikipedia.
        vocab: Tokens of the byte-pair encoding.
        embed: Features of a token.
        layers: Blocks on top of each other.
        heads: Heads of attention in each.
        hidden: Width inside a block's second half.
        dropout: Rate on the embeddings, on attention and on what each half of a block adds; by default 0.1 for the few
            words of Python's help topics, else 0.
        steps: Updates, by default 3000 for Python's help topics, else 8000.
        batch_size: Rows of text in each.
        length: Tokens of a row.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        average: Decay of the running average of the weights, which is what is evaluated and saved.
        rate: Share of each row's tokens that are to be foretold in training; in validation it is 0.15.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder, by default runs/masked_words-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(steps=steps, batch_size=batch_size, seeds=seeds)
    at_least_one(vocab=vocab, embed=embed, layers=layers, heads=heads, hidden=hidden)
    more_than_zero(learning_rate=learning_rate)
    not_negative(weight_decay=weight_decay)
    below_one(dropout=dropout, average=average)
    if length < 2:
        raise SystemExit(f"--length {length}: give at least 2, as each row begins with {NAMED['cls_token']}")
    few = data == "python_topics"
    dropout = (0.1 if few else 0.0) if dropout is None else dropout
    steps = (3000 if few else 8000) if steps is None else steps
    recipe = Recipe(steps, batch_size, length, learning_rate, weight_decay, average, rate)
    train, validation = texts_of(data)
    texts = prepared(data, train_bpe(train, vocab, SPECIAL), train, validation, recipe)
    model = jann.models.BERT(
        texts.tokenizer.get_vocab_size(), length, 2, embed, layers, heads, hidden, dropout=dropout
    )
    run(out or Path(f"runs/masked_words-{data}"), texts, model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
