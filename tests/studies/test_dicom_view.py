"""Films that are stored turned or mirrored, by PatientOrientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from custom.runs.source_geometry import source_arrays
from custom.runs.study_outputs import remarks
from custom.studies.loading import LoadStudy, LoadStudyd
from dicom import write_film

FILM = np.random.default_rng(0).integers(0, 4095, (70, 90)).astype(np.uint16)  # (X, Y), X to the left, Y to the feet
STORED = {
    ("L", "F"): FILM,
    ("R", "F"): FILM[::-1],
    ("R", "H"): FILM[::-1, ::-1],
    ("L", "H"): FILM[:, ::-1],
    ("F", "R"): FILM[::-1].T,
    ("F", "L"): FILM.T,
    ("H", "L"): FILM[:, ::-1].T,
    ("HL", "RF"): FILM[::-1, ::-1].T,
}


@pytest.mark.parametrize("sides", STORED)
def test_film_is_brought_upright_and_its_results_return_to_the_stored_pixels(
    tmp_path: Path, sides: tuple[str, str]
) -> None:
    path = write_film(tmp_path / "film.dcm", STORED[sides], 12, PatientOrientation=list(sides))
    image = LoadStudy(min_size=1)(str(path))
    assert np.array_equal(image[0, ..., 0], FILM)
    back = source_arrays(image, {"map": torch.from_numpy(FILM.astype(np.float32))[None, ..., None]})["map"]
    assert np.array_equal(back.squeeze(), STORED[sides])
    note = " ".join(remarks({"image": image}))
    assert ("brought upright" in note) == (sides != ("L", "F"))


@pytest.mark.parametrize("sides, turned", [(["A", "F"], False), (["P", "F"], False), (["A", "H"], True)])
def test_lateral_film_is_turned_but_not_mirrored(tmp_path: Path, sides: list[str], turned: bool) -> None:
    path = write_film(tmp_path / "film.dcm", FILM, 12, PatientOrientation=sides)
    image = LoadStudy(min_size=1)(str(path))
    assert np.array_equal(image[0, ..., 0], FILM[::-1, ::-1] if turned else FILM)


@pytest.mark.parametrize("tags", [{"Modality": "MG"}, {"PatientOrientation": ["P", "L"]}, {"PatientOrientation": None}])
def test_other_films_stay_as_stored(tmp_path: Path, tags: dict) -> None:
    path = write_film(tmp_path / "film.dcm", FILM, 12, **{"PatientOrientation": ["R", "H"], **tags})
    assert np.array_equal(LoadStudy(min_size=1)(str(path))[0, ..., 0], FILM)


def test_mask_of_a_turned_film_is_turned_with_it(tmp_path: Path) -> None:
    tags = {"PatientOrientation": ["F", "R"]}
    film = write_film(tmp_path / "film.dcm", STORED["F", "R"], 12, **tags)
    mask = write_film(tmp_path / "mask.dcm", (STORED["F", "R"] > 2000).astype(np.uint16), 12, **tags)
    item = LoadStudyd(min_size=1)({"image": str(film), "mask": str(mask)})
    assert np.array_equal(item["mask"][0, ..., 0], FILM > 2000)
