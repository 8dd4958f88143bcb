"""Questions to rows and back to characters, for contexts of any length; and SQuAD's files, whole and damaged."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from jann.data import DataError, Question, question_rows, read_answers, read_squad, train_bpe

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CONTEXT = "Zoë  lives in São Paulo, Brazil. Her sister Ana moved to Oslo in 1999, and then to New York!"


def framed(tokenizer):
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends)
    return tokenizer


def in_bytes():
    return framed(train_bpe([CONTEXT], 300, SPECIAL))


def in_words():
    """Small letters without accents, as BERT's: the characters of the text are other than those of its tokens."""
    words = "zoe lives in sao paulo , brazil . her sister ana moved to oslo 1999 and then new york ! where does live ?"
    numbers = {word: i for i, word in enumerate((*SPECIAL, *words.split()))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return framed(tokenizer)


def question(answer, asked="Where does she live?"):
    return Question(asked, CONTEXT, (answer,), (CONTEXT.index(answer),))


@pytest.mark.parametrize("answer", ["Zoë", "São Paulo", "São Paulo, Brazil", "1999", "New York", "New York!"])
@pytest.mark.parametrize("tokenizer, length, overlap", [
    (in_bytes, 120, 20), (in_bytes, 34, 20), (in_words, 120, 20), (in_words, 24, 12),
])  # fmt: skip
def test_the_span_of_an_answer_gives_its_characters_back(tokenizer, length, overlap, answer):
    asked = [question("Oslo"), question(answer)]
    rows = question_rows(tokenizer(), asked, length, overlap, asked=8)
    assert set(rows["question"]) == {0, 1} and (length == 120) == (len(rows["question"]) == 2)
    whole = (rows["question"] == 1) & (rows["begin"] > 0)
    assert whole.any()
    # As if the model knew: each window's own span, and "not in here" where there is none.
    ends = rows["begin"][:, None], rows["end"][:, None]
    answers = read_answers(asked, rows, *ends, np.zeros((len(whole), 1)))
    assert [each[:2] for each in answers] == [("Oslo", CONTEXT.index("Oslo")), (answer, CONTEXT.index(answer))]


def test_a_row_frames_the_question_and_its_text():
    rows = question_rows(in_words(), [question("Oslo")], 27, 4, asked=8)
    names = {i: word for word, i in in_words().get_vocab().items()}
    said = "[CLS] where does [UNK] live ? [SEP] zoe lives in sao paulo , brazil . her sister ana moved to oslo in 1999 "
    assert [names[i] for i in rows["token"][0]] == f"{said}, and then [SEP]".split()
    assert rows["token"].shape == (2, 27) and rows["length"].tolist()[0] == 27
    last = rows["length"][1]
    assert [names[i] for i in rows["token"][1, 7:last]] == "1999 , and then to new york ! [SEP]".split()
    assert (rows["token"][1, last:] == 0).all() and not rows["allowed"][1, last - 1 :].any()
    np.testing.assert_array_equal(rows["segment"][0], np.arange(27) > 6)
    np.testing.assert_array_equal(np.flatnonzero(~rows["allowed"][0]), [*range(1, 7), 26])
    assert rows["begin"].tolist() == rows["end"].tolist() == [20, 0] and rows["character"][0, 20].tolist() == [57, 61]


def test_an_answer_that_a_window_cuts_is_in_none_but_the_whole_one():
    asked = [question("New York")]
    rows = question_rows(in_words(), asked, 31, 1, asked=6)
    cut = [in_words().token_to_id(word) for word in ("new", "york")]
    for row in range(len(rows["token"])):
        span = rows["token"][row, rows["begin"][row] : rows["end"][row] + 1].tolist()
        assert span == (cut if all(np.isin(cut, rows["token"][row])) else [2])
    assert rows["begin"].max() > 0


def test_long_questions_are_cut_and_the_tokenizer_stays_as_it_was():
    tokenizer = in_words()
    tokenizer.enable_truncation(5)
    before = tokenizer.to_str()
    rows = question_rows(tokenizer, [question("Oslo", "where does zoe live in 1999 ?")], 32, 4, asked=4)
    assert (rows["segment"][:, :6] == 0).all() and rows["token"][0, 5] == 3 and (rows["segment"][:, 6] == 1).all()
    assert tokenizer.to_str() == before


@pytest.mark.parametrize("asked", range(12))
def test_a_cut_within_a_character_leaves_that_one_out(asked):
    """In bytes, as "who " is 4 and an emoji 4 more; in the shortest rows that there may be"""
    tokenizer = framed(train_bpe([], 260, SPECIAL))
    said = Question("who 😀😀?", CONTEXT, ("Oslo",), (CONTEXT.index("Oslo"),))
    rows = question_rows(tokenizer, [said], asked + 3 + 20 + 1, 20, asked)
    kept = "who 😀😀?"[: asked if asked < 4 else 3 + asked // 4]
    frame = [2, *tokenizer.encode(kept, add_special_tokens=False).ids, 3]
    assert len(frame) <= asked + 2 and (rows["token"][:, : len(frame)] == frame).all()
    assert tokenizer.decode(frame[1:-1]) == kept and rows["begin"].any()


def test_the_likeliest_window_answers_and_no_answer_needs_all_windows():
    asked = [Question("who ?", CONTEXT), Question("where ?", CONTEXT)]
    rows = question_rows(in_words(), asked, 20, 4, asked=4)
    counts = np.bincount(rows["question"])
    assert (counts > 1).all()
    begin = np.stack([np.zeros(len(rows["token"]), int), np.full(len(rows["token"]), 6)], 1)
    log_p = np.tile([-0.1, -5.0], (len(begin), 1))
    log_p[1, 1] = -4.0
    last = counts[0] + 1
    begin[last], log_p[last] = [7, 0], [-1.0, -2.0]  # one window of the second question has an answer

    def text(row, token):
        return CONTEXT[slice(*rows["character"][row, token])]

    said = read_answers(asked, rows, begin, begin, log_p)
    assert [each.text for each in said] == [text(1, 6), text(last, 7)] and said[0].log_probability == -4.0
    said = read_answers(asked, rows, begin, begin, log_p, impossible=True)
    assert said[0] == ("", -1, -0.1) and said[1].text == text(last, 7)


def test_what_cannot_be_made_into_rows_is_refused():
    with pytest.raises(ValueError, match="there are no questions"):
        question_rows(in_words(), [])
    with pytest.raises(ValueError, match="length=32 has no room for a question of 16 tokens, 3 that frame it"):
        question_rows(in_words(), [question("Oslo")], 32, 13, asked=16)
    with pytest.raises(ValueError, match="does not frame.*TemplateProcessing"):
        question_rows(train_bpe([CONTEXT], 300, SPECIAL), [question("Oslo")])
    with pytest.raises(ValueError, match="'Oslo' does not begin at 3, where '  li' stands"):
        Question("where ?", CONTEXT, ("Oslo",), (3,))
    with pytest.raises(ValueError, match="does not begin at -4"):
        Question("where ?", "in Oslo", ("Oslo",), (-4,))


def squad():
    asked = {"id": "7", "question": "Where?", "answers": [{"text": "Oslo", "answer_start": 57}]}
    asked["answers"].append({"text": "New York", "answer_start": 83})
    never = {"id": "8", "question": "Why?", "answers": [], "is_impossible": True}
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [asked, never]}]}]}


