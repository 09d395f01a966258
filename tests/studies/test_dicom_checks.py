"""DICOM files that cannot be assessed as they are, and series in unusual files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.filebase import DicomBytesIO
from pydicom.fileset import FileSet
from pydicom.filewriter import write_dataset, write_file_meta_info

from custom.errors import NomalyError
from custom.studies.dicom import read_dicom
from custom.studies.discovery import find_studies
from custom.studies.readers import read_study
from dicom import GRID, RAMP, VOLUME, refused, write_film, write_multiframe, write_series


@pytest.mark.parametrize("word", ["MOSAIC", "VFRAME"])
def test_mosaic_is_refused_by_name(tmp_path: Path, word: str) -> None:
    refused(write_series(tmp_path, VOLUME, GRID, ImageType=["ORIGINAL", "PRIMARY", word]), f"a mosaic.*{word}")


def test_mosaic_whose_image_type_was_removed_is_refused_by_its_number_of_tiles(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, VOLUME[..., :1], GRID, ImageType="OTHER")
    file = pydicom.dcmread(path)
    file.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 9)
    file.save_as(path)
    refused([path], "a mosaic.*NumberOfImagesInMosaic")


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


def test_implicit_data_set_in_a_jpeg_file_is_read_and_its_truncation_found(tmp_path: Path) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    path = write_film(tmp_path / "film.dcm", pixels, 12, uid.RLELossless)
    file, content = pydicom.dcmread(path), DicomBytesIO()
    content.is_little_endian, content.is_implicit_VR = True, True
    write_dataset(content, pydicom.Dataset(file))
    with path.open("wb") as stream:
        stream.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(stream, file.file_meta)
        stream.write(content.getvalue())
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], pixels)
    path.write_bytes(path.read_bytes()[:-200])
    refused([path], "it ends within them")


def test_direction_cosines_rounded_in_some_slices_are_one_orientation(tmp_path: Path) -> None:
    cosine, sine = np.cos(0.3019), np.sin(0.3019)
    oblique = np.array([[-1.5, 0, 0, 7], [0, -2 * cosine, 3 * sine, -8], [0, 2 * sine, 3 * cosine, 9], [0, 0, 0, 1]])
    exact = ["1", "0", "0", "0", f"{cosine:.9f}", f"{sine:.9f}"]
    rounded = [f"{float(value):.2f}" for value in exact]
    files = write_series(tmp_path, VOLUME, oblique, ImageOrientationPatient=lambda z: exact if z % 2 else rounded)
    np.testing.assert_allclose(read_dicom(files, tmp_path).affine, oblique, atol=1e-6)


@pytest.mark.parametrize("implicit", [False, True])
def test_series_without_preamble_and_suffix_is_found_and_read(tmp_path: Path, implicit: bool) -> None:
    for number, path in enumerate(write_series(tmp_path, VOLUME, GRID)):
        content = DicomBytesIO()
        content.is_little_endian, content.is_implicit_VR = True, implicit
        write_dataset(content, pydicom.Dataset(pydicom.dcmread(path)))
        (tmp_path / f"IM{number}").write_bytes(content.getvalue())
        path.unlink()
    (item,) = find_studies(tmp_path)
    assert np.array_equal(read_study(item["image"])[0], VOLUME)


def test_files_that_a_named_dicomdir_lists_are_read_also_in_lower_case(tmp_path: Path) -> None:
    files = write_series(tmp_path / "source", VOLUME, GRID)
    disc = FileSet()
    for file in files:
        disc.add(file)
    disc.write(tmp_path / "disc")
    (item,) = find_studies(tmp_path / "disc" / "DICOMDIR")
    assert np.array_equal(read_study(item["image"])[0], VOLUME)
    (tmp_path / "disc" / "PT000000").rename(tmp_path / "disc" / "pt000000")
    for place in sorted((tmp_path / "disc").rglob("*"), reverse=True):
        if place.name != "DICOMDIR":
            place.rename(place.with_name(place.name.lower()))
    assert len(find_studies(tmp_path / "disc" / "DICOMDIR")[0]["image"]) == 4


def test_missing_file_of_a_dicomdir_is_a_study_that_fails(tmp_path: Path) -> None:
    disc = FileSet()
    disc.add(write_film(tmp_path / "film.dcm", VOLUME[..., 0].astype(np.uint16)))
    disc.write(tmp_path / "disc")
    next(path for path in (tmp_path / "disc").rglob("IM*")).unlink()
    (item,) = find_studies(tmp_path / "disc" / "DICOMDIR")
    with pytest.raises(NomalyError, match="file not found"):
        read_study(item["image"])
