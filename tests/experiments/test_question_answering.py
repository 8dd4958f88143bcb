"""A small BERT learns who has what, from questions to answers; reports, resumes; and questions are made of texts."""

import json

import numpy as np
import pytest

import jann
from experiments import cloze, question_answering
from jann.data import Question, load_tokenizer, question_rows

RECIPE = question_answering.Recipe(160, 4e-3, 32, length=24, overlap=4, asked=4, average=0.9)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("question_answering") / "run"
    parts = (cloze.made_up(count, seed) for seed, count in enumerate((1500, 100, 100)))
    task = question_answering.Task("made_up", *parts)
    begun = question_answering.small(task, 320, RECIPE.length, embed=64, layers=1, dropout=0.0)
    question_answering.run(out, task, {"scratch": (begun, RECIPE)}, seeds=1, seed=3, examples=3)
    return out, task, begun


def test_it_learns_and_what_is_saved_answers_as_is_reported(finished):
    out, task, _ = finished
    *guesses, learnt = json.loads((out / "results.json").read_text())["rows"]
    assert learnt["test_exact_match"]["mean"] > 90 and learnt["test_f1"]["mean"] > 90
    assert all(0 < guess["test_exact_match"]["mean"] < 30 for guess in guesses)  # one of six names
    model, params = jann.load(out / "scratch/seed-3")
    rows = question_rows(load_tokenizer(out / "scratch/seed-3"), task.test, 24, 4, 4)
    said = question_answering.answered(model, params, task.test, rows, RECIPE.longest, impossible=False)
    right = np.mean([answer.text == question.answers[0] for answer, question in zip(said, task.test, strict=True)])
    assert np.isclose(100 * right, learnt["test_exact_match"]["mean"])
    assert "scratch says" in (out / "answers.txt").read_text() and (out / "loss_scratch.png").exists()


def test_the_same_command_goes_on_where_it_was(finished):
    out, task, begun = finished
    before, metrics = ((out / name).read_text() for name in ("results.json", "scratch/seed-3/metrics.jsonl"))
    (out / "results.json").unlink()
    question_answering.run(out, task, {"scratch": (begun, RECIPE)}, seeds=1, seed=3, examples=3)
    assert (out / "results.json").read_text() == before
    assert (out / "scratch/seed-3/metrics.jsonl").read_text() == metrics
    with pytest.raises(jann.RunFolderError, match="another configuration"):
        question_answering.run(out, task, {"scratch": (begun, RECIPE)}, seeds=2, seed=3)


def test_questions_on_articles_take_a_name_out_that_stands_in_the_rest():
    text = " The old mill of <unk> was sold to Mary Ann Lee in May . People say Mary Ann Lee never saw the Red River ."
    text += " Behind it flows the Red River , past John <unk> 's house , to the sea in May ."
    (first, second, third) = cloze.from_articles([text])
    assert (second.question, second.answers) == ("People say [MASK] never saw the Red River .", ("Mary Ann Lee",))
    assert first.answers == ("Mary Ann Lee",) and third.answers == ("Red River",)
    assert third.context.endswith("saw the Red River .") and third.context[third.begins[0] :].startswith("Red River")
    assert "[UNK] was sold" in second.context and "John [UNK]" in second.context


def test_guesses_are_scored_in_the_mean_over_names():
    texts = ("now Bo met Ann and Bo met Eve", "now Eve met Bo")
    questions = [Question("who ?", text, ("Bo",), (text.index("Bo"),)) for text in texts]
    random, frequent = cloze.guessed(questions).values()
    assert np.isclose(random["exact_match"], 100 * (1 / 3 + 1 / 2) / 2) and frequent["f1"] == 50


def test_a_file_is_split_by_its_texts(tmp_path):
    asked = {"question": "who ?", "answers": [{"text": "Bo", "answer_start": 0}]}
    paragraphs = [{"context": f"Bo lives in house {i} .", "qas": [asked, asked]} for i in range(40)]
    (tmp_path / "homes.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    task = question_answering.task_of(str(tmp_path / "homes.json"), most=4)
    texts = [{question.context for question in part} for part in (task.train, task.validation, task.test)]
    assert task.name == "homes.json" and not task.impossible and not texts[0] & (texts[1] | texts[2])
    assert len(task.train) > 40 and all(0 < len(part) <= 4 for part in (task.validation, task.test))
    (tmp_path / "one.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs[:1]}]}))
    with pytest.raises(SystemExit, match="too few texts"):
        question_answering.task_of(str(tmp_path / "one.json"), most=4)
    with pytest.raises(SystemExit, match="--data squad: there are made_up and wikitext2, and files"):
        question_answering.task_of("squad", most=4)
