"""Texts: their published counts, and nothing altered."""

import contextlib
import gzip
import io

import pooch
import pytest

import jann.data
from jann.data import corpora


def sizes(corpus):
    return len(corpus.train), len(corpus.validation), len(corpus.test)


def test_multi30k_is_the_published_one(real_data):
    corpus = jann.data.load("multi30k")
    assert sizes(corpus) == (29_000, 1_014, 1_000)
    english, german = corpus.train[0]
    assert english == "Two young, White males are outside near many bushes."
    assert german == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
    assert repr(corpus) == "Corpus('multi30k': train 29,000, validation 1,014, test 1,000)"


def test_sst2_is_the_published_one(real_data):
    corpus = jann.data.load("sst2")
    assert sizes(corpus) == (6_920, 872, 1_821)
    praised = [sum(label for _, label in split) for split in (corpus.train, corpus.validation, corpus.test)]
    assert praised == [3_610, 444, 909]
    assert corpus.validation[0] == ("one long string of cliches", 0)


def test_dialogsum(real_data):
    corpus = jann.data.load("dialogsum")
    assert sizes(corpus) == (0, 500, 500)
    assert {len(summaries) for _, summaries in corpus.validation} == {1}
    assert {len(summaries) for _, summaries in corpus.test} == {3}
    dialogue, (summary,) = corpus.validation[0]
    assert dialogue.startswith("#Person1#: Hello, how are you doing today?\n#Person2#:")
    assert summary.startswith("#Person2# has trouble breathing.")


def test_solutions_of_mbpp_pass_their_tests(real_data):
    corpus = jann.data.load("mbpp")
    assert sizes(corpus) == (374, 90, 500)
    for problem in corpus.validation[:20]:
        with contextlib.redirect_stdout(io.StringIO()):
            exec("\n".join([problem.setup, problem.code, *problem.tests]), {})
    with pytest.raises(AssertionError):
        exec(corpus.validation[0].code + "\n" + corpus.validation[0].tests[0].replace("==", "!="), {})


def test_wikitext2_has_the_published_articles_and_words(real_data):
    corpus = jann.data.load("wikitext2")
    assert sizes(corpus) == (600, 60, 60)
    assert corpus.train[0].startswith(" = Valkyria Chronicles III = ")
    words = [sum(len(article.split()) for article in split) for split in (corpus.train, corpus.validation, corpus.test)]
    assert words == [2_051_910, 213_886, 241_211]  # table 1 of the paper, by <eos> more there


def test_pythons_sources_are_in_every_python():
    corpus, again = (corpora.python_sources(400_000) for _ in range(2))
    assert corpus.train == again.train and corpus.test == again.test and len(corpus.train) > 5
    total = sum(map(len, [*corpus.train, *corpus.validation, *corpus.test]))
    assert 400_000 <= total < 1_000_000
    whole = corpora.python_sources(10**9)
    assert set(corpus.train) < set(whole.train) and set(corpus.validation) <= set(whole.validation)
    assert len(whole.validation) / len(whole.train) == pytest.approx(1 / 18, rel=0.5)
    import json.decoder

    with open(json.decoder.__file__, encoding="utf-8") as file:
        assert file.read() in [*whole.train, *whole.validation, *whole.test]


def test_an_altered_or_missing_text_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")

    def unreachable(*arguments, **named):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", unreachable)
    for name, file in (("multi30k", r"train\.en\.gz"), ("sst2", r"SST2_train\.tsv"), ("mbpp", r"mbpp\.jsonl")):
        with pytest.raises(jann.data.MissingData, match=f"{file} is missing and https.*put it at {tmp_path}"):
            jann.data.load(name)
    (tmp_path / "code").mkdir()
    (tmp_path / "code/mbpp.jsonl").write_text("{}")
    with pytest.raises(jann.data.DataError, match=r"mbpp\.jsonl has sha256"):
        jann.data.load("mbpp")
    (tmp_path / "code/mbpp.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(jann.data.DataError, match=r"mbpp\.jsonl\.gz has contents of sha256"):
        jann.data.load("mbpp")
