"""BERT from scratch: words are taken out of a text, and it learns to put them back from both sides.

    python -m experiments.masked_words                      # the text of Python's help(), no download
    python -m experiments.masked_words --data wikitext2

A byte-level BPE is trained on the text first. Masks are drawn anew in each epoch, at the rates of the paper (Devlin et
al. 2018, arXiv:1810.04805); those of validation are fixed, and no choice is made on them. Nothing is published at this
size: on 3.3 billion words, BERT of 3 layers, 768 wide, reaches perplexity 5.84, of 12 layers 3.99 (their table 6). The
loss of guessing by frequency alone is reported too. Every seed's folder holds `hugging_face`, which
`jann.from_pretrained` and PyTorch's transformers open: what fine-tuning begins with.
"""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

import jann
from experiments.reporting import each_seed, metric_curves, save_figures
from experiments.sequence_training import adamw, report, with_speed
from jann.data import mask_words, padded, train_bpe

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, _, BEGIN, END, MASK = range(5)
INPUTS = ("token", "length")
SAMPLE = 128  # rows of validation that are looked at along the way


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: see `main`."""

    steps: int
    batch_size: int = 32
    length: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    average: float = 0.995
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


def prepared(name: str, train: list[str], validation: list[str], vocab: int, recipe: Recipe) -> Texts:
    """Trains the tokeniser on the texts to train on; cuts both into rows; masks validation's, several times each."""
    tokenizer = train_bpe(train, vocab, SPECIAL)
    masking = masking_of(tokenizer)
    held_out = rows_of(tokenizer, validation, recipe.length)
    masked = [masking(held_out, jax.random.key(number)) for number in range(recipe.maskings)]
    masked = {name: np.concatenate([each[name] for each in masked]) for name in masked[0]}
    return Texts(name, tokenizer, rows_of(tokenizer, train, recipe.length), masked)


def rows_of(tokenizer: Any, texts: list[str], length: int) -> dict[str, np.ndarray]:
    """All texts one after another, END after each, cut into rows that begin with BEGIN"""
    ids = np.concatenate([[*found.ids, END] for found in tokenizer.encode_batch(texts)])
    pieces = [np.append(BEGIN, ids[i : i + length - 1]) for i in range(0, len(ids), length - 1)]
    return dict(zip(INPUTS, padded(pieces, length, PAD), strict=True))


def masking_of(tokenizer: Any) -> Any:
    return partial(mask_words, mask=MASK, vocab=tokenizer.get_vocab_size(), special=tuple(range(len(SPECIAL))))


def frequency_loss(texts: Texts) -> float:
    """The loss of foretelling each masked token by how often it is in the text to train on, in nats."""
    counts = np.bincount(texts.train["token"].ravel(), minlength=texts.tokenizer.get_vocab_size()) + 1.0
    counts[: len(SPECIAL)] = 0
    asked = texts.validation["label"][texts.validation["weight"] > 0]
    return float(-np.log(counts[asked] / counts.sum()).mean())


def train_one(folder: Path, texts: Texts, model: jann.Model, recipe: Recipe, seed: int) -> tuple[dict, dict, Any]:
    """One seed, gone on with where it was interrupted: -> (measured values, history, parameters)."""
    key = jax.random.key(seed)
    batches = jann.data.batches(
        texts.train, recipe.batch_size, jax.random.fold_in(key, 1), transform=masking_of(texts.tokenizer)
    )
    optimizer = adamw(model, recipe.learning_rate, recipe.weight_decay, recipe.steps)
    start = jann.start(model, optimizer, key, average_weights=True)
    measure = jann.measure(model, jann.language, INPUTS)
    sample = {name: array[:SAMPLE] for name, array in texts.validation.items()}

    def evaluate(train_state):
        found = jann.evaluate(measure, jann.eval_params(train_state), sample, 64)
        return {f"validation_{name}": float(value) for name, value in found.items()}

    train_state, history = jann.fit(
        jann.make_step(jann.objective(model, jann.language, INPUTS), optimizer, average=recipe.average),
        batches, start, recipe.steps,
        evaluate=with_speed(evaluate, recipe.batch_size * recipe.length), folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < recipe.steps:
        raise KeyboardInterrupt
    params = jann.eval_params(train_state)
    found = jann.evaluate(measure, params, texts.validation, 64)
    publish(folder / "hugging_face", texts, model, params)
    return {name: float(value) for name, value in found.items()}, history, params


def publish(folder: Path, texts: Texts, model: jann.Model, params: Any) -> None:
    """Writes the model and its tokeniser as others publish theirs."""
    jann.save_pretrained(folder, model, params)
    texts.tokenizer.save(str(folder / "tokenizer.json"))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    options = {"tokenizer_class": "PreTrainedTokenizerFast", **dict(zip(names, SPECIAL, strict=True))}
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
    if results is None:
        return
    found, histories, params = zip(*results, strict=True)
    sentences = filled_in(texts, model, params[0], examples)
    (folder / "filled_in.txt").write_text(sentences)
    metrics = {"train (dropout)": "loss", "validation": "validation_loss"}
    save_figures(folder, loss=metric_curves(histories, metrics, ylabel="nats a masked token", title=texts.name))
    row = {
        "dataset": texts.name, "model": repr(model), "parameters": jann.count(model), "tokens": tokens["train"],
        "frequency_loss": round(frequency_loss(texts), 4),
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
    dropout: float = 0.1,
    steps: int = 2000,
    batch_size: int = 32,
    length: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    average: float = 0.995,
    seeds: int = 1,
    seed: int = 0,
    out: Path = Path("runs/masked_words"),
) -> None:
    """Pre-trains a BERT by filling in the missing words of a text.

    Args:
        data: Python's help topics or its sources, which need no download, or articles of Wikipedia.
        vocab: Tokens of the byte-pair encoding.
        embed: Features of a token.
        layers: Blocks on top of each other.
        heads: Heads of attention in each.
        hidden: Width inside a block's second half.
        dropout: Rate on the embeddings, on attention and on what each half of a block adds.
        steps: Updates.
        batch_size: Rows of text in each.
        length: Tokens of a row.
        learning_rate: Peak of the warm-up and cosine schedule.
        weight_decay: Decay of the kernels (AdamW).
        average: Decay of the running average of the weights, which is what is evaluated and saved.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder. The same command goes on with an interrupted run.
    """
    recipe = Recipe(steps, batch_size, length, learning_rate, weight_decay, average)
    texts = prepared(data, *texts_of(data), vocab, recipe)
    model = jann.models.BERT(
        texts.tokenizer.get_vocab_size(), length, 2, embed, layers, heads, hidden, dropout=dropout
    )
    run(out, texts, model, recipe, seeds, seed)


if __name__ == "__main__":
    tyro.cli(main)
