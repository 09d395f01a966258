"""Which files a request may name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from custom.errors import NomalyError
from custom.label.uploads import UnknownName, place_of, remove_upload


@pytest.fixture
def place(tmp_path: Path):
    """Place of a name on a server with one image, one folder of a series and one upload."""
    studies, uploads = tmp_path / "studies", tmp_path / "uploads"
    for folder in (studies / "series", studies / "labels", studies / ".hidden", uploads):
        folder.mkdir(parents=True)
    for file in (studies / "head.nii.gz", uploads / "tmp1.png", uploads / "tmp2.txt", tmp_path / "secret.png"):
        file.touch()
    (uploads / "link.png").symlink_to(tmp_path / "secret.png")
    store = {"head": str(studies / "head.nii.gz")}
    return lambda image: place_of(image, lambda name: store.get(name, ""), str(studies), [str(uploads)])


def test_name_in_the_store_is_its_file(place, tmp_path):
    assert place("head") == str(tmp_path / "studies" / "head.nii.gz")


def test_name_of_a_folder_among_the_studies_is_that_folder(place, tmp_path):
    assert place("series") == str(tmp_path / "studies" / "series")


def test_upload_is_taken_by_its_path(place, tmp_path):
    assert place(str(tmp_path / "uploads" / "tmp1.png")) == str(tmp_path / "uploads" / "tmp1.png")


@pytest.mark.parametrize(
    "image", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "labels", ".hidden", "series/..", "head\0", None, ["a"]]
)
def test_other_paths_of_the_machine_are_refused(place, image):
    with pytest.raises(UnknownName, match="image must be the name of an image on the server, got"):
        place(image)


def test_store_is_not_asked_for_what_is_no_plain_name(tmp_path):
    with pytest.raises(UnknownName, match="image must be the name of an image"):
        place_of("../secret.png", lambda name: str(tmp_path / name), str(tmp_path), [])


@pytest.mark.parametrize("image", ["secret.png", "uploads/link.png", "uploads/../secret.png", "uploads"])
def test_ways_out_of_the_uploads_are_not_taken(place, tmp_path, image):
    with pytest.raises(UnknownName, match="image must be the name of an image"):
        place(f"{tmp_path}/{image}")


def test_file_of_another_format_is_refused(place, tmp_path):
    with pytest.raises(NomalyError, match=r"image must be one of \.nii\.gz, .*, got \.txt: convert it"):
        place(str(tmp_path / "uploads" / "tmp2.txt"))


def test_only_uploads_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    upload, session = tmp_path / "tmp1.png", tmp_path / "sessions" / "head.nii.gz"
    session.parent.mkdir()
    for file in (upload, session):
        file.touch()

    for image in (str(upload), str(session), str(upload), None, os.sep):
        remove_upload(image)

    assert not upload.exists() and session.exists()
