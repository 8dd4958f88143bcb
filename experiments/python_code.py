"""A language model of Python code: pre-trained on the standard library, fine-tuned to solve small problems.

    python -m experiments.python_code                 # sources that come with Python; MBPP too, where JANN_DATA has it

First it foretells the next token of the standard library's files, by a byte-pair encoding of its own; the loss is told
in nats a token and, as the encodings of others differ, in bits a byte: beside xz, which has read the same files. Then
(task, solution) pairs of MBPP follow, where only the solution is foretold, and the problems of its test set are tried,
one greedy answer each: how many parse, run, and pass their tests. A model this small solves about none. Published: 59.6
% of them by a decoder of 137 billion parameters, if one of 80 answers counts (Austin et al. 2021, arXiv:2108.07732).
Where MBPP is missing, the second stage is left out; the same command goes on with it later.
"""

import dataclasses
import json
import lzma
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jann
from experiments.programs import outcomes
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    each_seed,
    metric_curves,
    more_than_zero,
    not_negative,
    over_seeds,
    save_figures,
    show_table,
    write_results,
)
from experiments.sequence_training import adamw, with_speed
from jann.data import Corpus, MissingData, Problem, instructed, train_bpe, whole_windows, windows
from jann.generation import generate

SPECIAL = ("<|pad|>", "<|endoftext|>")
PAD, END = range(2)
ANSWERS = ("token", None, "position", "document")  # what the model takes of rows that hold several documents
SAMPLE = 64  # rows of validation that are looked at along the way
PROMPTS = (
    "def fibonacci(n):\n",
    "import os\n\ndef read_lines(path):\n    with open(",
    "class Stack:\n    def __init__(self):\n",
    "    for key, value in ",
    "    def __repr__(self):\n",
)
PUBLISHED = "MBPP: 59.6 % by 137B parameters, 80 answers (Austin et al. 2021); loss: none on these files"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained and asked: see `main`."""

    steps: int
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    average: float = 0.99
    tuning_steps: int = 160
    tuning_rate: float = 5e-4
    problems: int = 100
    new: int = 96


@dataclasses.dataclass(frozen=True, eq=False)
class Sources:
    """A tokeniser, files as tokens[n] with END around each, and what validation takes in bytes and in bits of xz."""

    tokenizer: Any
    train: np.ndarray
    validation: np.ndarray
    bytes: int
    xz: int

    def bits_a_byte(self, loss: float) -> float:
        """Nats a token of validation -> bits a byte, the ends of files counted as loss but not as bytes"""
        return loss * (len(self.validation) - 1) / math.log(2) / self.bytes


def prepared(train: Sequence[str], validation: Sequence[str], vocab: int) -> Sources:
    """Trains the tokeniser on the files to train on, and tokenises both."""
    tokenizer = train_bpe(train, vocab, SPECIAL)

    def tokens(texts):
        return np.concatenate([[END], *([*found.ids, END] for found in tokenizer.encode_batch(list(texts)))])

    before, after = ("".join(texts).encode() for texts in (train, validation))
    xz = 8 * (len(lzma.compress(before + after)) - len(lzma.compress(before)))
    return Sources(tokenizer, tokens(train), tokens(validation), len(after), xz)


def prompt_of(problem: Problem) -> str:
    """A task and its first test, which gives the function's name, as a docstring that the solution follows"""
    return f'"""\n{problem.task}\n{problem.tests[0]}\n"""\n'


def pairs_of(tokenizer: Any, problems: Sequence[Problem], length: int) -> list[tuple[list, list]]:
    """problems -> (prompt, solution and END) in tokens, those that fit in a row"""
    prompts = tokenizer.encode_batch([prompt_of(problem) for problem in problems])
    answers = tokenizer.encode_batch([problem.code for problem in problems])
    pairs = [(prompt.ids, [*answer.ids, END]) for prompt, answer in zip(prompts, answers, strict=True)]
    return [pair for pair in pairs if len(pair[0]) + len(pair[1]) - 1 <= length]


def trained(
    folder: Path, model: jann.Model, params: Any, batches: Any, validation: dict, inputs: Any, steps: int, rate: float,
    recipe: Recipe, key: jax.Array,
) -> tuple[Any, dict, float]:  # fmt: skip
    """One stage, gone on with where it was interrupted: -> (parameters, history, validation loss in nats a token).

    params:  those to start from, by default drawn
    """
    optimizer = adamw(model, rate, recipe.weight_decay, steps)
    start = jann.start(model, optimizer, key, average_weights=True)
    if params is not None:
        start = start.replace(params=params)
    measure = jann.measure(model, jann.language, inputs)
    sample = {name: array[:SAMPLE] for name, array in validation.items()}

    def evaluate(train_state):
        found = jann.evaluate(measure, jann.eval_params(train_state), sample, 32)
        return {f"validation_{name}": float(value) for name, value in found.items()}

    tokens = recipe.batch_size * validation["token"].shape[1]
    train_state, history = jann.fit(
        jann.make_step(jann.objective(model, jann.language, inputs), optimizer, average=recipe.average),
        batches, start, steps, evaluate=with_speed(evaluate, tokens), folder=folder, model=model,
    )  # fmt: skip
    if int(train_state.step) < steps:
        raise KeyboardInterrupt
    params = jann.eval_params(train_state)
    return params, history, float(jann.evaluate(measure, params, validation, 32)["loss"])


