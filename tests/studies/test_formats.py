"""Names of studies and errors about their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom.studies.formats import case_name, is_dicom, study_path, unreadable


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("a/b.nii", "a/b.nii"),
        (["a/b.dcm"], "a/b.dcm"),
        (["/a/s/1.dcm", "/a/s/2.dcm"], "/a/s"),
        (["/a/s/1.dcm", "/a/t/2.dcm"], "/a"),
        ([], "series"),
    ],
)
def test_path_of_a_study_is_its_file_or_the_folder_of_its_files(image: str | list[str], path: str) -> None:
    assert study_path(image) == Path(path)


@pytest.mark.parametrize(
    ("name", "content", "known"),
    [
        ("a.DCM", b"", True),
        ("1.2.840", bytes(128) + b"DICM", True),
        ("1.2.840", bytes(127) + b"DICM", False),
        ("short", b"DICM", False),
    ],
)
def test_dicom_is_known_by_its_suffix_or_its_mark(tmp_path: Path, name: str, content: bytes, known: bool) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_dicom(tmp_path / name) is known


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("first\nsecond", "first"),
        ("", "no reason given"),
        ("x" * 300, "x" * 200),
        ("/build/itkNrrdImageIO.cxx:468:\nITK ERROR: NrrdImageIO(0x564e): Cannot read it", "Cannot read it"),
    ],
)
def test_reason_of_a_reader_is_told_in_one_line(text: str, reason: str) -> None:
    assert f"but the reader failed (RuntimeError: {reason}). The file may" in str(unreadable("a", RuntimeError(text)))


@pytest.mark.parametrize(
    "path, name",
    [("a/b.nii.gz", "b"), ("a/1.2.840.1", "1.2.840.1"), ("x.DCM", "x"), ("series/", "series"), ("v.1.nii", "v.1")],
)
def test_case_name_drops_known_suffixes_only(path, name):
    assert case_name(path) == name
