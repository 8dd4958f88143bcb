import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jann.plots import histogram


def panels(figure) -> dict:
    return {axes.get_title(loc="left").replace("\n", " "): axes for axes in figure.axes}


def test_bars_are_the_counts_of_each_array_under_its_path():
    random = np.random.default_rng(0)
    tree = {
        "layers": [{"weight": random.normal(size=(20, 30)), "bias": jnp.arange(5.0)}],
        "scale": np.ones(7),
    }
    found = panels(histogram(tree, bins=12))
    assert set(found) == {"layers / 0 / weight", "layers / 0 / bias", "scale"}
    values, edges, _ = found["layers / 0 / weight"].patches[0].get_data()
    counts, wanted = np.histogram(tree["layers"][0]["weight"], 12)
    np.testing.assert_array_equal(values, counts)
    np.testing.assert_allclose(edges, wanted)
    assert found["layers / 0 / weight"].get_yscale() == "log"
    assert found["scale"].patches[0].get_data().values.sum() == 7


def test_shape_spread_and_what_is_not_finite_are_written():
    found = panels(histogram({"a": np.array([1.0, 3.0, np.nan, np.inf]), "b": np.full(3, np.nan)}))
    assert found["a"].texts[0].get_text() == "[4]  std 1  2 not finite"
    assert found["a"].patches[0].get_data().values.sum() == 2
    assert found["b"].texts[0].get_text() == "[3]  3 not finite"


def test_equal_large_values_are_one_bar_with_one_tick():
    found = panels(histogram({"a": np.full(9, 123456.7), "b": np.full(5, 1e17)}))
    for name, wanted, count in (("a", "123456.7", 9), ("b", "1e+17", 5)):
        found[name].figure.draw_without_rendering()
        assert [label.get_text() for label in found[name].get_xticklabels()] == [wanted]
        assert found[name].patches[0].get_data().values.max() == count
        assert found[name].texts[0].get_text() == f"[{count}]  std 0"


def test_layers_come_in_their_order_and_bfloat16_is_read():
    tree = {f"layer_{i}": jnp.full(i + 1, 0.5, jnp.bfloat16) for i in range(12)}
    found = panels(histogram(tree))
    assert list(found) == [f"layer_{i}" for i in range(12)]
    assert [axes.patches[0].get_data().values.sum() for axes in found.values()] == list(range(1, 13))


def test_long_paths_overlap_nothing():
    tree = {
        "blocks": {
            f"encoder_decoder_attention_{i}": {"query_projection": {"kernel": np.ones(3)}} for i in range(6)
        }
    }
    figure = histogram(tree, columns=3, title="Gradients of a model with a long name " * 4)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [figure.texts[0].get_window_extent()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(
        0 <= box.x0 and 0 <= box.y0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes
    )


def test_keys_and_empty_arrays_are_skipped():
    tree = {"key": jax.random.key(0), "empty": np.zeros((0, 3)), "weight": np.arange(3.0)}
    assert set(panels(histogram(tree))) == {"weight"}


@pytest.mark.parametrize(
    "tree, message",
    [
        ({}, "no arrays"),
        ({"a": {"b": np.zeros((0, 3))}}, "no arrays of numbers"),
        ({"a": {"b": "text"}}, "a/b must be real numbers"),
    ],
)
def test_bad_input(tree, message):
    with pytest.raises(ValueError, match=message):
        histogram(tree)
