from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from custom.errors import NomalyError
from custom.synthetic.film import Frame
from custom.synthetic.wrist import _Bone, _tube, wrist_image, wrist_with_bones


@pytest.mark.parametrize("seed", range(8))
def test_bones_are_brighter_than_flesh_and_flesh_than_air(seed):
    picture, bones = wrist_with_bones(seed, 64)
    film = picture[0]
    far = ndimage.distance_transform_edt(~bones)
    flesh, air = (film[(far > low) & (far <= high)].mean() for low, high in ((1.5, 3.0), (10.0, 12.0)))
    assert 0.04 < bones.mean() < 0.3
    assert film[bones].mean() > flesh + 0.05 > air + 0.1


@pytest.mark.parametrize("seed", range(4))
def test_fingers_point_upwards_and_the_forearm_leaves_the_film_below(seed):
    bones = wrist_with_bones(seed, 96)[1]
    across = [np.count_nonzero(np.diff(bones[:, row].astype(int)) == 1) for row in range(96)]
    top = np.flatnonzero(bones.any(0))[0]
    assert max(across[top : top + 48]) >= 4  # four fingers beside one another
    assert max(across[-3:]) in (1, 2)  # radius and ulna, which may touch


def test_carpal_bones_appear_with_age():
    areas = [wrist_with_bones(3, 128, age)[1].sum() for age in (0.0, 0.5, 1.0)]
    assert areas[0] < areas[1] < areas[2]


def test_growth_plates_close_with_age():
    """A bone along the film's middle has a gap at its plate, deep and broad in a child, none in an adult."""
    frame = Frame.of((256, 256))
    bone = _Bone(np.array([0.0, -0.8]), np.array([0.0, 0.8]), (0.1, 0.08, 0.1), plate=0.1)
    gaps = []
    for age in (0.1, 0.6, 1.0):
        profile = _tube(frame, bone, age)[128]
        row = int((-0.8 + 0.1 * 1.6 + 1.0) * 128)  # 46: a tenth of the bone's length below its upper end
        gaps.append(1.0 - profile[row - 2 : row + 2].min() / profile[row + 10])
    assert gaps[0] > 0.7 and gaps[0] > gaps[1] > gaps[2] and gaps[2] < 0.25


@pytest.mark.parametrize("size", [16, 1024])
def test_a_size_out_of_bounds_is_rejected(size):
    with pytest.raises(NomalyError, match=f"size must be 32 to 512 pixels, got {size}"):
        wrist_image(0, size)
