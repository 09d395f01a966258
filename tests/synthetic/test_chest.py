from __future__ import annotations

import numpy as np
import pytest

from custom.errors import NomalyError
from custom.synthetic.chest import chest_image, chest_with_lungs


@pytest.mark.parametrize("size", [32, 64, 97])
def test_a_picture_has_the_asked_size_and_grey_levels(size):
    picture = chest_image(0, size)
    assert picture.shape == (1, size, size) and picture.dtype == np.float32
    assert 0.0 <= picture.min() < 0.15 and 0.8 < picture.max() <= 1.0


def test_same_seed_repeats_and_another_seed_differs():
    np.testing.assert_array_equal(chest_image(4, 48), chest_image(4, 48))
    assert np.abs(chest_image(4, 48) - chest_image(5, 48)).mean() > 0.03


@pytest.mark.parametrize("seed", range(4))
def test_one_seed_shows_the_same_person_at_all_sizes(seed):
    small, large = chest_image(seed, 64)[0], chest_image(seed, 128)[0]
    halved = large.reshape(64, 2, 64, 2).mean((1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.985
    stranger = chest_image(seed + 50, 64)[0]
    assert np.abs(small - halved).mean() < 0.4 * np.abs(small - stranger).mean()


def test_persons_share_their_structure():
    pictures = np.stack([chest_image(seed, 32)[0].ravel() for seed in range(12)])
    correlation = np.corrcoef(pictures)[np.triu_indices(12, 1)]
    assert 0.6 < correlation.mean() < 0.97


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
