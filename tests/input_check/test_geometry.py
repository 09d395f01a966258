"""Spacing, field of view and tilt against those of healthy studies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.input_check.geometry import measure, ranges, spacing_reasons, tilt

HEALTHY = ranges([np.array([0.5, 0.9, 200.0]), np.array([1.0, 1.2, 240.0])])


def study(affine: np.ndarray, original: np.ndarray, shape: tuple = (1, 10, 20, 5), known: bool = True) -> MetaTensor:
    meta = {"original_affine": original, "spacing_known": known}
    return MetaTensor(torch.zeros(shape), affine=torch.from_numpy(affine), meta=meta)


def turned_about_x(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.block([[np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]), np.zeros((3, 1))], [0, 0, 0, 1]])


def test_pixel_and_step_are_those_of_the_file_and_the_field_is_that_of_the_image() -> None:
    # the file's slices lie along its first axis, 4 mm apart; the prepared image has pixels of 12 x 10 mm
    original = np.array([[0, 2.0, 0, 0], [0, 0, 2.0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1]])
    assert measure(study(np.diag([12.0, 10.0, 4.0, 1.0]), original)).tolist() == [2.0, 4.0, 200.0]


def test_picture_has_no_step_and_a_file_without_spacing_nothing() -> None:
    affine = np.diag([3.0, 3.0, 1.0, 1.0])
    assert np.isnan(measure(study(affine, affine, (1, 10, 20, 1)))).tolist() == [False, True, False]
    assert (
        np.isnan(measure(study(affine, affine, known=False))).all() and np.isnan(measure(torch.zeros(1, 4, 4, 1))).all()
    )


def test_ranges_pass_over_what_is_not_known() -> None:
    assert ranges([np.array([1.0, np.nan, 5.0]), np.array([2.0, np.nan, 4.0])]).tolist() == [[1, 2], [0, 0], [4, 5]]
    assert ranges([np.full(3, np.nan)]).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize(
    ("measures", "reasons"),
    [
        ((0.01, 0.01, 100.0), []),  # half the least field of view, and finer by far
        ((3.0, 3.59, 480.0), []),  # about three times the coarsest, twice the largest
        ((0.7, 5.0, 220.0), ["the slices are 5.0 mm apart; the healthy calibration studies have 0.9 to 1.2 mm"]),
        ((3.1, 1.0, 220.0), ["the pixels are 3.1 mm wide; the healthy calibration studies have 0.5 to 1.0 mm"]),
        ((0.7, 1.0, 99.0), ["the image is 99 mm wide; the healthy calibration studies have 200 to 240 mm"]),
        ((0.7, 1.0, 481.0), ["the image is 481 mm wide; the healthy calibration studies have 200 to 240 mm"]),
        ((np.nan, np.nan, np.nan), []),
    ],
)
def test_measure_far_outside_of_the_healthy_range_is_told_in_millimetres(measures: tuple, reasons: list[str]) -> None:
    assert spacing_reasons(np.array(measures), HEALTHY) == reasons


def test_measure_that_no_healthy_study_tells_is_not_checked() -> None:
    assert spacing_reasons(np.array([9.0, 9.0, 9.0]), np.zeros((3, 2))) == []


@pytest.mark.parametrize("degrees", [0.0, 20.0, 40.0])
def test_tilt_of_a_volume_is_that_against_the_nearest_axis(degrees: float) -> None:
    assert tilt(study(turned_about_x(degrees), np.eye(4))) == pytest.approx(degrees, abs=1e-4)
    assert tilt(study(turned_about_x(90 - degrees), np.eye(4))) == pytest.approx(degrees, abs=1e-4)


def test_single_sagittal_slice_stands_upright_to_the_axial_plane() -> None:
    sagittal = np.array([[0, 0, 1.0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    assert tilt(study(np.eye(4), sagittal, (1, 8, 8, 1))) == pytest.approx(90)
    assert tilt(study(np.eye(4), sagittal, (1, 8, 8, 1), known=False)) is None
