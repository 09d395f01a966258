"""What a DICOM file is, by its header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from custom.errors import NomalyError
from custom.studies.dicom import read_dicom
from custom.studies.dicom_headers import DicomFile, scan_file
from custom.studies.readers import read_study
from dicom import write_cine, write_film, write_multiframe, write_series

FILM = np.arange(64, dtype=np.uint16).reshape(8, 8)
VOLUME = np.arange(128, dtype=np.uint16).reshape(8, 8, 2)
UIDS = {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.2", "SOPInstanceUID": "1.3"}


def test_slice_is_reported_with_its_identifiers(tmp_path: Path) -> None:
    path = write_series(tmp_path, VOLUME, np.eye(4), **UIDS)[0]
    assert scan_file(path) == DicomFile(path, "slice", "", "1.1", "1.2", "1.3")


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "XA", "US"])
def test_projection_is_an_image_of_its_own_even_with_a_position(tmp_path: Path, modality: str) -> None:
    path = write_series(tmp_path, VOLUME, np.eye(4), Modality=modality)[0]
    assert scan_file(path).kind == "image"


def test_frames_are_an_image_of_their_own(tmp_path: Path) -> None:
    assert scan_file(write_multiframe(tmp_path / "a", VOLUME, np.eye(4))).kind == "image"
    assert scan_file(write_cine(tmp_path / "b", VOLUME.astype(np.uint8))).kind == "image"


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"Modality": "SEG"}, "SEG"),
        ({"Modality": "RTDOSE"}, "RT"),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "SEG"),
        ({"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.30"}, "parametric map"),
        ({"Modality": "KO", "Rows": None}, "KO"),
        ({"Modality": "ECG", "Columns": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.1.1"}, "ECG"),
        ({"Manufacturer": "Nomaly"}, "Nomaly result"),
        ({"Modality": None, "Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"}, "object without an image"),
    ],
)
def test_object_that_is_no_image_is_named(tmp_path: Path, tags: dict, name: str) -> None:
    found = scan_file(write_film(tmp_path / "object", FILM, **tags))
    assert (found.kind, found.name) == ("", name)


def test_file_without_the_mark_of_dicom_is_read_by_its_suffix(tmp_path: Path) -> None:
    path = write_film(tmp_path / "old.dcm", FILM)
    file = pydicom.dcmread(path)
    file.preamble, file.file_meta = None, pydicom.dataset.FileMetaDataset()
    file.save_as(path, implicit_vr=True, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    assert scan_file(path).kind == "image"
    assert np.array_equal(read_study(path)[0, ..., 0], FILM)


def test_odd_values_of_a_header_are_not_printed(tmp_path: Path, caplog, recwarn) -> None:
    path = write_film(tmp_path / "film.dcm", FILM, StudyInstanceUID="1.2.3.45678.90")
    path.write_bytes(path.read_bytes().replace(b"1.2.3.45678.90", b"1.2.SMITH.JOHN"))
    assert scan_file(path).study == "1.2.SMITH.JOHN"
    assert read_study(path).shape == (1, 8, 8, 1)
    assert "SMITH" not in caplog.text and not [warning for warning in recwarn if "SMITH" in str(warning.message)]


@pytest.mark.parametrize("content", [b"", b"no image", bytes(128) + b"DICM", b"\x08\x00" * 500])
def test_broken_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.dcm").write_bytes(content)
    assert scan_file(tmp_path / "broken.dcm") is None


def test_image_whose_header_is_cut_off_is_not_passed_over(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film", FILM)
    path.write_bytes(path.read_bytes()[:900])
    assert scan_file(path).kind == "image"
    with pytest.raises(NomalyError, match="must contain all its pixels, but its header does not state their number"):
        read_dicom([path], path)
