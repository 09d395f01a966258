"""Reading of a study's files, and the checks before."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from custom.errors import NomalyError
from custom.studies import dicom, image_files, nifti, readers
from custom.studies.readers import read_study
from dicom import write_film, write_series

VOLUME = np.zeros((8, 8, 4), np.int16)


def refused(image: Path | list[str], message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        read_study(image)


@pytest.fixture
def little_memory(monkeypatch) -> None:
    """Let 6 KiB be free, which hold one kilobyte of float32 and its copies, and let no pixel be read."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=6 * 1024 - 1))
    monkeypatch.setattr(readers, "_loader", None)
    monkeypatch.setattr(image_files, "_values", None)
    monkeypatch.setattr(nifti, "_channel_first", None)
    monkeypatch.setattr(dicom, "read_pixels", None)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.nii", "a.nrrd", "a.dcm", "series"])
def test_image_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, save_picture, save_volume, little_memory, name: str
) -> None:
    if name in ("a.png", "a.tif"):
        save_picture(np.zeros((16, 16), np.uint8), name)
    elif name == "a.nii":
        save_volume(VOLUME, name=name)
    elif name == "a.nrrd":
        header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 8 8 4\nencoding: raw\nendian: little\n\n"
        (tmp_path / name).write_bytes(header.encode() + VOLUME.tobytes())
    elif name == "a.dcm":
        write_film(tmp_path / name, np.zeros((16, 16), np.uint16))
    else:
        write_series(tmp_path / name, VOLUME, np.eye(4))
    refused(
        tmp_path / name,
        rf"{name}: the image must fit into the free memory, but its 256 values need about 0.0 GiB and 0.0 GiB are free",
    )


def test_image_that_just_fits_is_read(save_volume, monkeypatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=6 * 1024))
    assert read_study(save_volume(VOLUME)).shape == (1, 8, 8, 4)


def test_gibibytes_are_named(save_volume, monkeypatch) -> None:
    # 8 * 8 * 4 values of 4 bytes, 6 copies: 6144 bytes are 6 "GiB" of 1024 bytes
    monkeypatch.setattr("custom.studies.formats.GIB", 1024)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=512))
    refused(save_volume(VOLUME), "need about 6.0 GiB and 0.5 GiB are free. Give fewer slices")


def test_decompression_bomb_is_a_clear_refusal(save_picture, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(
        save_picture(np.zeros((16, 16), np.uint8)),
        r"study.png: an image must have at most 200 pixels, but it has more. Give a smaller image",
    )


@pytest.mark.parametrize("what", ["file", "folder"])
def test_unreadable_path_is_distinguished_from_a_broken_one(tmp_path: Path, monkeypatch, what: str) -> None:
    path = write_film(tmp_path / "x" / "film.dcm", np.zeros((16, 16), np.uint16))
    monkeypatch.setattr(os, "access", lambda *_: False)
    path = path if what == "file" else path.parent
    refused(path, rf"Study {path}: the {what} cannot be read \(permission denied\). Give the user who")


def test_file_in_a_closed_folder_may_not_be_read(tmp_path: Path, monkeypatch) -> None:
    def closed(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", closed)
    refused(tmp_path / "a.png", r"a.png: it cannot be read \(Permission denied\). Check its permissions")


def test_missing_file_of_a_series_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, np.eye(4))
    files[2].unlink()
    refused([str(file) for file in files], "0002.dcm: file not found")


def test_series_without_a_file_is_refused() -> None:
    refused([], "Study series: a series must have at least one image, but it has none")


def test_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    write_film(tmp_path / "report.dcm", np.zeros((16, 16), np.uint16), Modality="SR", Rows=None, Columns=None)
    refused(tmp_path, "a folder must contain images or one DICOM series, but none of its 2 files is an image")


def test_folder_of_several_series_is_refused(tmp_path: Path) -> None:
    for number in range(2):
        for path in write_series(tmp_path / "new", VOLUME, np.eye(4)):
            path.rename(tmp_path / f"{number}_{path.name}")
    refused(tmp_path, r"must contain one DICOM series, but contains 2 \(of 4, 4 files\). Put each series")


def test_other_objects_beside_a_series_do_no_harm(tmp_path: Path) -> None:
    write_series(tmp_path, VOLUME, np.eye(4))
    write_film(tmp_path / "seg.dcm", np.zeros((16, 16), np.uint16), SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    (tmp_path / "run.json").write_text("{}")
    assert read_study(tmp_path).shape == (1, 8, 8, 4)


def test_broken_file_among_a_series_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, np.eye(4))
    files[3].write_bytes(b"")
    refused(tmp_path, r"0003.dcm: the file is empty \(0 bytes\)")


def test_reader_without_permission_says_so(save_picture, monkeypatch) -> None:
    def closed(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(readers, "read_image_file", closed)
    refused(save_picture(np.zeros((16, 16), np.uint8)), r"study.png: the file cannot be read \(permission denied\)")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(NomalyError, match=r"absent.png: file not found"):
        read_study(tmp_path / "absent.png")


def test_empty_file_is_distinguished_from_a_broken_one(tmp_path):
    path = tmp_path / "empty.nii.gz"
    path.touch()
    with pytest.raises(NomalyError, match=r"empty \(0 bytes\)"):
        read_study(path)


@pytest.mark.parametrize("name", ["study.png", "study.jpg", "study.nii.gz", "study.nii"])
def test_truncated_file_is_refused_as_unreadable(save_picture, save_volume, name):
    noise = np.random.default_rng(0).integers(0, 255, (70, 90), dtype=np.uint8)
    path = save_volume(noise[..., None], name=name) if "nii" in name else save_picture(noise, name=name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(NomalyError, match=rf"{name}: the file must be a readable .* image, but the reader failed"):
        read_study(path)


def test_text_file_is_refused_as_unreadable(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no image")
    with pytest.raises(NomalyError, match="but the reader failed"):
        read_study(path)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.heic", "HEIC"), ("a.par", "Philips PAR/REC"), ("a.mif.gz", "MRtrix MIF")]
)
def test_format_that_is_not_read_is_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    refused(tmp_path / name, f"{name}: format not supported: {kind}. Convert it to NIfTI or NRRD")