def test_files_of_squad_are_read(tmp_path):
    (tmp_path / "dev.json").write_text(json.dumps(squad()))
    first, second = read_squad(tmp_path / "dev.json")
    assert first == Question("Where?", CONTEXT, ("Oslo", "New York"), (57, 83), "7")
    assert second == Question("Why?", CONTEXT, name="8")


@pytest.mark.parametrize("path, value, error", [
    ("data", None, 'dev.json: wants "data", a list, found NoneType: give a file in the form of SQuAD'),
    ("data 0 paragraphs 0 context", 3, r'data\[0\].paragraphs\[0\]: wants "context", a str, found int'),
    ("data 0 paragraphs 0 qas 1 is_impossible", False, r"qas\[1\] has no answers: .*is_impossible"),
    ("data 0 paragraphs 0 qas 0 answers 1", {"text": "Rio"}, r'answers\[1\]: wants "answer_start", a int, found none'),
    ("data 0 paragraphs 0 qas 0 answers 0 answer_start", 58, r"qas\[0\]: 'Where\?': 'Oslo' does not begin at 58"),
])  # fmt: skip
def test_damaged_files_say_where(tmp_path, path, value, error):
    contents = node = squad()
    *steps, last = (int(step) if step.isdigit() else step for step in path.split())
    for step in steps:
        node = node[step]
    node[last] = value
    (tmp_path / "dev.json").write_text(json.dumps(contents))
    with pytest.raises(DataError, match=error):
        read_squad(tmp_path / "dev.json")
    (tmp_path / "dev.json").write_text(json.dumps(contents)[:-9])
    with pytest.raises(DataError, match="is no JSON .*copy it again"):
        read_squad(tmp_path / "dev.json")
