"""Tokenisers: published ones give the published numbers, one's own gives every text back."""

import json
import random

import pytest

from jann.data import DataError, load_tokenizer, train_bpe

TEXTS = ["the cat sat on the mat, the rat sat on the cat.\n" * 5, "Zürich’s naïve café — 北京 🙂 the end"]


@pytest.mark.parametrize("name", ["gpt2-bytelevel", "bert-wordpiece", "t5-unigram"])
def test_published_tokenizers(goldens, name):
    folder = goldens / "tokenizers"
    expected = json.loads((folder / "expected.json").read_text())[name]
    tokenizer = load_tokenizer(folder / name)
    for case in expected["single"]:
        found = tokenizer.encode(case["text"])
        assert found.ids == case["ids"] and found.tokens == case["tokens"] and found.type_ids == case["type_ids"]
        assert [list(span) for span in found.offsets] == case["offsets"]
        assert tokenizer.encode(case["text"], add_special_tokens=False).ids == case["ids_no_special"]
        assert tokenizer.decode(case["ids"]) == case["decode"]
        assert tokenizer.decode(case["ids"], skip_special_tokens=False) == case["decode_keep_special"]
    assert len(expected["single"]) == 8


def test_texts_are_neither_cut_nor_filled_up_as_the_file_was_last_used(tmp_path):
    tokenizer = train_bpe(TEXTS, 300)
    short, long = (tokenizer.encode(text).ids for text in ("cat", TEXTS[0]))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(tmp_path)
    assert len(short) < 4 < len(long) and again.encode("cat").ids == short and again.encode(TEXTS[0]).ids == long
    assert [found.ids for found in again.encode_batch(["cat", TEXTS[0]])] == [short, long]


def test_missing_and_damaged_tokenizers_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing: give a folder as published"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no_such_folder/tokenizer\.json is missing"):
        load_tokenizer(tmp_path / "no_such_folder")
    for damaged in (b"{", b'{"version": "1.0"}', b"\xff\xfe"):
        (tmp_path / "tokenizer.json").write_bytes(damaged)
        with pytest.raises(DataError, match=r"tokenizer\.json is no tokenizer, or a damaged one"):
            load_tokenizer(tmp_path)


def test_ones_own_gives_every_text_back(tmp_path):
    tokenizer = train_bpe(TEXTS, 300)
    characters = [*range(1, 0xD800), *range(0xE000, 0x110000)]  # all but surrogates, which are no text
    any_text = "".join(map(chr, random.Random(0).choices(characters, k=2000)))
    for text in [*TEXTS, any_text, "", " ", "\n\n  \t", "a\x00b", " <s> the </s><pad>", "the  cat "]:
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.encode("<s>").ids == [1] and tokenizer.decode([1, 2]) == ""
    tokenizer.save(str(tmp_path / "mine.json"))
    again = load_tokenizer(tmp_path / "mine.json")
    assert again.to_str() == tokenizer.to_str()
    assert again.encode(any_text).ids == tokenizer.encode(any_text).ids


def test_ones_own_has_the_size_asked_and_joins_what_is_frequent():
    tokenizer = train_bpe(TEXTS, 270, special=["<pad>", "<mask>"])
    assert tokenizer.get_vocab_size() == 270
    assert [tokenizer.token_to_id(token) for token in ("<pad>", "<mask>")] == [0, 1]
    # "at" (25 times, in cat, sat, mat, rat) is the first pair
    assert tokenizer.id_to_token(258) == "at"
    assert len(tokenizer.encode(TEXTS[0]).ids) < 0.6 * len(TEXTS[0])
    assert train_bpe(iter(TEXTS), 270, special=["<pad>", "<mask>"]).to_str() == tokenizer.to_str()
    assert train_bpe([], 300).get_vocab_size() == 259


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="give a list, such as"):
        train_bpe("the cat", 300)
    with pytest.raises(ValueError, match="vocab=258 is too few: there are 256 bytes and 3 special"):
        train_bpe(TEXTS, 258)
