"""Records of studies: read back as written, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from custom.rendering.case_view import case_view
from custom.runs.records import StudyRecord, StudyRecords, source_digest
from custom.runs.tables import RegionResult, StudyResult

LESION = RegionResult("a", 1, 2.5, "ml", 1.0, 2.0, 3.0, "mm", 0.7, 0.4, 0.2)


def view():
    """Layers of a small volume with a region in one slice and a reference in another."""
    image = np.linspace(0, 1, 1 * 6 * 5 * 3, dtype=np.float32).reshape(1, 6, 5, 3)
    regions, truth = np.zeros((1, 6, 5, 3), int), np.zeros((1, 6, 5, 3))
    regions[0, 1:3, 1:3, 1] = 1
    truth[0, 4, 4, 2] = 1
    return case_view(image, image, image, regions, truth, vmax=0.5, spacing=(2.0, 1.0))


@pytest.mark.parametrize("layers", [None, view()])
def test_record_is_read_back_as_it_was_written(tmp_path: Path, layers) -> None:
    record = StudyRecord(StudyResult("a", score=0.25, decision="flag", note="ä"), [LESION], layers)
    records = StudyRecords(tmp_path)
    records.write(record)
    assert records.read("a") == record
    assert records.read("a", with_view=False) == StudyRecord(record.result, [LESION])


def test_failed_and_unknown_studies_are_still_to_be_done(tmp_path: Path) -> None:
    records = StudyRecords(tmp_path)
    items = [{"case": case, "image": f"{case}.png"} for case in "abcd"]
    for row in (
        StudyResult("a", score=1.0),
        StudyResult("b", "failed", error="x"),
        StudyResult("c", "not_assessable", note="x"),
    ):
        records.write(StudyRecord(row, [], source=source_digest(f"{row.study}.png")))
    assert records.done(items) == {"a", "c"} and [*records.cases()] == ["a", "b", "c"]
    records.clear()
    assert records.done(items) == set() and not records.folder.exists()


def test_study_whose_files_changed_is_still_to_be_done(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.dcm" for number in range(3)]
    for file in files:
        file.write_text("slice")
    records, item = StudyRecords(tmp_path), {"case": "a", "image": [str(file) for file in files]}
    records.write(StudyRecord(StudyResult("a", score=1.0), [], source=source_digest(item["image"])))
    assert records.done([item]) == records.done([{**item, "image": item["image"][::-1]}]) == {"a"}
    assert records.done([{**item, "image": item["image"][:2]}]) == set()  # a slice fewer
    assert records.done([{**item, "image": str(files[0])}]) == set()  # another study of this name
    files[1].write_text("another slice")
    assert records.done([item]) == set()


def test_clearing_leaves_what_is_no_record_alone(tmp_path: Path) -> None:
    records = StudyRecords(tmp_path)
    records.write(StudyRecord(StudyResult("a", score=1.0), []))
    for name in ("letter.doc", "own.json"):
        (records.folder / name).write_text("{}")
    records.clear()
    assert sorted(path.name for path in records.folder.iterdir()) == ["letter.doc", "own.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"result": {"status": "ok"}, "regions": []})])
def test_record_that_cannot_be_read_is_as_if_it_were_not_there(tmp_path: Path, content: str) -> None:
    records = StudyRecords(tmp_path)
    records.folder.mkdir()
    (records.folder / "a.json").write_text(content)
    assert records.read("a") is None and records.done([{"case": "a", "image": "a.png"}]) == set()


def test_record_of_the_previous_release_is_read_by_its_column_names(tmp_path: Path) -> None:
    records = StudyRecords(tmp_path)
    records.write(StudyRecord(StudyResult("a", score=1.0, region_count=2, region_unit="ml"), []))
    file = tmp_path / "records" / "a.json"
    file.write_text(file.read_text().replace("region_count", "lesion_count").replace("region_unit", "lesion_unit"))
    record = records.read("a")
    assert record is not None and (record.result.region_count, record.result.region_unit) == (2, "ml")
