"""DICOM files that cannot be assessed as they are, and series in unusual files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from custom.errors import NomalyError
from custom.studies.dicom import read_dicom
from dicom import write_film, write_multiframe, write_series

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
VOLUME = np.random.default_rng(0).integers(-900, 900, (6, 5, 4)).astype(np.int16)
GRID = np.diag([-1.5, -2.0, 3.0, 1.0])


def refused(files: list[Path], message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        read_dicom(files, Path("series"))


@pytest.mark.parametrize("word", ["MOSAIC", "VFRAME"])
def test_mosaic_is_refused_by_name(tmp_path: Path, word: str) -> None:
    refused(write_series(tmp_path, VOLUME, GRID, ImageType=["ORIGINAL", "PRIMARY", word]), f"a mosaic.*{word}")


def test_raw_radiograph_is_refused_by_name(tmp_path: Path) -> None:
    refused([write_film(tmp_path / "film.dcm", RAMP, 12, PresentationIntentType="FOR PROCESSING")], "FOR PROCESSING")


def test_truncated_file_of_a_series_is_stated_by_its_place(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, GRID)
    files[2].write_bytes(files[2].read_bytes()[:-10])
    refused(files, "0002.dcm: file 3 of 4, the file must contain all its pixels")


def test_slices_that_lost_their_series_uid_are_refused(tmp_path: Path) -> None:
    refused(write_series(tmp_path, VOLUME, GRID, SeriesInstanceUID=None), "SeriesInstanceUID is missing")


def test_enhanced_files_of_one_frame_each_are_one_volume(tmp_path: Path) -> None:
    same = {name: uid.generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    files = []
    for z in (2, 0, 3, 1):
        affine = GRID.copy()
        affine[:3, 3] += z * GRID[:3, 2]
        files.append(write_multiframe(tmp_path / f"{z}.dcm", VOLUME[..., z : z + 1], affine, **same))
    image = read_dicom(files, tmp_path)
    assert np.array_equal(image[0], VOLUME)
    np.testing.assert_allclose(image.affine, GRID, atol=1e-9)


