"""The experiments on text, at tiny sizes: what they leave behind, and the parts that could go wrong silently."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from experiments import sentiment, shakespeare_gpt, summarise, translate
from experiments.masked_words import Recipe, log_frequencies, prepared
from jann.models import GPT2, Mamba, Transformer


def rows_of(folder):
    return json.loads((folder / "results.json").read_text())["rows"]


@pytest.mark.parametrize("model", [GPT2(4, 8, 16, 1, 2), Mamba(4, 16, 1, state=4)])
def test_a_character_model_learns_a_cycle_and_writes_it(tmp_path, model):
    text = jann.data.as_text("cycle", "abc\n" * 200)
    recipe = shakespeare_gpt.Recipe(80, 8, 8, 1e-2, 0.0, 0.9)
    shakespeare_gpt.run(tmp_path, text, model, recipe, 1, 0)
    (row,) = rows_of(tmp_path)
    assert row["validation_loss"]["mean"] < 0.3  # the first of a window has nothing before it
    assert "abc\nabc\nabc" in (tmp_path / "samples.txt").read_text()
    assert (tmp_path / "loss.png").exists() and jann.load(tmp_path / "seed-0")[0] == model


def test_numbers_in_words_are_right_and_in_one_split():
    splits = translate.number_words(300, 50)
    ones = "zero one two three four five six seven eight nine".split()
    for words, digits in splits[0]:
        number = int(digits.replace(" ", ""))
        last = words.split()[-1].split("-")[-1]
        if number % 100 > 20 and number % 10:
            assert last == ones[number % 10]
        assert ("thousand" in words) == (number >= 1000)
        assert ("hundred" in words) == (number % 1000 >= 100 or number >= 100_000)
    everything = [pair for split in splits for pair in split]
    assert len({digits for _, digits in everything}) == len(everything) == 400


def test_the_step_at_a_length_is_that_of_the_whole(key):
    """Cutting off padding changes neither the loss nor the parameters after the step."""
    model = Transformer(9, 8, 1, 2, 8)
    pairs = jann.data.paired([[3, 4, 5], [6]], [[3], [4, 5, 6, 7]], 1, 2, 12, 12)
    batch = {name: jnp.asarray(values) for name, values in pairs.items()}
    optimizer = optax.sgd(0.1)
    step = jann.make_step(jann.objective(model, jann.language, ("source", "token", "source_length")), optimizer)
    seen = []

    def noted(train_state, batch):
        seen.append(batch["source"].shape)
        return step(train_state, batch)

    state = jann.start(model, optimizer, key)
    whole, metrics = jax.jit(step)(state, batch)
    cut, cut_metrics = jax.jit(translate.at_its_length(noted, (4, 8, 12)))(state, batch)
    assert [shape[1] for shape in seen] == [4, 8, 12]
    np.testing.assert_allclose(metrics["loss"], cut_metrics["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole.params, cut.params)


def test_blocks_are_of_about_equal_length():
    pairs = jann.data.paired([[3] * n for n in (5, 1, 4, 2, 3, 6, 1)], [[4]] * 7, 1, 2, 8)
    blocks = translate.by_length(pairs, 2)
    np.testing.assert_array_equal(blocks["source_length"][..., 0], [[1, 1], [2, 3], [4, 5]])
    batch = translate.one_block({name: values[1:2] for name, values in blocks.items()}, None)
    assert batch["source"].shape == (2, 8) and batch["source_length"].shape == (2,)


def test_smoothing_spreads_the_label(key):
    logits, batch = jax.random.normal(key, (2, 3, 5)), {"label": jnp.ones((2, 3), int), "weight": jnp.ones((2, 3))}
    wanted = 0.9 * jax.nn.one_hot(1, 5) + 0.1 / 5
    each = -(jax.nn.log_softmax(logits) * wanted[None, None]).sum(-1)
    np.testing.assert_allclose(translate.smoothed(0.1, logits, batch)["loss"][0], each.sum(1), rtol=1e-5)


def test_a_translator_leaves_its_run_folder(tmp_path, monkeypatch):
    pytest.importorskip("sacrebleu")
    monkeypatch.setattr(translate, "number_words", lambda: [[("one two", "1 2"), ("two one", "2 1")] * 8] * 3)
    task = translate.prepare("number_words", 280, 8)
    model = Transformer(task.tokenizer.get_vocab_size(), 16, 1, 2, 16, norm_first=True, dropout=0.1)
    recipe = translate.Recipe(60, 8, 8, 2e-2, 0.0, 0.9, 2)
    translate.run(tmp_path, task, model, recipe, 1, 0)
    (row,) = rows_of(tmp_path)
    assert row["test_exact"]["mean"] == 1.0
    assert (tmp_path / "seed-0" / "translations.txt").read_text().splitlines()[:2] == ["1 2", "2 1"]
    assert jann.data.load_tokenizer(tmp_path).encode("one").ids


def test_bleu_of_the_same_is_100():
    pytest.importorskip("sacrebleu")
    said = ["a man in a blue shirt is standing on a ladder", "two dogs play in the snow"]
    assert translate.scores(said, said)["test_bleu"] == pytest.approx(100)
    assert translate.scores([text.upper() for text in said], said)["test_bleu"] < 5
    assert translate.scores([text.upper() for text in said], said)["test_bleu_small_letters"] == pytest.approx(100)


def test_a_batch_of_more_pairs_than_there_are_is_refused():
    arrays = {"weight": np.ones((6, 3)), "source_length": np.arange(6), "token": np.arange(18).reshape(6, 3)}
    blocks = translate.by_length(arrays, 3)
    np.testing.assert_array_equal(blocks["source_length"][..., 0], [[0, 1, 2], [3, 4, 5]])
    for size in (0, 7):
        with pytest.raises(ValueError, match=f"batch_size={size}: give from 1 to 6"):
            translate.by_length(arrays, size)


def test_sentiment_from_three_starts(tmp_path):
    pairs = [(f"a {word} {thing}", label) for label, word in enumerate(("bad", "good")) for thing in "abcdefgh"]
    corpus = jann.data.Corpus("words", pairs * 4, pairs, pairs * 2)
    pretraining = Recipe(4, batch_size=8, length=8, maskings=1)
    options = {"length": 8, "vocab": 280, "epochs": 1.0, "pretraining": pretraining, "blocks": 1}
    options["text"] = [text for text, _ in corpus.train]
    starts = ("scratch", "cnn", "masked_words")
    sentiment.run(tmp_path, corpus, starts, (1000,), 2, 0, **options)
    rows = rows_of(tmp_path)
    assert [(row["start"], row["labels"]) for row in rows] == [(start, 64) for start in starts]
    assert all(row["test_accuracy"]["mean"] > 0.9 for row in rows)
    before = (tmp_path / "results.json").read_text()
    sentiment.run(tmp_path, corpus, starts, (1000,), 2, 0, **options)  # nothing is done again
    assert (tmp_path / "results.json").read_text() == before and (tmp_path / "accuracy.png").exists()


@pytest.mark.parametrize(("starts", "read"), [(("cnn", "scratch"), []), (("masked_words",), ["an article"])])
def test_sentiment_loads_further_text_only_for_masked_words(starts, read, monkeypatch):
    found = []
    monkeypatch.setattr(sentiment, "run", lambda *args: found.extend(args[9]))
    monkeypatch.setattr(jann.data, "load", lambda name: jann.data.Corpus(name, ["An Article"], [], []))
    sentiment.main(starts=starts, text="wikitext2", repeats=0)
    assert found == read


def test_sentiment_of_other_starts_and_lengths_has_a_run_folder_of_its_own(monkeypatch):
    folders = []
    monkeypatch.setattr(sentiment, "run", lambda out, *_: folders.append(str(out)))
    sentiment.main(starts=("encoder",), length=40)
    sentiment.main(starts=("cnn", "scratch"))
    assert folders == ["runs/sentiment-made_up_reviews-encoder-40", "runs/sentiment-made_up_reviews-cnn-scratch-48"]


def test_the_small_bert_of_sentiment_begins_with_what_masked_words_taught_it(tmp_path):
    sentences = [f"a {word} {thing}" for word in ("bad", "good") for thing in "abcdefgh"] * 4
    corpus = jann.data.Corpus("words", [(text, 0) for text in sentences], [], [(sentences[0], 0)])
    recipe = Recipe(60, 8, 24, learning_rate=1e-2, average=0.9, maskings=1)
    tokenizer, encoder, *_ = sentiment.small(tmp_path, corpus, 280, 24)
    texts = prepared("words", tokenizer, sentences, sentences, recipe)
    taught = sentiment.pretrained_words(tmp_path, encoder, texts, recipe, 0)
    assert jann.count(encoder) == sum(leaf.size for leaf in jax.tree.leaves(taught))
    model, params = jann.from_pretrained(tmp_path / "hugging_face")
    tokens, lengths = texts.validation["token"][:4], texts.validation["length"][:4]
    features = model.features(params, tokens, lengths)
    np.testing.assert_allclose(encoder(taught, tokens, lengths), features, atol=1e-5)
    found = jann.evaluate(jann.measure(model, jann.language, ("token", "length")), params, texts.validation, 8)
    asked = texts.validation["label"][texts.validation["weight"] > 0]
    assert found["loss"] < -0.8 * log_frequencies(texts.train["token"], 280, len(sentiment.SPECIAL))[asked].mean()


def test_the_tokenizer_of_sentiment_is_trained_once(tmp_path, monkeypatch):
    corpus = sentiment.made_up_reviews()
    _, encoder, *arrays = sentiment.small(tmp_path, corpus, 300, 16)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"] and encoder.vocab == 300
    monkeypatch.setattr(sentiment, "train_bpe", None)
    _, encoder_again, *again = sentiment.small(tmp_path, corpus, 300, 16)
    assert encoder_again == encoder
    jax.tree.map(np.testing.assert_array_equal, again, arrays)


def test_made_up_reviews_are_the_same_each_time():
    corpus = sentiment.made_up_reviews()
    assert corpus.train == sentiment.made_up_reviews().train
    shares = [np.mean([label for _, label in part]) for part in (corpus.train, corpus.test)]
    assert all(0.4 < share < 0.6 for share in shares)
    assert not {text for text, _ in corpus.train} & {text for text, _ in corpus.test}
    for text, label in corpus.test:
        praise = any(f" {word} " in text for word in sentiment.PRAISE)
        assert praise != any(f" {word} " in text for word in sentiment.BLAME)
        assert label == praise ^ (" not " in text)


def test_the_cnn_of_sentiment_reads_words_that_are_there_twice():
    corpus = jann.data.Corpus("words", [("good good film .", 1), ("a bad film .", 0)], [], [("good , bad film", 1)])
    beginning = sentiment.convolutional(corpus, 5)
    words = sentiment.word_tokenizer([sentence for sentence, _ in corpus.train]).get_vocab()
    assert set(words) == {*sentiment.SPECIAL, "good", "film", "."} and beginning.model.vocab == len(words)
    assert words["[UNK]"] == 1 and words["[MASK]"] == sentiment.MASK
    begin, end, good, film = (words[word] for word in ("[CLS]", "[SEP]", "good", "film"))
    np.testing.assert_array_equal(beginning.test["token"], [[begin, good, 1, 1, end]])  # the fourth word is cut off
    np.testing.assert_array_equal(beginning.train["token"][1], [begin, 1, 1, film, end])


def test_a_classifier_ignores_padding(drawn):
    encoder = jann.models.BERT(11, 8, embed=8, layers=1, heads=2, hidden=8, head="features")
    model = sentiment.SentenceClassifier(encoder)
    params, lengths, run = drawn(model), jnp.array([3, 2]), jax.jit(model)
    tokens = jnp.array([[5, 6, 7, 0, 0], [8, 9, 0, 0, 0]])
    other = tokens.at[:, 3:].set(9)
    np.testing.assert_allclose(run(params, tokens, lengths), run(params, other, lengths), atol=1e-6)


def test_words_are_hidden_at_the_rate_and_nothing_else_changes(key):
    batch = {"token": jnp.arange(5, 4005).reshape(100, 40), "label": jnp.arange(100)}
    found = sentiment.hide_words(batch, key, 0.3)
    hidden = found["token"] == sentiment.MASK
    assert abs(hidden.mean() - 0.3) < 0.03  # four standard deviations
    np.testing.assert_array_equal(found["token"], jnp.where(hidden, sentiment.MASK, batch["token"]))
    np.testing.assert_array_equal(found["label"], batch["label"])
    np.testing.assert_array_equal(sentiment.hide_words(batch, key, 0.0)["token"], batch["token"])


def test_words_are_hidden_in_training_alone(key, monkeypatch):
    """Traced, not run: which batches have words hidden. Those of the test set are of other sizes."""
    seen = []

    def noted(batch, key, rate):
        seen.append((batch["token"].shape, rate))
        return batch

    monkeypatch.setattr(sentiment, "hide_words", noted)
    rows = {"token": np.ones((9, 4), np.int32), "length": np.full(9, 4), "label": np.zeros(9, np.int32)}
    model = jann.models.TextCNN(6, embed=2, maps=2, widths=(3,))
    options = {"model": model, "trained": "", "learning_rate": 1e-3, "hidden_words": 0.3}
    sizes = {"labels": 8, "steps": 5, "batch_size": 3}
    jax.eval_shape(lambda keys: sentiment.tuned(keys, None, rows, rows, **options, **sizes), key[None])
    assert set(seen) == {((3, 4), 0.3)}


def test_functions_are_paired_with_the_first_line_of_their_docstrings():
    source = '''
class A:
    @property
    def get_first_word(self, text):
        """Gives the first word of a text.

        More."""
        # a comment
        return text.split()[0]

    def bare(self):
        return 1

    def short(self):
        """Too short."""
        return 2
'''
    assert summarise.functions([source, "def broken(:"]) == [
        ("def get_first_word(self, text):\n    return text.split()[0]", "Gives the first word of a text.")
    ]
    assert summarise.name_words("def get_first_word2(x): pass") == "get first word"


def test_turns_are_chosen_as_named_and_scored_against_each_reference():
    dialogue = "A: one\nB: two two\nA: three three three\nB: four four four four"
    assert summarise.first_three(dialogue) == "A: one B: two two A: three three three"
    assert summarise.longest_three(dialogue) == "B: two two A: three three three B: four four four four"

    def encode(texts):  # by how often a text says "four" or "one"
        return np.array([[text.count("four"), text.count("one")] for text in texts], float)

    assert summarise.nearest_three(encode, [dialogue, "A: one\nB: two"])[1] == "A: one B: two"
    assert summarise.nearest_three(encode, [dialogue])[0].endswith("B: four four four four")
    pytest.importorskip("rouge_score")
    found = summarise.rouge(["a b c d"], [("a b c d", "a b x y")])
    assert found == pytest.approx({"test_rouge1": 75, "test_rouge2": (100 + 100 / 3) / 2, "test_rougeL": 75})


def test_a_summariser_of_functions_leaves_its_run_folder(tmp_path):
    pytest.importorskip("rouge_score")
    pairs = [(f"def say_{word}(x):\n    return {word}", f"Says the word {word} aloud.") for word in ("yes", "no")]
    recipe = translate.Recipe(80, 8, 24, 2e-2, 0.0, 0.9, 2)
    summarise.summarise_functions(
        tmp_path, [pairs * 8, pairs * 8, pairs], 300, lambda vocab: Transformer(vocab, 16, 1, 2, 16, norm_first=True),
        recipe, 1, 0,
    )  # fmt: skip
    named, learnt = rows_of(tmp_path)
    assert 0 < named["test_rouge1"]["mean"] < 60 < learnt["test_rouge1"]["mean"]
    assert (tmp_path / "loss.png").exists()


def test_dialogues_are_scored_without_an_encoder_too(tmp_path, monkeypatch):
    pytest.importorskip("rouge_score")

    def missing(*_):
        raise FileNotFoundError("not installed")

    monkeypatch.setattr(jann.pretrained, "sentence_encoder", missing)
    corpus = jann.data.Corpus("dialogsum", [], [], [("A: one\nB: two\nA: three\nB: go home now", ("go home now",))])
    summarise.summarise_dialogues(tmp_path, corpus)
    first, longest = rows_of(tmp_path)
    assert first["test_rouge1"]["mean"] == 0 < longest["test_rouge1"]["mean"]
