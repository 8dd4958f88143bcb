import numpy as np
import pytest
from matplotlib.colors import to_rgb

from jann.plots import feature_maps, filters, images
from jann.plots.style import NOT_FINITE


@pytest.fixture
def random():
    return np.random.default_rng(0)


def drawn(figure) -> np.ndarray:
    return np.stack([np.asarray(image.get_array()) for image in figure.axes[0].images])


@pytest.mark.parametrize("shape", [(5, 8, 6), (5, 8, 6, 1), (5, 8, 6, 3)])
def test_pixels_equal_the_images(random, shape):
    pictures = random.random(shape)
    np.testing.assert_array_equal(drawn(images(pictures)), pictures.squeeze())


def test_bytes_and_unscaled_values_share_one_scale(random):
    pictures = random.integers(10, 100, (3, 4, 4), dtype=np.uint8)
    assert [image.get_clim() for image in images(pictures).axes[0].images] == [(0, 255)] * 3
    assert images(pictures / 255).axes[0].images[0].get_clim() == (0, 1)
    scaled = random.normal(size=(3, 4, 4))
    assert [image.get_clim() for image in images(scaled).axes[0].images] == [(scaled.min(), scaled.max())] * 3


def test_images_lie_in_rows_with_their_captions_and_proportions(random):
    captions = [f"true {i}, said $3, 0.97" for i in range(5)]
    figure = images(random.random((5, 20, 10)), captions, columns=2, title="Mistakes")
    boxes = np.array([image.get_extent() for image in figure.axes[0].images])  # left, right, bottom, top
    lefts, tops = boxes[:, 0], boxes[:, 3]
    assert lefts[0] == lefts[2] == lefts[4] < lefts[1] == lefts[3]
    assert tops[0] == tops[1] > tops[2] == tops[3] > tops[4]
    np.testing.assert_allclose(boxes[:, 3] - boxes[:, 2], 2 * (boxes[:, 1] - boxes[:, 0]))
    assert figure.axes[0].get_xlim() == (0, figure.get_size_inches()[0])  # so that extents are inches
    title, *texts = figure.axes[0].texts
    assert title.get_text() == "Mistakes"
    for text, box, caption in zip(texts, boxes, captions, strict=True):
        assert text.get_text() == caption
        assert text.get_position()[0] == pytest.approx(box[:2].mean()) and text.get_position()[1] < box[2]


def test_long_captions_are_broken_and_overlap_nothing(random):
    captions = [
        "true automobile, said truck with a probability of 0.97",
        "averylongwordwithoutanyspaceinit",
        "",
        "7",
    ]
    figure = images(
        random.random((4, 8, 8)), captions, columns=2, title="A title wider than its two columns " * 2
    )
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    boxes += [image.get_window_extent() for image in figure.axes[0].images]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.x1 and 0 <= box.y0 for box in boxes)


def test_only_the_highlighted_get_a_frame(random):
    axes = images(random.random((3, 4, 4)), highlight=np.array([False, True, False])).axes[0]
    (frame,) = axes.patches
    left, right, bottom, top = axes.images[1].get_extent()
    np.testing.assert_allclose(frame.get_bbox().extents, [left, bottom, right, top])


def test_filters_are_the_mean_a_channel_or_colours(random):
    kernel = random.normal(size=(3, 3, 4, 6))
    figure = filters(kernel)
    np.testing.assert_allclose(drawn(figure), kernel.mean(2).transpose(2, 0, 1))
    low, high = figure.axes[0].images[0].get_clim()
    assert high == -low == np.abs(kernel.mean(2)).max()
    assert figure.axes[0].texts[0].get_text() == "6 filters 3×3×4, mean over 4 input channels"

    figure = filters(kernel, channel=2, max_filters=5)
    np.testing.assert_array_equal(drawn(figure), kernel[:, :, 2, :5].transpose(2, 0, 1))
    assert figure.axes[0].texts[0].get_text() == "6 filters 3×3×4, first 5, input channel 2"

    colors = drawn(filters(kernel[:, :, :3]))
    assert colors.shape == (6, 3, 3, 3) and colors.min() >= 0 and colors.max() <= 1
    scale = np.abs(kernel[:, :, :3]).max()
    np.testing.assert_allclose((colors - 0.5) * 2 * scale, kernel[:, :, :3].transpose(3, 0, 1, 2), atol=1e-12)


