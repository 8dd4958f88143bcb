"""A small BERT learns who has what, from questions to answers; reports, resumes; and questions are made of texts."""

import json
import re

import numpy as np
import pytest

import jann
from experiments import cloze, question_answering
from jann.data import Question, load_tokenizer, question_rows

NAMES = "Anna Bo Carl Dora Emil Frida Gus Hugo".split()
THINGS = "Ball Book Cup Drum Fan Hat Kite Lamp".split()
RECIPE = question_answering.Recipe(160, 4e-3, 32, length=20, overlap=4, asked=4, average=0.9)


def capitals(text):
    return [(found.group(), found.start()) for found in re.finditer(r"[A-Z]\w+", text)]


def made_up(count, seed):
    """Three have, see and want something, in any order; the question is who has it, or what that is."""
    random, questions = np.random.default_rng(seed), []
    for _ in range(count):
        names, things = random.permutation(NAMES)[:3], random.permutation(THINGS)[:3]
        said = zip(names, random.permutation(["has", "sees", "wants"]), things, strict=True)
        context = " ".join(f"{name} {does} the {thing} ." for name, does, thing in said)
        before, after = context.split(" has the ")
        who = random.random() < 0.5
        answer = before.split()[-1] if who else after.split()[0]
        asked = "who has it ?" if who else "what is it ?"
        questions.append(Question(asked, context, (answer,), (context.index(answer),)))
    return questions


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("question_answering") / "run"
    task = question_answering.Task("made_up", made_up(1500, 0), made_up(100, 1), made_up(100, 2), capitals)
    begun = question_answering.small(task, 320, RECIPE.length, embed=64, layers=1, dropout=0.0)
    question_answering.run(out, task, {"scratch": (begun, RECIPE)}, seeds=1, seed=3, examples=3)
    return out, task, begun


def test_it_learns_and_what_is_saved_answers_as_is_reported(finished):
    out, task, _ = finished
    *guesses, learnt = json.loads((out / "results.json").read_text())["rows"]
    assert learnt["test_exact_match"]["mean"] > 90 and learnt["test_f1"]["mean"] > 90
    assert all(0 < guess["test_exact_match"]["mean"] < 30 for guess in guesses)  # one of six names
    model, params = jann.load(out / "scratch/seed-3")
    rows = question_rows(load_tokenizer(out / "scratch/seed-3"), task.test, 20, 4, 4)
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


def test_questions_on_code_take_lines_of_functions():
    code = "def area(wide, high):\n    size = wide * high\n    note = 'wide size'\n    self.log(note)\n    return size"
    found = {question.question: question for question in cloze.from_code([code, "def broken(:"])}
    assert found["return [MASK]"].answers == ("size",) and found["return [MASK]"].begins == (code.index("size"),)
    assert "[MASK] = 'wide size'" in found and "self.log([MASK])" in found and len(found) == 5
    assert not cloze.from_code([code], longest=50) and not cloze.from_code([code], shortest=6)


def test_guesses_are_scored_in_the_mean_over_names():
    texts = ("Bo met Ann and Bo met Eve", "Eve met Bo")
    questions = [Question("who ?", text, ("Bo",), (text.index("Bo"),)) for text in texts]
    random, frequent = cloze.guessed(questions, capitals).values()
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
    with pytest.raises(SystemExit, match="--data squad: there are python_sources and wikitext2, and files"):
        question_answering.task_of("squad", most=4)