def pre_trained(folder: Path, sources: Sources, model: jann.Model, recipe: Recipe, key: jax.Array):
    """The first stage: the next token of the standard library"""
    batches = windows(sources.train, recipe.batch_size, model.positions, jann.fold(key, "windows"))
    validation = whole_windows(sources.validation, model.positions)
    return trained(
        folder, model, None, batches, validation, "token", recipe.steps, recipe.learning_rate, recipe, key
    )


def fine_tuned(folder: Path, sources: Sources, mbpp: Corpus, model: jann.Model, params: Any, recipe: Recipe, key: Any):
    """The second stage: solutions after their tasks"""
    splits = [pairs_of(sources.tokenizer, part, model.positions) for part in (mbpp.train, mbpp.validation)]
    print(f"of {len(mbpp.train)} problems {len(splits[0])} fit into {model.positions} tokens", flush=True)
    train, validation = (instructed(pairs, model.positions, PAD) for pairs in splits)
    key = jann.fold(key, "fine-tuned")
    size = min(recipe.batch_size, len(train["token"]))
    batches = jann.data.batches(train, size, jann.fold(key, "batches"))
    return trained(
        folder, model, params, batches, validation, ANSWERS, recipe.tuning_steps, recipe.tuning_rate, recipe,
        key,
    )  # fmt: skip


def solved(sources: Sources, model: jann.Model, params: Any, problems: Sequence[Problem], new: int, size: int = 50):
    """The model's likeliest solution of each problem, `size` at a time; "" where the task leaves it no room"""
    prompts = [found.ids for found in sources.tokenizer.encode_batch([prompt_of(problem) for problem in problems])]
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    order = [i for i in order if len(prompts[i]) + new <= model.positions]
    said = [""] * len(problems)
    for i in range(0, len(order), size):
        part = order[i : i + size]
        made = generate(model, params, [prompts[j] for j in np.resize(part, size)], new, stop=(END,))
        for j, tokens in zip(part, np.asarray(made.tokens), strict=False):
            said[j] = sources.tokenizer.decode(tokens.tolist())  # which leaves out the special ones
    return said


def completed(sources: Sources, model: jann.Model, params: Any, new: int, key: jax.Array) -> str:
    """How the model goes on from PROMPTS: drawn from the likely tokens, for the likeliest alone repeat themselves"""
    prompts = [found.ids for found in sources.tokenizer.encode_batch(list(PROMPTS))]
    made = generate(model, params, [[END, *prompt] for prompt in prompts], new, key=key, temperature=0.6, top_p=0.9)
    parts = []
    for prompt, tokens in zip(PROMPTS, np.asarray(made.tokens).tolist(), strict=True):
        tokens = tokens[: tokens.index(END)] if END in tokens else tokens
        parts.append(f"{prompt}▮{sources.tokenizer.decode(tokens)}\n")
    return f"\n{'-' * 80}\n".join(parts)


def publish(folder: Path, sources: Sources, model: jann.Model, params: Any) -> None:
    """Writes the model and its tokeniser as others publish theirs."""
    jann.pretrained.save_pretrained(folder, model, params)
    sources.tokenizer.save(str(folder / "tokenizer.json"))
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": SPECIAL[PAD], "eos_token": SPECIAL[END]}
    (folder / "tokenizer_config.json").write_text(json.dumps(options, indent=2) + "\n")


