"""Pre-training by corrupted spans at tiny size: it learns, resumes, and the published folder gives what is reported."""

import json
from functools import partial

import jax
import numpy as np
import pytest

import jann
from experiments import corrupted_spans
from jann.data import load_tokenizer
from jann.data.stream import Stream
from jann.pretrained import from_pretrained

RECIPE = corrupted_spans.Recipe(100, 16, 40, average=0.9, corruptions=2)


def prepared():
    """Texts of a and b, and texts of c and d: to know which, from what is left, halves the choice."""
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list(letters), 79)) for letters in ("ab", "cd") * 120]
    return corrupted_spans.prepared("letters", texts[:200], texts[200:], 359, RECIPE)


def small(texts):
    return jann.models.T5(texts.tokenizer.get_vocab_size(), 16, 1, 2, 8, 32, activation=jax.nn.gelu, gated=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out, texts = tmp_path_factory.mktemp("corrupted_spans") / "run", prepared()
    corrupted_spans.run(out, texts, small(texts), RECIPE, seeds=1, seed=3, examples=3)
    return out, texts


def test_it_learns_beyond_frequency_and_the_published_folder_gives_what_is_reported(finished):
    out, texts = finished
    (row,) = json.loads((out / "results.json").read_text())["rows"]
    assert np.log(4) < row["frequency_word_loss"] < np.log(4) + 0.1  # a little for the other bytes
    # It has half the letters to choose from, but must foretell, too, that a span goes on: 0.3 nats.
    assert np.log(2) < row["validation_word_loss"]["mean"] < np.log(2) + 0.4
    folder = out / "seed-3/hugging_face"
    model, params = from_pretrained(folder)
    for arrays, name in ((texts.validation, ""), (texts.words, "word_")):
        found = jann.evaluate(jann.measure(model, jann.language, corrupted_spans.INPUTS), params, arrays, 7)
        np.testing.assert_allclose(found["loss"], row[f"validation_{name}loss"]["mean"], rtol=1e-5)
        np.testing.assert_allclose(found["accuracy"], row[f"validation_{name}accuracy"]["mean"], rtol=1e-5)
    assert load_tokenizer(folder).to_str() == texts.tokenizer.to_str()
    assert "written " in (out / "filled_in.txt").read_text() and (out / "loss.png").exists()
    logged = [json.loads(line) for line in (out / "seed-3/metrics.jsonl").read_text().splitlines()]
    assert logged[-1]["step"] == 100 and logged[-1]["tokens_per_second"] > 0


def test_the_same_command_goes_on_where_it_was_bit_for_bit(finished, tmp_path, monkeypatch):
    out, texts = finished
    fit = jann.fit

    def half(step, batches, start, n, **options):
        return fit(step, batches, start, n // 2, every=n // 20, **options)

    with monkeypatch.context() as stopped, pytest.raises(SystemExit, match="130"):
        stopped.setattr(jann, "fit", half)
        corrupted_spans.run(tmp_path / "run", texts, small(texts), RECIPE, seeds=1, seed=3, examples=3)
    assert not (tmp_path / "run/results.json").exists()
    corrupted_spans.run(tmp_path / "run", texts, small(texts), RECIPE, seeds=1, seed=3, examples=3)
    for file in ("results.json", "filled_in.txt", "seed-3/hugging_face/model.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (out / file).read_bytes()


def test_spans_of_validation_are_fixed_and_those_of_training_are_not():
    texts, again = prepared(), prepared()
    for name in texts.validation:
        np.testing.assert_array_equal(texts.validation[name], again.validation[name])
    rows = len(texts.validation["label"]) // 2
    assert (texts.validation["source"][:rows] != texts.validation["source"][rows:]).any()
    one = texts.train[:1]
    batches = Stream(one, 1, 0, partial(corrupted_spans.corrupted, rate=0.3), threads=0)
    assert len({batches(epoch)["source"].tobytes() for epoch in range(10)}) > 1


def test_what_is_read_and_foretold_gives_the_text_again():
    texts = prepared()
    row = texts.train[0]
    found = corrupted_spans.corrupted(row, np.random.default_rng(0), 0.3)
    assert found["source"][-1] == found["label"][-1] == corrupted_spans.STOP
    assert found["token"][0] == corrupted_spans.PAD and (found["token"][1:] == found["label"][:-1]).all()
    spans = corrupted_spans.spans_of(found["label"])
    whole = [token for place in found["source"][:-1].tolist() for token in spans.get(place, [place])]
    assert whole == row.tolist()
