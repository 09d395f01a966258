"""Films of the chest and of the wrist: what holds for both, with the bounds of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from custom.synthetic.chest import chest_image
from custom.synthetic.wrist import wrist_image


@dataclass(frozen=True)
class Film:
    """How a film is drawn, the seed whose grey levels are checked, the bound of its darkest level, and those of the
    mean correlation between persons.
    """

    draw: Callable[[int, int], np.ndarray]
    seed: int
    darkest: float
    alike: tuple[float, float]


CHEST = Film(chest_image, 0, 0.15, (0.6, 0.97))
WRIST = Film(wrist_image, 1, 0.1, (0.4, 0.95))
FILMS = pytest.mark.parametrize("film", [pytest.param(CHEST, id="chest"), pytest.param(WRIST, id="wrist")])


@FILMS
@pytest.mark.parametrize("size", [32, 64, 97])
def test_film_has_the_requested_size_and_grey_levels(film: Film, size: int) -> None:
    image = film.draw(film.seed, size)
    assert image.shape == (1, size, size) and image.dtype == np.float32
    assert 0.0 <= image.min() < film.darkest and 0.8 < image.max() <= 1.0


@FILMS
def test_same_seed_repeats_and_another_seed_differs(film: Film) -> None:
    np.testing.assert_array_equal(film.draw(4, 48), film.draw(4, 48))
    assert np.abs(film.draw(4, 48) - film.draw(5, 48)).mean() > 0.03


@FILMS
@pytest.mark.parametrize("seed", range(4))
def test_one_seed_shows_the_same_person_at_all_sizes(film: Film, seed: int) -> None:
    small, large = film.draw(seed, 64)[0], film.draw(seed, 128)[0]
    halved = large.reshape(64, 2, 64, 2).mean((1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.985
    stranger = film.draw(seed + 50, 64)[0]
    assert np.abs(small - halved).mean() < 0.4 * np.abs(small - stranger).mean()


@FILMS
def test_persons_share_their_structure(film: Film) -> None:
    images = np.stack([film.draw(seed, 32)[0].ravel() for seed in range(12)])
    correlation = np.corrcoef(images)[np.triu_indices(12, 1)]
    assert film.alike[0] < correlation.mean() < film.alike[1]