def one_seed(
    folder: Path, sources: Sources, mbpp: Corpus | None, model: jann.Model, recipe: Recipe, seed: int
) -> tuple[dict, list[dict], str]:
    """Both stages: -> (measured values, the history of each, completions)"""
    key = jax.random.key(seed)
    params, history, loss = pre_trained(folder / "pre-trained", sources, model, recipe, key)
    publish(folder / "hugging_face", sources, model, params)
    completions = completed(sources, model, params, min(64, model.positions // 2), jann.fold(key, "completions"))
    (folder / "completions.txt").write_text(completions)
    found, histories = {"validation_loss": loss, "validation_bits_a_byte": sources.bits_a_byte(loss)}, [history]
    if mbpp is None:
        return found, histories, completions
    params, history, loss = fine_tuned(folder / "fine-tuned", sources, mbpp, model, params, recipe, key)
    problems = mbpp.test[: recipe.problems]
    programs = solved(sources, model, params, problems, recipe.new)
    shares = np.mean(outcomes(programs, problems), axis=0)
    written = (f"{prompt_of(problem)}{program}\n" for problem, program in zip(problems, programs, strict=True))
    (folder / "solutions.txt").write_text(f"\n{'-' * 80}\n".join(written))
    found |= {"mbpp_loss": loss}
    found |= {f"mbpp_{name}": share for name, share in zip(("parses", "runs", "passes"), shares, strict=True)}
    return found, [*histories, history], completions


def run(
    out: Path, sources: Sources, mbpp: Corpus | None, model: jann.Model, recipe: Recipe, seeds: int, seed: int
) -> None:
    """Trains `seeds` models, each in a folder of its own in `out`; reports on all of them."""
    version = platform.python_version()
    config = {"model": jann.to_json(model), "recipe": dataclasses.asdict(recipe), "seeds": seeds, "seed": seed}
    folder = jann.open_run(out, {**config, "python": version, "tokens": len(sources.train)})
    print(f"{len(sources.train):,} tokens of Python {version} to train on\n\n{jann.summary(model)}\n")
    results = each_seed(folder, seeds, seed, lambda at, number: one_seed(at, sources, mbpp, model, recipe, number))
    found, histories, completions = zip(*results, strict=True)
    names = ("pre-training", "fine-tuning")
    for name, stage in zip(names, zip(*histories, strict=True), strict=False):
        metrics = {"train": "loss", "validation (averaged weights)": "validation_loss"}
        drawn = metric_curves(stage, metrics, ylabel="nats a token", title=name.capitalize())
        save_figures(folder, **{name: drawn})
    measured = {name: over_seeds([each[name] for each in found]) for name in found[0]}
    solutions = {name: measured.pop(name) for name in list(measured) if name.startswith("mbpp_")}
    if mbpp is not None:
        problems = mbpp.test[: recipe.problems]
        own = outcomes([problem.code for problem in problems], problems)
        solutions = {"problems": len(problems), **solutions, "mbpp_own_pass": float(np.mean([o.passes for o in own]))}
    sizes = {"parameters": jann.count(model), "tokens": len(sources.train)}
    foretold = {**sizes, **measured, "xz_bits_a_byte": round(sources.xz / sources.bytes, 4)}
    of = {"dataset": "python_sources", "python": version, "model": repr(model)}
    write_results(folder, [{**of, **foretold, **solutions, "published": PUBLISHED}])
    print(f"\n{completions[0]}\n")
    show_table([foretold], f"Python {version}: {model!r}")
    if solutions:
        show_table([solutions], "Shares of problems, and of their own solutions")
    print(f"published: {PUBLISHED}\nwrote {folder}")


def found_mbpp() -> Corpus | None:
    """MBPP, or None where it is missing, which it says"""
    try:
        return jann.data.load("mbpp")
    except MissingData as error:
        print(f"no fine-tuning: {error}")
        return None


def main(
    vocab: int = 2000,
    embed: int = 128,
    layers: int = 4,
    heads: int = 4,
    hidden: int = 344,
    length: int = 256,
    steps: int = 800,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.1,
    average: float = 0.99,
    tuning_steps: int = 160,
    tuning_rate: float = 5e-4,
    problems: int = 100,
    new: int = 96,
    seeds: int = 1,
    seed: int = 0,
    out: Path = Path("runs/python_code"),
) -> None:
    """Trains a model of Python code, shows completions, and tries it on small problems where MBPP is found.

    Args:
        vocab: Tokens of the byte-pair encoding.
        embed: Features of a token.
        layers: Blocks on top of each other.
        heads: Heads of attention in each.
        hidden: Width of each block's gated unit.
        length: Tokens of a window, and the most that a task and its solution may have.
        steps: Steps of pre-training.
        batch_size: Windows in a step.
        learning_rate: Peak of the warm-up and cosine schedule (AdamW).
        weight_decay: Decay of the kernels.
        average: Decay of the running average of the weights, which is what is evaluated and saved.
        tuning_steps: Steps of fine-tuning.
        tuning_rate: Peak of its schedule.
        problems: How many of the 500 test problems are tried.
        new: The most tokens of a solution.
        seeds: How many models, from different random starts.
        seed: The first seed.
        out: The run folder. The same command goes on with an interrupted run.
    """
    at_least_one(steps=steps, batch_size=batch_size, tuning_steps=tuning_steps, problems=problems, new=new, seeds=seeds)
    at_least_one(vocab=vocab, embed=embed, layers=layers, heads=heads, hidden=hidden)
    more_than_zero(learning_rate=learning_rate, tuning_rate=tuning_rate)
    not_negative(weight_decay=weight_decay)
    below_one(average=average)
    corpus = jann.data.load("python_sources")
    sources = prepared(corpus.train, corpus.validation, vocab)
    model = jann.models.Llama(
        sources.tokenizer.get_vocab_size(), embed, layers, heads, hidden, positions=length, tied=True
    )
    recipe = Recipe(
        steps, batch_size, learning_rate, weight_decay, average, tuning_steps, tuning_rate, problems, new
    )  # fmt: skip
    run(out, sources, found_mbpp(), model, recipe, seeds, seed)


if __name__ == "__main__":
    command(main)
