"""Order, affine and faults of a stack of slices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from custom.errors import NomalyError
from custom.studies.dicom_geometry import Plane, stack_affine, stack_order

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])
SAGITTAL = np.array([0, 1.0, 0, 0, 0, -1])


def plane(z: float, cosines=AXIAL, spacing=(1.0, 1.0), size=(8, 8), y: float = 0.0) -> Plane:
    return Plane(np.array([0.0, y, z]), cosines, np.array(spacing), size)


def order(*planes: Plane) -> list[int]:
    return stack_order(planes, Path("series"))


def test_slices_are_sorted_along_their_normal() -> None:
    assert order(plane(4), plane(0), plane(2)) == [1, 2, 0]
    # The normal of these is -x: slices of falling x come later.
    positions = [np.array([x, 0.0, 0.0]) for x in (1.0, 5, 3)]
    assert order(*(Plane(where, SAGITTAL, np.ones(2), (8, 8)) for where in positions)) == [1, 2, 0]


def test_affine_is_that_of_the_header_in_ras() -> None:
    first = Plane(np.array([10.0, -20, 30]), SAGITTAL, np.array([2.0, 3.0]), (8, 8), depth=4.0)
    # columns go back (3 mm), rows go down (2 mm), slices go to the right, LPS; RAS turns the signs of x and y
    expected = np.array([[0, 0, 4, -10], [-3, 0, 0, 20], [0, -2, 0, 30], [0, 0, 0, 1]])
    assert np.array_equal(stack_affine([first]), expected)


def test_third_column_of_a_tilted_gantry_is_the_way_between_slices() -> None:
    tilt = math.tan(math.radians(20))
    planes = [plane(5.0 * k, y=5 * k * tilt) for k in range(4)]
    assert order(*planes) == [0, 1, 2, 3]
    np.testing.assert_allclose(stack_affine(planes)[:3, 2], [0, -5 * tilt, 5], rtol=1e-12, atol=1e-12)


def test_rounded_positions_are_accepted() -> None:
    assert order(*(plane(round(k / 3, 2)) for k in range(30))) == list(range(30))


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ([], "a series must have at least one image, but it has none"),
        (
            [plane(0), plane(1), plane(2), plane(0, SAGITTAL), plane(1, SAGITTAL)],
            r"all slices must have one orientation, but they have 2 \(3 \+ 2 slices\): a localizer",
        ),
        (
            [plane(0), plane(1), plane(2, size=(8, 4))],
            r"all slices must have one size, but they have 8 x 8 \(2 slices\), 8 x 4 \(1 slices\)",
        ),
        (
            [plane(0), plane(1), plane(2, spacing=(1, 0.5))],
            r"one PixelSpacing, but they have 1 x 1 mm \(2 slices\), 1 x 0.5 mm \(1 slices\)",
        ),
        (
            [plane(z) for z in (0, 1, 2)] * 3,
            r"one image at each position, but this series has 3 at each of its 3 positions \(several echoes",
        ),
        ([plane(0), plane(1), plane(1), plane(2)], "has up to 2 at a position, on 3 positions"),
        (
            [plane(z) for z in (-4, -2, 0, 6, 8)],
            "every 2.00 mm, but 2 are missing after the position 0.00 mm along the stack",
        ),
        ([plane(z) for z in (0, 1, 2, 4)], "every 1.00 mm, but 1 is missing after the position 2.00 mm"),
        (
            [plane(z) for z in (0, 1, 2, 4, 5, 7, 8)],
            "but 2 are missing at 2 places, the first after the position 2.00 mm",
        ),
        ([plane(z) for z in (0, 1, 2, 3.4)], "equally spaced, but they are 1.00 to 1.40 mm apart"),
        ([plane(0), plane(1, y=0.5), plane(2)], "on a straight line, but a step between two is 0.50 mm off"),
    ],
)
def test_uneven_stack_is_refused(planes: list[Plane], message: str) -> None:
    with pytest.raises(NomalyError, match=f"Study series: .*{message}"):
        order(*planes)
