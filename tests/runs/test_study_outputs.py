"""How a study lies in its picture, and what its note says."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor

from custom.runs.study_outputs import place_of, remarks


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


@pytest.mark.parametrize(("missing", "words"), [(24.0, "about 24 mm above the topmost slice"), (0.0, None)])
def test_note_says_that_the_top_of_a_head_is_missing(missing: float, words: str | None) -> None:
    image = MetaTensor(np.zeros((1, 4, 5, 1)), meta={"head_cut_mm": missing})
    note = "".join(remarks({"image": image}))
    assert (words in note) if words else note == ""
