"""How a study lies in its picture."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor

from custom.runs.study_outputs import place_of


@pytest.mark.parametrize(
    ("steps", "known", "sides"),
    [
        ((-2.0, -1.0, 3.0), True, "RLAP"),  # to the patient's left and back: as radiologists look at it
        ((2.0, 1.0, 3.0), True, "LRPA"),
        ((-2.0, -1.0, 3.0), False, ""),
    ],
)
def test_letters_tell_where_the_patients_sides_are(steps, known, sides) -> None:
    image = MetaTensor(np.zeros((1, 4, 5, 6)), affine=np.diag([*steps, 1]), meta={"sides_known": known})
    assert place_of(image) == {"spacing": [2.0, 1.0], "sides": sides}