def test_feature_maps_share_a_scale_that_starts_at_zero(random):
    activation = np.maximum(random.normal(size=(5, 4, 40)), 0)
    figure = feature_maps(activation)
    np.testing.assert_array_equal(drawn(figure), activation[..., :32].transpose(2, 0, 1))
    limits = {image.get_clim() for image in figure.axes[0].images}
    assert limits == {(0, activation[..., :32].max())}
    assert figure.axes[0].texts[0].get_text() == "40 feature maps 5×4, first 32"
    signed = activation - 0.1
    low, high = feature_maps(signed).axes[0].images[0].get_clim()
    assert high == -low == signed[..., :32].max()


def test_values_that_are_not_finite_do_not_set_the_scale():
    activation = np.array([1.0, 3.0, np.nan, np.inf]).reshape(2, 2, 1)
    assert feature_maps(activation).axes[0].images[0].get_clim() == (0, 3)


def test_what_is_not_finite_has_a_colour_of_its_own(random):
    kernel, pictures = random.normal(size=(2, 2, 3, 1)), random.random((1, 2, 2))
    kernel[0, 0, 1, 0] = pictures[0, 0, 0] = np.nan
    kernel[1, 1, 2, 0] = np.inf
    colors = drawn(filters(kernel))[0]
    np.testing.assert_allclose(colors[[0, 1], [0, 1]], [to_rgb(NOT_FINITE)] * 2)
    for figure in (images(pictures), feature_maps(pictures[0, ..., None])):
        (image,) = figure.axes[0].images
        shown = image.to_rgba(image.get_array())
        np.testing.assert_allclose(shown[0, 0, :3], to_rgb(NOT_FINITE))
        assert abs(shown[0, 1, :3] - to_rgb(NOT_FINITE)).sum() > 0.1


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: images(np.zeros((4, 4))), r"images must be \[n, height, width\] or .*got shape \[4, 4\]"),
        (lambda: images(np.zeros((0, 4, 4))), "images is empty"),
        (lambda: images(np.zeros((2, 4, 4, 2))), "1 or 3 channels, last"),
        (lambda: images(np.full((2, 4, 4, 3), -1.5)), "run from -1.5 to -1.5: undo"),
        (lambda: images(np.zeros((2, 4, 4)), ["a"]), "captions and images must be equally many, got 1 and 2"),
        (lambda: images(np.zeros((2, 4, 4)), highlight=[True]), "highlight and images must be equally many"),
        (lambda: images(np.zeros((2, 4, 4)), columns=0), "columns must be at least 1"),
        (lambda: filters(np.zeros((3, 3, 4))), r"kernel must be \[height, width, in, out\]"),
        (lambda: filters(np.zeros((3, 3, 4, 2)), channel=4), "channel must be from 0 to 3, got 4"),
        (lambda: filters(np.zeros((3, 3, 4, 2)), max_filters=0), "max_filters"),
        (lambda: feature_maps(np.zeros((1, 4, 4, 2))), r"activation must be \[height, width, channels\]"),
    ],
)
def test_bad_input(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_captions_may_be_an_array(random):
    figure = images(random.random((3, 4, 4)), np.array([7, 0, 5]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["7", "0", "5"]


def test_a_power_of_ten_is_in_the_label_of_the_colour_bar(random):
    figure = filters(random.normal(size=(3, 3, 16, 8)) * 1e-6)
    figure.draw_without_rendering()
    bar = figure.axes[1]
    assert "weight (× 1e" in bar.get_ylabel() and not bar.yaxis.get_offset_text().get_visible()
