"""Pre-training by masked words at tiny size: it learns, reports what the published folder gives, and resumes."""

import json

import jax
import numpy as np
import pytest

import jann
from experiments import masked_words
from experiments.sequence_training import with_speed
from jann.data import load_tokenizer, train_bpe
from jann.pretrained import from_pretrained

RECIPE = masked_words.Recipe(100, 16, 24, learning_rate=1e-2, average=0.9, maskings=2)


def prepared():
    """Texts of a and b, and texts of c and d: to know which, from what is left, halves the choice."""
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list(letters), 22)) for letters in ("ab", "cd") * 100]
    tokenizer = train_bpe(texts[:160], 261, masked_words.SPECIAL)
    return masked_words.prepared("letters", tokenizer, texts[:160], texts[160:], RECIPE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out, texts = tmp_path_factory.mktemp("masked_words") / "run", prepared()
    model = jann.models.BERT(texts.tokenizer.get_vocab_size(), 24, 2, 16, 1, 2, 32, dropout=0.1)
    masked_words.run(out, texts, model, RECIPE, seeds=1, seed=3, examples=3)
    return out, texts, model


def test_rows_hold_all_texts_in_order():
    texts = prepared()
    tokenizer = texts.tokenizer
    rows = masked_words.rows_of(tokenizer, ["abcdab", "d"], 5)
    there = np.arange(5) < rows["length"][:, None]
    assert (rows["token"][:, 0] == masked_words.BEGIN).all() and (rows["token"][~there] == masked_words.PAD).all()
    ids = rows["token"][:, 1:][there[:, 1:]].tolist()
    wanted = [tokenizer.encode(text).ids for text in ("abcdab", "d")]
    assert ids == [*wanted[0], masked_words.END, *wanted[1], masked_words.END]


def test_it_learns_beyond_frequency_and_the_published_folder_gives_what_is_reported(finished):
    out, texts, _ = finished
    (row,) = json.loads((out / "results.json").read_text())["rows"]
    asked = texts.validation["label"][texts.validation["weight"] > 0]
    vocab = texts.tokenizer.get_vocab_size()
    frequency = -masked_words.log_frequencies(texts.train["token"], vocab, len(masked_words.SPECIAL))[asked].mean()
    assert row["frequency_loss"] == round(frequency, 4)
    assert np.log(4) < frequency < np.log(4) + 0.1  # a little for the other bytes
    assert abs(row["validation_loss"]["mean"] - np.log(2)) < 0.05
    folder = out / "seed-3/hugging_face"
    model, params = from_pretrained(folder)
    measure = jann.measure(model, jann.language, masked_words.INPUTS)
    found = jann.evaluate(measure, params, texts.validation, 7)
    np.testing.assert_allclose(found["loss"], row["validation_loss"]["mean"], rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], row["validation_accuracy"]["mean"], rtol=1e-5)
    assert load_tokenizer(folder).to_str() == texts.tokenizer.to_str()
    assert "was " in (out / "filled_in.txt").read_text() and (out / "loss.png").exists()
    logged = [json.loads(line) for line in (out / "seed-3/metrics.jsonl").read_text().splitlines()]
    assert logged[-1]["step"] == 100 and logged[-1]["tokens_per_second"] > 0


def test_it_begins_at_the_frequencies_with_positions_that_look_alike(finished):
    _, texts, model = finished
    params = masked_words.beginning(model, texts, jax.random.key(0))
    found = jann.evaluate(jann.measure(model, jann.language, masked_words.INPUTS), params, texts.validation, 64)
    assert abs(found["loss"] - np.log(4)) < 0.2  # log 261 from where the model alone begins
    table = np.asarray(params["positions"]["table"])
    beside = (table[1:] * table[:-1]).sum(1)
    np.testing.assert_allclose(beside, beside[0], rtol=1e-4)


def test_the_same_command_goes_on_where_it_was(finished):
    out, texts, model = finished
    before = (out / "results.json").read_text()
    (out / "results.json").unlink()
    metrics = (out / "seed-3/metrics.jsonl").read_text()
    masked_words.run(out, texts, model, RECIPE, seeds=1, seed=3, examples=3)
    assert (out / "results.json").read_text() == before
    assert (out / "seed-3/metrics.jsonl").read_text() == metrics
    with pytest.raises(jann.RunFolderError, match="another configuration"):
        masked_words.run(out, texts, model, RECIPE, seeds=2, seed=3)


def test_rows_without_room_for_a_word_are_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"--length 1: give at least 2, as each row begins with \[CLS\]"):
        masked_words.main(length=1, out=tmp_path / "run")


def test_masks_of_validation_are_fixed_and_those_of_training_are_not():
    texts, again = prepared(), prepared()
    for name in texts.validation:
        np.testing.assert_array_equal(texts.validation[name], again.validation[name])
    rows = len(texts.validation["token"]) // 2
    assert (texts.validation["weight"][:rows] != texts.validation["weight"][rows:]).any()
    batches = jann.data.batches(texts.train, 4, jax.random.key(0), transform=masked_words.masking_of(texts.tokenizer))
    assert (np.asarray(batches(0)["weight"]) != np.asarray(batches(batches.steps_per_epoch)["weight"])).any()


def test_speed_counts_the_tokens_between_evaluations(monkeypatch):
    clock = iter([0.0, 10.0, 12.0, 99.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    evaluate = with_speed(lambda state: {"validation_loss": 1.0}, 50)
    states = [jann.TrainState(np.int32(step), None, None, None, None) for step in (4, 8)]
    assert evaluate(states[0]) == {"validation_loss": 1.0}
    assert evaluate(states[1]) == {"tokens_per_second": 100, "validation_loss": 1.0}
