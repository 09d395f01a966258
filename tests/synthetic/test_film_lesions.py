"""Synthetic lesions on films of the chest and of the wrist: what holds for both."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

from custom.errors import NomalyError
from custom.synthetic import chest_lesions, wrist_lesions
from custom.synthetic.chest import chest_image
from custom.synthetic.wrist import wrist_image


@dataclass(frozen=True)
class Lesions:
    """The lesions of one kind of film, on a film of 64 pixels and on one that is not square.

    Attributes:
        module: has EFFECTS and draw_lesion.
        film: (1, 64, 64).
        oblong: (1, X, Y), X unlike Y.
        coloured: group that is drawn into a colour film.
        checked: group that is asked for with a wrong strength.
        unknown: name of no group of this film.
    """

    module: ModuleType
    film: np.ndarray
    oblong: np.ndarray
    coloured: str
    checked: str
    unknown: str

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(self.module.EFFECTS)


CHEST = Lesions(chest_lesions, chest_image(7, 64), chest_image(9, 96)[:, :, ::2], "consolidation", "nodule", "fracture")
WRIST = Lesions(wrist_lesions, wrist_image(7, 64), wrist_image(9, 96)[:, 12:84], "cast", "fracture", "nodule")
BOTH = pytest.mark.parametrize("lesions", [pytest.param(CHEST, id="chest"), pytest.param(WRIST, id="wrist")])
EACH_GROUP = pytest.mark.parametrize(
    ("lesions", "group"),
    [pytest.param(lesions, group, id=group) for lesions in (CHEST, WRIST) for group in lesions.groups],
)


@EACH_GROUP
def test_same_seed_repeats_and_another_seed_differs(lesions: Lesions, group: str) -> None:
    first, again, other = (lesions.module.draw_lesion(lesions.film, group, seed)[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.02


@EACH_GROUP
def test_more_strength_changes_more(lesions: Lesions, group: str) -> None:
    faint, plain = (
        np.abs(lesions.module.draw_lesion(lesions.film, group, 5, (s, s))[0] - lesions.film)[0].sum()
        for s in (0.4, 1.0)
    )
    assert plain > 1.2 * faint


@BOTH
def test_colour_film_changes_alike_in_all_channels(lesions: Lesions) -> None:
    one, mask = lesions.module.draw_lesion(lesions.film, lesions.coloured, 2)
    three, same = lesions.module.draw_lesion(np.repeat(lesions.film, 3, 0), lesions.coloured, 2)
    np.testing.assert_allclose(three, np.repeat(one, 3, 0), atol=1e-5)
    np.testing.assert_array_equal(mask, same)


@BOTH
def test_film_that_is_not_square_can_hold_every_group(lesions: Lesions) -> None:
    for group in lesions.groups:
        image, mask = lesions.module.draw_lesion(lesions.oblong, group, 1)
        assert image.shape == lesions.oblong.shape and mask.any()


@BOTH
def test_unknown_group_is_rejected(lesions: Lesions) -> None:
    first, last = lesions.groups[0], lesions.groups[-1]
    message = f"group must be one of {first}, .*, {last}, got '{lesions.unknown}'"
    with pytest.raises(NomalyError, match=message):
        lesions.module.draw_lesion(lesions.film, lesions.unknown, 0)


@BOTH
@pytest.mark.parametrize("strength", [(0.0, 0.5), (0.8, 0.4), (0.5, 1.5)])
def test_strength_out_of_bounds_is_rejected(lesions: Lesions, strength: tuple[float, float]) -> None:
    with pytest.raises(NomalyError, match=r"strength must be an increasing range within \(0, 1\], got"):
        lesions.module.draw_lesion(lesions.film, lesions.checked, 0, strength)
