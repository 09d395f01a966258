"""Films that are stored turned or mirrored, by PatientOrientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from custom.errors import NomalyError
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


BORDERS = {"all sides": (4, 4, 4, 4), "two sides": (0, 7, 3, 0), "one column": (1, 0, 0, 0), "none": (0, 0, 0, 0)}


def bordered(pixels: np.ndarray, border: tuple[int, int, int, int], value: int) -> np.ndarray:
    """Pixels (X, Y) with a border of a value: left, right, top, bottom."""
    return np.pad(pixels, (border[:2], border[2:]), constant_values=value)


@pytest.mark.parametrize("sides", [("L", "F"), ("R", "H"), ("F", "R")])
@pytest.mark.parametrize("border", BORDERS.values(), ids=BORDERS)
@pytest.mark.parametrize("photometric, padding", [("MONOCHROME2", 0), ("MONOCHROME1", 4095)])
def test_film_with_a_border_of_padding_is_the_film_without_and_its_results_return_to_the_stored_pixels(
    tmp_path: Path, sides: tuple[str, str], border: tuple[int, int, int, int], photometric: str, padding: int
) -> None:
    pixels = np.clip(STORED[sides], 1, 4094)
    tags = {"PatientOrientation": list(sides), "PhotometricInterpretation": photometric}
    plain = LoadStudy(min_size=1)(write_film(tmp_path / "plain.dcm", pixels, 12, **tags))
    path = write_film(tmp_path / "film.dcm", bordered(pixels, border, padding), 12, PixelPaddingValue=padding, **tags)
    image = LoadStudy(min_size=1)(path)
    assert torch.equal(image.as_tensor(), plain.as_tensor())
    marked = torch.from_numpy(FILM.astype(np.float32))[None, ..., None]
    back = source_arrays(image, {"map": marked})["map"]
    assert np.array_equal(back.squeeze(), bordered(STORED[sides], border, 0))


def test_padding_inside_a_film_is_no_border(tmp_path: Path) -> None:
    pixels = np.where(np.hypot(*np.ogrid[-35:35, -45:45]) < 35, np.clip(FILM, 1, None), 0).astype(np.uint16)
    image = LoadStudy(min_size=1)(write_film(tmp_path / "film.dcm", pixels, 12, PixelPaddingValue=0))
    assert image.shape == (1, 69, 69, 1) and float(image[0, 0, 0, 0]) == pixels[pixels > 0].min()


def test_position_of_a_film_without_its_border_is_that_of_its_pixels(tmp_path: Path) -> None:
    pixels = bordered(np.clip(FILM, 1, None), (3, 0, 5, 0), 0)
    image = LoadStudy(min_size=1)(write_film(tmp_path / "film.dcm", pixels, 12, PixelPaddingValue=0))
    np.testing.assert_allclose(image.affine[:3, 3], [-0.6, -1.0, 0])  # 0.2 mm per pixel
    assert np.array_equal(image.meta["original_affine"], np.diag([-0.2, -0.2, 1, 1]))


def test_mask_of_a_film_with_a_border_is_cropped_with_it(tmp_path: Path) -> None:
    pixels = np.clip(STORED["F", "R"], 1, None)
    tags = {"PatientOrientation": ["F", "R"]}
    film = write_film(tmp_path / "film.dcm", bordered(pixels, (1, 2, 3, 4), 0), 12, PixelPaddingValue=0, **tags)
    lesion = bordered((STORED["F", "R"] > 2000).astype(np.uint16), (1, 2, 3, 4), 1)
    mask = write_film(tmp_path / "mask.dcm", lesion, 12, **tags)
    item = LoadStudyd(min_size=1)({"image": str(film), "mask": str(mask)})
    assert np.array_equal(item["mask"][0, ..., 0], FILM > 2000)


def test_film_of_padding_only_is_refused(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.dcm", np.full((70, 90), 7, np.uint16), 12, PixelPaddingValue=7)
    with pytest.raises(NomalyError, match="the image must not be constant"):
        LoadStudy()(path)
