"""Distances from healthy vectors."""

from __future__ import annotations

import numpy as np
import pytest

from custom.input_check.healthy_model import HealthyModel, fit, held_out


def test_distance_is_the_root_mean_square_of_standardised_parts() -> None:
    model = HealthyModel(np.array([1.0, 0, 0]), np.array([[0, 1.0, 0]]), np.array([4.0, 0.25]))
    # along the axis (6^2 / 4) = 9, off it (1^2 + 0^2) / 0.25 = 4; 13 over three dimensions
    assert float(model.distance(np.array([2.0, 6.0, 0]))) == pytest.approx(np.sqrt(13 / 3))


def test_fit_finds_the_axis_of_the_healthy_and_the_variance_of_the_rest() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(400, 6)) * [10, 1, 1, 1, 1, 1] + 3
    model = fit(values)
    assert len(model.axes) == 1 and abs(model.axes[0, 0]) > 0.99
    assert model.variances.tolist() == pytest.approx([100, 1], rel=0.2)
    assert np.mean(model.distance(values) ** 2) == pytest.approx(1, rel=0.05)


def test_more_dimensions_than_studies_leave_finite_distances_that_grow_outside() -> None:
    values = np.random.default_rng(1).normal(size=(19, 256))
    model = fit(values)
    assert len(model.axes) == 9  # half as many as studies
    distances = model.distance(np.stack([values[0], values[0] + 10]))
    assert np.isfinite(distances).all() and distances[1] > 3 * distances[0]


def test_values_that_never_differ_have_a_distance() -> None:
    assert np.isfinite(fit(np.ones((20, 5))).distance(np.array([1.0, 1, 1, 1, 2])))


@pytest.mark.parametrize("n", [3, 50, 120])
def test_each_value_is_measured_once_by_others_alone(n: int) -> None:
    values = np.arange(float(n))
    seen = held_out(values, lambda others, left: [value if value not in others else -1.0 for value in left])
    assert seen.tolist() == values.tolist()
