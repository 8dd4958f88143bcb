import numpy as np
import pytest

from jann.plots import motion


def test_each_frame_has_its_panel_of_the_same_place():
    joints = np.stack([np.array([[0, 0], [np.sin(a), np.cos(a)], [2 * np.sin(a), 0]]) for a in (0.1, 1, 2)])
    figure = motion(joints, ["now", "$then$", "later"], columns=2, title="a body")
    figure.draw_without_rendering()
    shown, blank = figure.axes[:3], figure.axes[3]
    for axes, points in zip(shown, joints, strict=True):
        _, links, held, others = axes.lines
        np.testing.assert_allclose(links.get_xydata(), points)
        np.testing.assert_allclose(held.get_xydata(), points[:1])
        np.testing.assert_allclose(others.get_xydata(), points[1:])
        assert axes.get_xlim() == shown[0].get_xlim() and axes.get_ylim() == shown[0].get_ylim()
        assert (points.min(0) > [axes.get_xlim()[0], axes.get_ylim()[0]]).all()
        assert (points.max(0) < [axes.get_xlim()[1], axes.get_ylim()[1]]).all()
    assert [axes.get_title() for axes in shown] == ["now", "$then$", "later"] and not blank.lines


def test_what_it_refuses():
    with pytest.raises(ValueError, match="captions are 1, one for each of the 2 frames is wanted"):
        motion(np.zeros((2, 3, 2)), ["one"])
    with pytest.raises(ValueError, match=r"joints must be \[frames, points, 2\], got shape \[2, 3\]"):
        motion(np.zeros((2, 3)), ["one", "two"])
