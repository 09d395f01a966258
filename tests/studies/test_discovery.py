"""Which studies a user's files, folders and lists are."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from custom.errors import NomalyError
from custom.studies.discovery import find_studies
from custom.studies.own_files import list_own
from dicom import PATIENT, write_cine, write_film, write_series

VOLUME = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
FILM = np.arange(20, dtype=np.uint16).reshape(4, 5)


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def named(*inputs: Path | str) -> list[tuple[str | list[str], str]]:
    return [(item["image"], item["case"]) for item in find_studies(list(inputs))]


def hashed(identity: str) -> str:
    return "case-" + hashlib.sha256(identity.encode()).hexdigest()[:12]


def test_file_is_one_study_named_without_its_ending() -> None:
    assert find_studies("scans/head.nii.gz") == [{"image": "scans/head.nii.gz", "case": "head"}]


def test_pseudonym_reveals_nothing() -> None:
    (item,) = find_studies("/scans/Doe_Jane.nii.gz", pseudonymise=True)
    assert item == {"image": "/scans/Doe_Jane.nii.gz", "case": hashed("/scans/Doe_Jane.nii.gz")}


def test_folder_is_searched_recursively_in_the_order_of_paths(tmp_path: Path) -> None:
    touch(tmp_path, "b.PNG", "a.nii.gz", "z.jpeg", "readme.txt", ".hidden.png", "table.csv")
    touch(tmp_path / "deeper" / "still", "d.mha")
    touch(tmp_path / ".hidden", "e.png")
    assert [case for _, case in named(tmp_path)] == ["a", "b", "d", "z"]


def test_inputs_keep_the_order_as_given(tmp_path: Path) -> None:
    touch(tmp_path / "a", "2.png", "1.png")
    touch(tmp_path / "b", "0.png")
    assert [case for _, case in named(tmp_path / "b", "gone.nii", tmp_path / "a")] == ["0", "gone", "1", "2"]


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "a.png")
    touch(tmp_path / "data")
    os.symlink(tmp_path / "disk", tmp_path / "data" / "link")
    os.symlink(tmp_path / "data", tmp_path / "disk" / "circle")
    assert [case for _, case in named(tmp_path / "data")] == ["a"]


def test_dicom_files_are_grouped_by_series_and_films_are_studies_of_their_own(tmp_path: Path) -> None:
    first = write_series(tmp_path / "mixed", VOLUME, np.eye(4), SeriesInstanceUID="1.2.3")
    for file in first:
        file.rename(file.with_name(f"{file.stem}_other"))  # no suffix: known by its content
    second = write_series(tmp_path / "mixed", VOLUME, np.eye(4), SeriesInstanceUID="1.2.4")
    film = write_film(tmp_path / "film.dcm", FILM, SOPInstanceUID="1.2.5")
    same_series = {"StudyInstanceUID": "1.9", "SeriesInstanceUID": "1.9.1"}
    mammograms = [
        write_film(tmp_path / f"mg{view}.dcm", FILM, Modality="MG", ImagePositionPatient=[0, 0, 0], **same_series)
        for view in (1, 2)
    ]
    cine = write_cine(tmp_path / "cine.dcm", VOLUME.astype(np.uint8))
    items = find_studies(tmp_path, pseudonymise=True)
    images = [item["image"] for item in items]
    assert images[:4] == [str(path) for path in (cine, film, *mammograms)]
    assert images[4] == [str(path) for path in second]
    assert images[5] == [str(path.with_name(f"{path.stem}_other")) for path in first]
    assert [item["case"] for item in items][1::4] == [hashed("1.2.5"), hashed("1.2.3")]


@pytest.mark.parametrize("lost", ["ImagePositionPatient", "SeriesInstanceUID"])
def test_slices_that_lost_their_position_or_series_are_one_study(tmp_path: Path, lost: str) -> None:
    write_series(tmp_path / "head", VOLUME, np.eye(4), **{lost: None})
    assert [case for _, case in named(tmp_path)] == ["head"]


def test_series_is_named_after_its_folder(tmp_path: Path) -> None:
    write_series(tmp_path / "patient_7", VOLUME, np.eye(4))
    assert [case for _, case in named(tmp_path)] == ["patient_7"]


def test_series_in_two_folders_is_one_study(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a", VOLUME, np.eye(4))
    (tmp_path / "b").mkdir()
    moved = shutil.move(files[0], tmp_path / "b" / "first.dcm")
    (item,) = find_studies([tmp_path / "b", tmp_path / "a"])
    assert item["image"] == [str(files[1]), str(files[2]), str(moved)]


def test_study_named_twice_counts_once_and_is_reported(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    files = write_series(tmp_path / "series", VOLUME, np.eye(4))
    touch(tmp_path, "a.png")
    items = find_studies([tmp_path, tmp_path / "a.png", files[1], tmp_path / "series"])
    assert [item["image"] for item in items] == [str(tmp_path / "a.png"), [str(file) for file in files]]
    assert "Ignored 5 files that were named more than once." in caplog.text


def test_files_that_are_not_images_are_skipped_and_counted_by_kind(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "Doe^Jane"
    write_film(folder / "film.dcm", FILM)
    write_film(folder / "seg.dcm", FILM, Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    write_film(folder / "map.dcm", FILM, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.30")
    for number in range(2):
        write_film(folder / f"report{number}.dcm", FILM, Modality="SR", Rows=None, Columns=None)
    write_film(folder / "state", FILM, Modality="PR", Rows=None, Columns=None)
    write_film(folder / "dose", FILM, Modality="RTDOSE")
    touch(folder, "run.json", "notes.txt", "LICENSE", "1.john_smith", "scan.Doe")
    assert [Path(item["image"]).name for item in find_studies(folder)] == ["film.dcm"]
    assert (
        "Skipped 11 files that are not images: 1 .json, 1 .txt, 1 DICOM PR, 1 DICOM RT, 1 DICOM SEG, 2 DICOM SR, "
        "1 DICOM parametric map, 2 of another type, 1 without suffix." in caplog.text
    )
    assert len(caplog.records) == 1 and PATIENT not in caplog.text


def test_results_of_a_run_are_skipped(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    touch(tmp_path / "out" / "head", "map.nii.gz")
    touch(tmp_path / "theirs", "c.png")
    touch(tmp_path, "head.nii.gz")
    (tmp_path / "out" / "run.json").write_text('{"fingerprint": {}}')
    (tmp_path / "theirs" / "run.json").write_text('["fingerprint of another program"]')
    assert [case for _, case in named(tmp_path)] == ["head", "c"]
    assert "Skipped 3 files that are not images: 1 .json, 2 of Nomaly's results." in caplog.text


def test_results_beside_their_studies_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "a", "map.nii.gz")
    touch(tmp_path / "b", "mine.nii.gz")
    touch(tmp_path / "records", "a.json")
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "run.json").write_text('{"fingerprint": {}}')
    assert [case for _, case in named(tmp_path)] == ["a", "mine"]


def test_studies_in_a_results_folder_are_read_and_only_the_results_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "data" / "P1", "head.nii.gz", "map.nii.gz", "mask.nii.gz")
    touch(tmp_path / "data" / "P2", "map.nii.gz")
    (tmp_path / "data" / "run.json").write_text('{"fingerprint": {}, "files": ["run.json", "results.csv"]}')
    list_own(tmp_path / "data" / "P1", ["map.nii.gz"])
    for inputs in (tmp_path, tmp_path / "data"):
        assert [Path(image).name for image, _ in named(inputs)] == ["head.nii.gz", "mask.nii.gz", "map.nii.gz"]


def test_own_dicom_map_of_a_film_is_skipped(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    write_film(tmp_path / "film.dcm", FILM)
    write_film(tmp_path / "map.dcm", FILM, Manufacturer="Nomaly")
    assert [case for _, case in named(tmp_path)] == ["film"]
    assert "Skipped 1 files that are not images: 1 DICOM Nomaly result." in caplog.text


def test_dicomdir_is_skipped(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.dcm", FILM)
    index = pydicom.dcmread(film)
    index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    for tag in ("SOPClassUID", "Rows", "Columns", "PixelData"):
        delattr(index, tag)
    index.save_as(tmp_path / "DICOMDIR")
    assert [case for _, case in named(tmp_path)] == ["film"]


def test_broken_dicom_file_in_a_folder_stays_to_fail(tmp_path: Path) -> None:
    write_film(tmp_path / "film.dcm", FILM)
    (tmp_path / "broken.dcm").write_bytes(b"\x08\x00" * 500)
    touch(tmp_path, "empty.dcm")
    assert [case for _, case in named(tmp_path)] == ["broken", "empty", "film"]


@pytest.mark.parametrize("name", ["gone.nii", "gone", "gone.txt"])
def test_missing_path_stays_to_fail_with_its_own_reason(tmp_path: Path, name: str) -> None:
    assert named(tmp_path / name) == [(str(tmp_path / name), name.removesuffix(".nii"))]


def test_file_named_by_the_user_stays_whatever_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "run.json", "LICENSE")
    report = write_film(tmp_path / "report.dcm", FILM, Modality="SR", Rows=None, Columns=None)
    paths = [tmp_path / "run.json", tmp_path / "LICENSE", report]
    assert [image for image, _ in named(*paths)] == [str(path) for path in paths]


def test_folder_without_permission_stays_to_fail(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path / "open", "a.png")
    touch(tmp_path / "closed", "b.png")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    images = {image for image, _ in named(tmp_path)}
    assert images == {str(tmp_path / "open" / "a.png"), str(tmp_path / "closed")}
    assert named(tmp_path / "closed") == [(str(tmp_path / "closed"), "closed")]


def test_file_without_permission_in_a_folder_stays_to_fail(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path, "unknown")
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError()))
    assert named(tmp_path) == [(str(tmp_path / "unknown"), "unknown")]


def test_folder_that_yields_nothing_stays_if_another_input_yields(tmp_path: Path) -> None:
    touch(tmp_path / "empty", "run.json")
    assert [image for image, _ in named(tmp_path / "empty", "x.png")] == ["x.png", str(tmp_path / "empty")]


@pytest.mark.parametrize("studies", [[], ["{tmp_path}"]])
def test_nothing_to_read_is_refused_with_what_can_be(studies: list[str], tmp_path: Path) -> None:
    touch(tmp_path, "run.json")
    message = r"studies must name at least one study, got (nothing|/.*): give image files \(\.nii\.gz, .*\), a folder"
    with pytest.raises(NomalyError, match=message):
        find_studies([word.format(tmp_path=tmp_path) for word in studies])


def test_list_names_paths_relative_to_its_folder(tmp_path: Path) -> None:
    touch(tmp_path / "images", "a.png", "b.png")
    absolute = tmp_path / "other" / "c.nii"
    (tmp_path / "list.txt").write_text(f"\ufeff# a comment\r\n\r\nimages\r\n  gone.png \r\n{absolute}\n", "utf-8")
    assert [case for _, case in named(tmp_path / "list.txt")] == ["a", "b", "gone", "c"]


def test_empty_folder_in_a_list_stays_to_fail(tmp_path: Path) -> None:
    touch(tmp_path / "empty")
    (tmp_path / "list.txt").write_text("empty\na.png\n")
    assert [case for _, case in named(tmp_path / "list.txt")] == ["empty", "a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"# nothing\n",
            "a list of studies must name at least one path, but .*list.txt is empty; write one path per line",
        ),
        (b"\xff\xfe\x00\xd8", "a list of studies must be readable text, got .*list.txt .*; correct it"),
        (b"a.png\nb\0.png\n", r"must be readable text, got .*list.txt \(it contains a NUL byte\); correct it"),
    ],
)
def test_list_that_names_nothing_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(NomalyError, match=message):
        find_studies(tmp_path / "list.txt")


@pytest.mark.parametrize("name", ["", "datalist.json"])
def test_datalist_gives_its_test_section_with_all_fields(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "t.png", "v.png")
    test = [{"image": "t.png", "label": 1, "case": "mine", "group": "mass"}]
    (tmp_path / "datalist.json").write_text(json.dumps({"validation": [{"image": "v.png"}], "test": test}))
    (item,) = find_studies(tmp_path / name)
    assert item == {**test[0], "image": str(tmp_path / "t.png"), "subject": "mine"}


def test_datalist_without_a_test_section_gives_all_others(tmp_path: Path) -> None:
    touch(tmp_path, "t.png", "v.png")
    sections = {"training": [{"image": "t.png"}], "validation": [{"image": "v.png"}]}
    (tmp_path / "datalist.json").write_text(json.dumps(sections))
    assert [item["case"] for item in find_studies(tmp_path)] == ["t", "v"]


def test_pseudonyms_of_a_datalist_without_names_do_not_reveal_those_of_files(tmp_path: Path) -> None:
    touch(tmp_path, "John_Smith.png", "Jane_Doe.png")
    test = [{"image": "John_Smith.png", "label": 0}, {"image": "Jane_Doe.png", "label": 0, "subject": "s7"}]
    (tmp_path / "datalist.json").write_text(json.dumps({"test": test}))
    first, second = (hashed(str(tmp_path / item["image"])) for item in test)
    found = [(item["case"], item["subject"]) for item in find_studies(tmp_path, pseudonymise=True)]
    assert found == [(first, first), (second, "s7")]


def test_hash_sign_within_a_line_of_a_list_is_part_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a #1.png\n")
    assert [case for _, case in named(tmp_path / "list.txt")] == ["a #1"]


@pytest.mark.parametrize(
    ("files", "cases"),
    [
        (["1/t1.nii", "2/t1.nii", "3/t1.nii.gz"], ["1_t1", "2_t1", "3_t1"]),
        (["1/t1.nii", "2/t1.nii", "1_t1.nii"], ["1_t1", "2_t1", "1_t1_2"]),
        (["t1_2.nii", "1/t1.nii", "2/T1.nii", "t2.nii"], ["t1_2", "1_t1", "2_T1", "t2"]),
        (["a/1/t.nii", "b/1/t.nii", "b/2/t.nii"], ["a_1_t", "b_1_t", "b_2_t"]),
        (["1/t.nii", "1/t.png", "2/s.nii"], ["t", "t_2", "s"]),
    ],
)
def test_files_of_one_name_are_told_apart_by_their_folders(files: list[str], cases: list[str]) -> None:
    assert [case for _, case in named(*files)] == cases


def test_images_of_every_format_in_a_folder_are_studies(tmp_path: Path) -> None:
    touch(tmp_path, "a.webp", "b.gif", "c.jp2", "d.pgm", "e.jfif", "f.mgz", "g.mnc", "h.nhdr", "i.heic", "j.par")
    assert [Path(item["image"]).name for item in find_studies(tmp_path)] == sorted(os.listdir(tmp_path))


def test_pair_of_header_and_values_is_one_study(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    touch(tmp_path, "a.hdr", "a.img", "b.img")
    assert [Path(item["image"]).name for item in find_studies(tmp_path)] == ["a.hdr", "b.img"]
    assert [Path(item["image"]).name for item in find_studies(tmp_path / "a.img")] == ["a.hdr"]
    assert not caplog.records
