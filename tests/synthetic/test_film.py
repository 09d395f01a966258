from __future__ import annotations

import numpy as np
import pytest

from custom.synthetic.film import Frame, curve, smooth_field, stroke, strokes


def turned(size, degrees=20.0, origin=(0.1, -0.2)):
    a = np.deg2rad(degrees)
    return Frame.of((size, size), 0.8 * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]), origin)


def test_the_films_own_frame_has_its_edges_at_one():
    frame = Frame.of((4, 8))
    np.testing.assert_allclose(frame.u[:, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(frame.v[0, [0, -1]], [-0.875, 0.875])
    assert frame.pixel == 0.5  # of the shorter side


def test_a_moved_frame_puts_its_points_where_axes_and_origin_say():
    frame = turned(50)
    back = np.stack([frame.u, frame.v], -1) @ frame.axes.T + frame.origin
    np.testing.assert_allclose(back[7, 31], [(7.5) / 25.0 - 1.0, (31.5) / 25.0 - 1.0], atol=1e-6)
    assert frame.pixel == pytest.approx(0.04 / 0.8)


def test_step_is_half_on_the_border_and_flat_beyond_a_pixel():
    frame = Frame.of((20, 20))  # a pixel is 0.1
    np.testing.assert_allclose(frame.step(np.array([-0.06, 0.0, 0.06])), [0.0, 0.5, 1.0])
    np.testing.assert_allclose(frame.step(np.array([-0.26, 0.26]), softness=0.4), [0.0, 1.0], atol=0.01)


@pytest.mark.parametrize("frame", [Frame.of((64, 64)), turned(64)], ids=["own", "turned"])
def test_a_stroke_is_bright_on_its_line_and_leaves_the_rest_alone(frame):
    canvas = np.zeros((64, 64), np.float32)
    stroke(canvas, frame, np.array([(-0.4, 0.1), (0.4, 0.1)]), 0.08)
    beside, along = np.abs(frame.v - 0.1), np.abs(frame.u)
    assert canvas[(beside < 0.02) & (along < 0.4)].min() > 0.85
    assert canvas.max() <= 1.0
    assert not canvas[(beside > 0.14) | (along > 0.54)].any()


def test_a_thin_stroke_keeps_its_sum_at_every_size():
    def area(size):
        canvas = np.zeros((size, size), np.float32)
        stroke(canvas, Frame.of((size, size)), np.array([(-0.5, 0.03), (0.5, 0.03)]), 0.01)
        return float(canvas.sum()) / size**2

    assert area(48) == pytest.approx(area(384), rel=0.12)


def test_many_strokes_at_once_equal_strokes_one_by_one():
    rng, frame = np.random.default_rng(0), turned(40)
    starts, ends, widths = *rng.uniform(-1.2, 1.2, (2, 9, 2)), rng.uniform(0.01, 0.1, 9)
    together, single = np.zeros((2, 40, 40), np.float32)
    strokes(together, frame, starts, ends, widths)
    for a, b, w in zip(starts, ends, widths):
        stroke(single, frame, np.stack([a, b]), w)
    np.testing.assert_allclose(together, single, atol=1e-6)


def test_a_stroke_off_the_film_changes_nothing():
    canvas = np.zeros((16, 16), np.float32)
    stroke(canvas, Frame.of((16, 16)), np.array([(2.0, 2.0), (3.0, 2.5)]), 0.1)
    assert not canvas.any()


def test_curve_joins_its_ends_and_passes_the_middle_of_de_casteljau():
    line = curve([(0.0, 0.0), (1.0, 2.0), (2.0, 0.0)], 5)
    np.testing.assert_allclose(line[[0, 2, 4]], [(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)])


def test_smooth_field_is_one_field_at_all_sizes_with_unit_variance():
    small, large = (smooth_field(np.random.default_rng(3), (n, n), 6) for n in (40, 120))
    np.testing.assert_allclose(small, large[1::3, 1::3], atol=1e-6)
    values = np.stack([smooth_field(np.random.default_rng(s), (12, 12), 6) for s in range(200)])
    assert values.std() == pytest.approx(1.0, abs=0.05)
    assert values.mean() == pytest.approx(0.0, abs=0.06)
