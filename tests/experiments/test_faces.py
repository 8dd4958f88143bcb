"""Faces at tiny size: who is learnt from and who is tested, each score by brute force, and a run that goes on."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import jann
from experiments import eigenfaces, face_identification, face_verification, faces
from experiments.face_training import Settings, network, prepared, refuse_diverged
from experiments.face_verification import EACH, Embedder, few, measured, one_shot, pairs_of, parts
from jann.data.faces import synthetic_faces

PEOPLE, PHOTOGRAPHS, SIZE = 9, 6, 16
SETTINGS = Settings(40, 8, 0.01, 1)


@pytest.fixture(scope="module")
def drawn_faces():
    return synthetic_faces(PEOPLE, PHOTOGRAPHS, SIZE)


def test_photographs_are_averaged_and_standardised():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 1)).astype(np.uint8)
    small = prepared(images, 4)
    assert small.shape == (2, 3, 4, 4, 1) and small.dtype == np.float32
    image = images[1, 2]
    means = np.array([[image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(4)] for i in range(4)])
    np.testing.assert_allclose(small[1, 2, ..., 0], (means - means.mean()) / means.std(), rtol=1e-4, atol=1e-5)
    assert np.isfinite(prepared(np.zeros_like(images), 8)).all(), "of one colour"
    with pytest.raises(ValueError, match="size 3: images of 8 × 8"):
        prepared(images, 3)


def test_eigenfaces_are_singular_vectors(drawn_faces):
    images = prepared(drawn_faces.images, SIZE)
    learn, then = images[:4], images[4:]
    rows = learn.reshape(-1, SIZE * SIZE)
    _, values, vectors = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    wanted = (then.reshape(-1, SIZE * SIZE) - rows.mean(0)) @ vectors[:5].T
    np.testing.assert_allclose(np.abs(eigenfaces.eigenfaces(learn, 5)(then)), np.abs(wanted), rtol=1e-2, atol=1e-3)
    whitened = np.abs(eigenfaces.eigenfaces(learn, 5, whiten=True)(then))
    np.testing.assert_allclose(whitened, np.abs(wanted) / values[:5] * np.sqrt(len(rows) - 1), rtol=1e-2, atol=1e-3)
    with pytest.raises(ValueError, match="components=24: 24 images have 1 to 23"):
        eigenfaces.eigenfaces(learn, 24)


def test_similarities_and_what_is_chosen():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(5, 3)), random.normal(size=(4, 3))
    distances = np.linalg.norm(first[:, None] - second[None], axis=-1)
    np.testing.assert_allclose(eigenfaces.by_distance(first, second), -distances)
    cosine = first[2] @ second[1] / np.linalg.norm(first[2]) / np.linalg.norm(second[1])
    np.testing.assert_allclose(eigenfaces.by_angle(first, second)[2, 1], cosine)
    means = {("a", 1): [0.2, 0.9], ("a", 2): [0.5, 0.7], ("b", None): [0.1, 0.1]}
    assert eigenfaces.chosen(means) == {"a": 2, "b": None}


def test_the_nearest_photograph_names_the_person():
    learn = np.array([[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]])[..., None, None, None]
    then = np.array([[0.4, 9.0, 2.0], [10.2, 12.0, 9.9], [30.0, 1.0, 14.0]])[..., None, None, None]
    found = face_identification.named_right(eigenfaces.flat, eigenfaces.by_distance, learn, then)
    np.testing.assert_allclose(found, 6 / 9)  # 9.0 and 1.0 and 14.0 are nearer to others


def test_scores_of_pairs_by_brute_force():
    embeddings = np.random.default_rng(0).normal(size=(4, 3, 5)) + np.arange(4)[:, None, None] * [1, 0, 0, 0, -0.5]
    embeddings = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    rows, person = embeddings.reshape(12, 5), np.arange(12) // 3
    cosines = rows @ rows.T
    pairs = [(i, j) for i in range(12) for j in range(i + 1, 12)]
    first, second, same = pairs_of(4, 3)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == pairs
    assert same.tolist() == [bool(person[i] == person[j]) for i, j in pairs] and same.sum() == 4 * 3
    area = roc_auc_score(same, cosines[first, second])
    np.testing.assert_allclose(face_verification.roc_area(jnp.asarray(embeddings, jnp.float32)), area, rtol=1e-5)
    right = [
        person[max(range(known, 12, 3), key=lambda other: cosines[probe, other])] == person[probe]
        for known in range(3)
        for probe in range(12)
        if probe % 3 != known
    ]
    np.testing.assert_allclose(one_shot(cosines, 4, 3), np.mean(right))
    scores = measured(cosines, 4, 3, 0.1)
    assert tuple(scores) == face_verification.SCORES
    np.testing.assert_allclose((scores["roc_area"], scores["one_shot_accuracy"]), (area, np.mean(right)))


def test_a_batch_holds_some_people_and_different_photographs_of_each(key):
    numbers = np.arange(PEOPLE * PHOTOGRAPHS, dtype=np.float32).reshape(PEOPLE, PHOTOGRAPHS, 1, 1, 1)
    batch = jax.jit(partial(few, jnp.asarray(numbers), 3, 0, key))
    seen = batch(0)
    photographs = np.asarray(seen["image"]).ravel()
    np.testing.assert_array_equal(photographs // PHOTOGRAPHS, seen["label"])
    assert len(set(photographs.tolist())) == 3 * EACH and len(set(seen["label"].tolist())) == 3
    assert (batch(1)["image"] != seen["image"]).any()


def test_embeddings_have_length_one_and_cosines_are_those_of_angles(key, tmp_path):
    model = Embedder(network(SIZE, 12, 0.0), 5)
    params = model.init(key)
    images = jax.random.normal(key, (2, 3, SIZE, SIZE, 1))
    embeddings = np.asarray(model(params, images))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, rtol=1e-5)
    weight = np.asarray(params["people"]["weight"])
    wanted = embeddings @ weight / np.linalg.norm(weight, axis=0)
    np.testing.assert_allclose(model.cosines(params, embeddings), wanted, rtol=1e-4, atol=1e-5)
    assert "people" not in Embedder(model.body).init(key)
    jann.save(tmp_path, model, params)
    again, loaded = jann.load(tmp_path)
    assert again == model
    np.testing.assert_array_equal(again(loaded, images), embeddings)


def test_a_draw_that_diverged_is_refused():
    params = {"a": np.ones((3, 2)), "b": [np.zeros(3)]}
    refuse_diverged(params, "it", "--learning-rate")
    params["a"][1, 0] = np.nan
    with pytest.raises(SystemExit, match="it diverged in 1 of 3 draws: try lower --learning-rate"):
        refuse_diverged(params, "it", "--learning-rate")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, drawn_faces):
    out = tmp_path_factory.mktemp("faces") / "run"

    def run(out, **changed):
        options = {
            "size": SIZE, "known": 3, "people": (4, 2), "embed": 8, "learning_rates": (0.003, 0.01),
            "learning_rate": 0.01, "margins": {"angular margin": (0.0, 0.3), "triplet": (0.3,)}, "scale": 10.0,
            "dropout": 0.0, "false_accepts": 0.1, "settings": SETTINGS, "seeds": 3, "seed": 3,
        }  # fmt: skip
        faces.run(out, drawn_faces, **{**options, **changed})

    run(out)
    return out, run


def test_results_are_those_of_the_people_tested(finished, drawn_faces):
    out, _ = finished
    rows = json.loads((out / "results.json").read_text())["rows"]
    methods = {(row["task"], row["method"]): row for row in rows}
    ways = ("raw pixels", "eigenfaces", "eigenfaces, whitened")
    assert list(methods) == [
        *(("identification", f"{way}, nearest") for way in ways),
        ("identification", "convolutional network"),
        *(("verification", way) for way in (*ways, "cosine softmax", "angular margin", "triplet")),
    ]
    errors = methods["identification", "convolutional network"]["test_error_percent"]
    assert len(errors["seeds"]) == 3 and errors["mean"] < 70, "by chance it would be 89"
    # The model that is kept gives the first draw's scores again, on people that it never saw.
    model, params = jann.load(out / "angular_margin")
    images = prepared(drawn_faces.images, SIZE)
    key = jax.random.fold_in(jann.fold(jax.random.key(3), "verification"), 0)
    order = jax.random.permutation(jann.fold(key, "people"), PEOPLE)
    _, _, tested = parts(images[np.asarray(order)], 4, 2)
    similarity = face_verification.cosines_of(np.asarray(model(params, tested)))
    for name, value in measured(similarity, 3, PHOTOGRAPHS, 0.1).items():
        reported = methods["verification", "angular margin"][name]["seeds"][0]
        np.testing.assert_allclose(reported, value, atol=0.02)  # where two pairs are as good as equal


def test_metrics_and_pictures(finished):
    out, _ = finished
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == (2 + 2 + 1) * 3 * 20 and lines[-1]["step"] == 40 and lines[-1]["loss"] == "triplet"
    named = [line["train_loss"] for line in lines if line["task"] == "identification" and line["learning_rate"] == 0.01]
    assert np.mean(named[19::20]) < 0.7 * np.mean(named[::20])
    assert all(0 <= line["validation_area"] <= 1 for line in lines if line["task"] == "verification")
    for name in ("eigenfaces", "identification_loss", "validation_area", "roc", "map", "alike", "unlike"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_interrupted_and_gone_on_equals_unbroken(finished, tmp_path, monkeypatch, capsys):
    whole, run = finished
    saved = jann.training.sweep_folder.Store.save

    def save_and_interrupt(*arguments):
        saved(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(jann.training.sweep_folder.Store, "save", save_and_interrupt)
        with pytest.raises(SystemExit) as ended:
            run(tmp_path / "run")
    assert ended.value.code == 130 and "interrupted" in capsys.readouterr().out
    assert not (tmp_path / "run" / "results.json").exists()
    run(tmp_path / "run")
    for name in ("results.json", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_same_command_repeats_nothing_and_another_is_refused(finished, monkeypatch):
    out, run = finished
    before = (out / "results.json").read_bytes()
    monkeypatch.setattr(jann, "train", None)  # would fail if anything was trained
    run(out)
    assert (out / "results.json").read_bytes() == before
    with pytest.raises(jann.RunFolderError, match="embed was 8, is 9"):
        run(out, embed=9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"known": 1}, "--known 1: give from 2"),
        ({"known": 10}, "--known 10: give from 2.* to 9 of 10"),
        ({"train_people": 30, "validation_people": 9}, "leave two or more of the 40 to test"),
        ({"validation_people": 1}, "at least two each"),
        ({"size": 5}, "--size 5: give 8 or more that divides .* 32 × 32"),
        ({"size": 12}, "--size 12"),
        ({"steps": 50}, "--steps 50: give a multiple of 20"),
        ({"batch_size": 42}, "--batch-size 42: 4 photographs of each of 2 to 20 people"),
        ({"batch_size": 84}, "a multiple of 4 from 8 to 80"),
        ({"angular_margins": (0.5, 2.0)}, "--angular-margins 2: an angle in radians"),
        ({"triplet_margins": ()}, "--triplet-margins"),
        ({"triplet_margins": (-0.1,)}, "--triplet-margins -0.1"),
        ({"learning_rate": 0.0}, "--learning-rate 0"),
        ({"learning_rates": (0.1, float("nan"))}, "--learning-rates nan"),
        ({"false_accepts": 1.0}, "--false-accepts 1"),
    ],
)
def test_options_are_checked_before_a_folder_is_made(changed, message, tmp_path, monkeypatch):
    monkeypatch.setattr(jann, "cpu_devices", lambda: None)  # which comes before JAX is first used
    with pytest.raises(SystemExit, match=message):
        faces.main(**changed, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_olivetti_by_the_usual_protocol(real_data, tmp_path):
    """The command of the README with fewer draws: better than eigenfaces of 1997, and than eigenfaces at all."""
    command = [sys.executable, "-m", "experiments.faces", "--data", "olivetti", "--seeds", "3", "--out", str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    rows = {
        (row["task"], row["method"]): row for row in json.loads((tmp_path / "results.json").read_text())["rows"]
    }
    assert rows["identification", "convolutional network"]["test_error_percent"]["mean"] < 10.5
    scores = {method: row["equal_error_rate"]["mean"] for (task, method), row in rows.items() if task == "verification"}
    assert max(scores["cosine softmax"], scores["angular margin"]) < scores["eigenfaces"]
