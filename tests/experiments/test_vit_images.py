"""The Vision Transformer at tiny size: it learns, its saved average is what is reported; what its attention says."""

import json

import numpy as np
import pytest

import jann
from experiments import vit_images


def test_rollout_multiplies_the_blocks():
    random = np.random.default_rng(0)
    scores = np.exp(random.normal(size=(2, 3, 4, 5, 5)))
    attention = scores / scores.sum(-1, keepdims=True)
    found = vit_images.rollout(attention)
    first, second = (0.5 * (part.mean(1) + np.eye(5)) for part in attention)
    for image in range(3):  # the weight of a place is the sum over all ways to it
        ways = [sum(second[image, 0, via] * first[image, via, place] for via in range(5)) for place in range(5)]
        np.testing.assert_allclose(found[image], ways, rtol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)


def test_where_nothing_else_is_attended_to_only_itself_counts():
    attention = np.broadcast_to(np.eye(5), (3, 1, 2, 5, 5))
    np.testing.assert_array_equal(vit_images.rollout(attention), [[1, 0, 0, 0, 0]])


def test_weights_stand_where_their_patches_stand():
    weights = np.array([[9.0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(
        vit_images.pictured(weights, 4)[0] * 4, [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    )


def test_training_images_move_and_only_some_data_sets_are_mirrored(key):
    dataset = jann.data.load("digits")
    batch = {"image": dataset.test["image"][:40], "label": dataset.test["label"][:40]}
    plain = np.asarray(dataset.standardise(batch)["image"])
    still = vit_images.moved(dataset, 0, False, batch, key)
    np.testing.assert_array_equal(still["image"], plain)
    np.testing.assert_array_equal(still["label"], batch["label"])
    mirrored = np.asarray(vit_images.moved(dataset, 0, True, batch, key)["image"])
    turned = (mirrored != plain).any((1, 2, 3))
    assert 5 < turned.sum() < 35
    np.testing.assert_array_equal(mirrored[turned], plain[turned][:, :, ::-1])


def test_every_setting_is_a_model_of_its_images():
    for name, setting in vit_images.SETTINGS.items():
        assert jann.count(setting.model) > 10_000, name  # which raises where patches or heads do not fit


@pytest.mark.parametrize("data, patch, size", [("digits", 3, 8), ("fashion_mnist", 5, 28)])
def test_a_patch_that_does_not_divide_the_image_is_refused_before_anything_is_made(data, patch, size, tmp_path):
    with pytest.raises(SystemExit, match=f"--patch {patch} must divide the image's {size}"):
        vit_images.main(data=data, patch=patch, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_narrow_model_starts_with_larger_positions(drawn):
    model = vit_images.SETTINGS["digits"].model
    before = drawn(model)
    after = jann.flatten(vit_images.for_small(before))
    for path, leaf in jann.flatten(before).items():
        larger = 25 if path == "positions" else 1
        np.testing.assert_allclose(after[path], larger * leaf, rtol=1e-6, err_msg=path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("vit_images") / "run"
    vit_images.main(embed=32, layers=2, heads=2, hidden=64, epochs=8, learning_rate=1e-2, average=0.95, out=out)
    return out


def test_it_learns_and_what_is_saved_gives_what_is_reported(finished):
    (row,) = json.loads((finished / "results.json").read_text())["rows"]
    model, params = jann.load(finished / "seed-0")
    assert (model.embed, model.layers, model.patch) == (32, 2, 2)
    dataset = jann.data.load("digits")
    logits = model(params, dataset.standardise(dataset.test)["image"])
    accuracy = np.mean(logits.argmax(-1) == dataset.test["label"])
    assert np.isclose(accuracy, row["test_accuracy"]["mean"])
    assert accuracy > 0.2, "twice chance after eight epochs"
    for name in ("accuracy", "loss", "confusion", "mistakes", "filters", "attention"):
        assert (finished / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    assert not (finished / "feature_maps.png").exists(), "a ViT has none"
