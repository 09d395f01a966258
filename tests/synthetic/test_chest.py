from __future__ import annotations

import numpy as np
import pytest

from custom.errors import NomalyError
from custom.synthetic.chest import chest_image, chest_with_lungs


@pytest.mark.parametrize("seed", range(8))
def test_lungs_are_dark_between_bright_spine_and_belly(seed):
    picture, lungs = chest_with_lungs(seed, 64)
    film = picture[0]
    right, left = (np.argwhere(lung)[:, 0].mean() for lung in lungs)
    middle = int(round((right + left) / 2))
    spine = film[middle - 2 : middle + 3, 20:44].mean()
    belly = film[22:42, -8:].mean()
    assert film[lungs.any(0)].mean() < min(spine, belly) - 0.1


@pytest.mark.parametrize("seed", range(8))
def test_the_heart_makes_the_patients_left_lung_the_smaller_one(seed):
    lungs = chest_with_lungs(seed, 64)[1]
    assert 0.05 < lungs.mean((1, 2)).min() and lungs.mean((1, 2)).max() < 0.25
    assert lungs[1].sum() < 1.05 * lungs[0].sum()
    assert not (lungs[0] & lungs[1]).any()
    assert np.argwhere(lungs[0])[:, 0].mean() < np.argwhere(lungs[1])[:, 0].mean()


@pytest.mark.parametrize("size", [16, 1024])
def test_a_size_out_of_bounds_is_rejected(size):
    with pytest.raises(NomalyError, match=f"size must be 32 to 512 pixels, got {size}"):
        chest_image(0, size)
