"""The folder of a run: refusals, going on, what is cleared and what is left alone."""

from __future__ import annotations

import csv
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from custom.errors import NomalyError
from custom.runs.folder import RunFolder
from custom.runs.records import StudyRecord, source_digest
from custom.runs.tables import StudyResult, write_results_csv
from custom.studies.own_files import list_own, own_files

ITEMS = [{"image": f"/in/{case}.png", "case": case} for case in "cab"]
FINGERPRINT = {"model": "m", "calibration": "c", "decision_rule": {"alpha": 0.05}}


def begun(folder: Path, items=ITEMS, **settings) -> RunFolder:
    run = RunFolder(folder, items, **settings)
    run.check(FINGERPRINT)
    run.begin({"fingerprint": FINGERPRINT})
    return run


def done(run: RunFolder, *cases: str) -> None:
    for case in cases:
        (run.folder / case).mkdir(exist_ok=True)
        (run.folder / case / "map.png").write_bytes(b"map")
        run.records.write(StudyRecord(StudyResult(case, score=1.0), [], source=source_digest(f"/in/{case}.png")))


def test_rows_come_in_the_order_of_the_studies_and_a_lost_one_says_so(tmp_path: Path) -> None:
    run = begun(tmp_path)
    done(run, "a", "c")
    rows, regions = run.gather()
    assert [(row.study, row.status) for row in rows] == [("c", "ok"), ("a", "ok"), ("b", "failed")]
    assert rows[2].error.startswith("no record was found: all machines of a run must share one output_dir")
    assert list(regions) == ["c", "a"]


def test_results_of_a_stopped_run_are_not_touched_without_leave(tmp_path: Path) -> None:
    done(begun(tmp_path), "a")
    message = (
        r"already contains results \(records\): choose another output_dir, resume true to continue that run, or over"
    )
    with pytest.raises(NomalyError, match=message):
        RunFolder(tmp_path, ITEMS).check(FINGERPRINT)
    with pytest.raises(NomalyError, match="overwrite and resume must not both be true"):
        RunFolder(tmp_path, ITEMS, overwrite=True, resume=True)


@pytest.mark.parametrize("lost", [True, False])
def test_mistyped_path_does_not_block_the_corrected_run(tmp_path: Path, lost: bool) -> None:
    run = begun(tmp_path)
    rows = [StudyResult("typo", "failed", error="file not found"), StudyResult("other", "ok", score=1.0)]
    for row in rows[: 1 if lost else 2]:
        run.records.write(StudyRecord(row, []))
    write_results_csv(rows[: 1 if lost else 2], tmp_path / "results.csv")
    run.release()
    if lost:
        begun(tmp_path)
        assert not (tmp_path / "results.csv").exists() and not (tmp_path / "records").exists()
    else:
        with pytest.raises(NomalyError, match="already contains results"):
            begun(tmp_path)


def test_going_on_keeps_what_is_done_and_removes_half_written_files(tmp_path: Path) -> None:
    done(begun(tmp_path), "a")
    half = [
        tmp_path / ".run.json.0a1b2c3d.tmp",
        tmp_path / "a" / ".map.png.0a1b2c3d.tmp",
        tmp_path / "records" / ".b.json.0a1b2c3d.tmp",
    ]
    own = [tmp_path / ".mine", tmp_path / "a" / ".notes.tmp.docx"]
    for path in (*half, *own):
        path.write_text("half")
    run = begun(tmp_path, resume=True)
    assert not any(path.exists() for path in half) and all(path.exists() for path in own)
    assert run.records.done(ITEMS) == {"a"} and (tmp_path / "a" / "map.png").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "other"}, "model"),
        ({"calibration": "other", "decision_rule": {"alpha": 0.1}}, "calibration, decision rule"),
    ],
)
def test_going_on_with_another_model_or_rule_is_refused(tmp_path: Path, change: dict, named: str) -> None:
    done(begun(tmp_path), "a")
    with pytest.raises(
        NomalyError, match=f"made with a different {named}. Repeat the options of that run, choose another"
    ):
        RunFolder(tmp_path, ITEMS, resume=True).check({**FINGERPRINT, **change})


def test_going_on_with_a_run_whose_information_is_broken_is_refused(tmp_path: Path) -> None:
    done(begun(tmp_path), "a")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(NomalyError, match="a different model, calibration, decision rule. Repeat"):
        RunFolder(tmp_path, ITEMS, resume=True).check(FINGERPRINT)


def test_overwriting_removes_the_studies_of_the_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    done(begun(tmp_path), "a", "b")
    (tmp_path / "b" / "my_notes.txt").write_text("kept")
    (tmp_path / "results.csv").write_text("old")
    run = begun(tmp_path, overwrite=True)
    run.release()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "b",
        "b/my_notes.txt",
        "run.json",
    ]
    assert run.records.done(ITEMS) == set()


def test_run_that_cannot_be_gone_on_with_leaves_no_records(tmp_path: Path) -> None:
    run = begun(tmp_path, resumable=False)
    done(run, "a")
    run.release()
    again = begun(tmp_path, resumable=False)  # stopped before its table: there is nothing to lose
    assert again.records.done(ITEMS) == set()
    done(again, "a")
    again.end()
    assert not again.records.folder.exists()


def test_key_tells_the_owner_alone_which_files_a_hidden_name_stands_for(tmp_path: Path) -> None:
    items = [
        {"image": "/in/Doe Jane.png", "case": "case-1", "private": True},
        {"image": ["/in/s/1.dcm", "/in/s/2.dcm"], "case": "case-2", "private": True},
        {"image": "/in/open.png", "case": "open", "private": False},
    ]
    begun(tmp_path, items)
    with open(tmp_path / "key.csv", newline="") as file:
        assert [*csv.reader(file)] == [
            ["study", "files", "path", "first_file"],
            ["case-1", "1", "/in/Doe Jane.png", "/in/Doe Jane.png"],
            ["case-2", "2", "/in/s", "/in/s/1.dcm"],
        ]
    if os.name != "nt":  # Windows has no such permissions
        assert stat.S_IMODE((tmp_path / "key.csv").stat().st_mode) == 0o600
    begun(tmp_path, items[2:], overwrite=True)
    assert not (tmp_path / "key.csv").exists()
    assert json.loads((tmp_path / "run.json").read_text())["fingerprint"] == FINGERPRINT


def test_folder_on_a_disk_that_became_read_only_is_told_in_a_sentence(tmp_path: Path, monkeypatch) -> None:
    done(begun(tmp_path), "a")
    (tmp_path / "results.csv").write_text("old")

    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(NomalyError, match="Cannot write .*results.csv: Read-only file system.* choose a folder on a"):
        begun(tmp_path, overwrite=True)


@pytest.mark.parametrize("settings", [{}, {"overwrite": True}, {"resume": True}])
@pytest.mark.parametrize(
    "name",
    [
        *("report.html", "results.csv", "key.csv", "regions.csv", "run.json", "metrics.json", "records/a.json"),
        *("a/mask.nii.gz", "b/segmentation.dcm", "c/map.png", "c/report.dcm"),
    ],
)
def test_files_that_no_run_wrote_are_never_replaced(tmp_path: Path, name: str, settings: dict) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(NomalyError, match=rf"that no run of Nomaly wrote \(\S*{name}\): choose another output_dir"):
        RunFolder(tmp_path, ITEMS, resumable=False, **settings).check(FINGERPRINT)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_files_that_this_run_does_not_write_are_left_alone(tmp_path: Path) -> None:
    own = [tmp_path / name for name in ("metrics.json", ".lock", "a/mask.nii.gz", "a/notes.txt")]
    (tmp_path / "a").mkdir()
    for path in own:
        path.write_text("mine")
    run = begun(tmp_path, overwrite=True, images=False)
    run.end()
    assert [path.read_text() for path in own] == ["mine"] * len(own)


def test_overwriting_replaces_what_the_earlier_run_lists_and_refuses_the_rest(tmp_path: Path) -> None:
    done(begun(tmp_path), "a")
    (tmp_path / "run.json").write_text(json.dumps({"fingerprint": {}, "files": ["run.json", "results.csv"]}))
    list_own(tmp_path / "a", ["map.png"])
    (tmp_path / "a" / "segmentation.dcm").write_text("drawn by a radiologist")
    with pytest.raises(NomalyError, match=r"no run of Nomaly wrote \(\S*a/segmentation.dcm\)"):
        RunFolder(tmp_path, ITEMS, overwrite=True).check(FINGERPRINT)
    (tmp_path / "a" / "segmentation.dcm").unlink()
    begun(tmp_path, overwrite=True).release()
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_tables_of_an_evaluation_are_removed_by_a_detection_that_overwrites_it(tmp_path: Path) -> None:
    files = RunFolder(tmp_path, ITEMS, resumable=False).files
    (tmp_path / "run.json").write_text(json.dumps({"fingerprint": {}, "files": files}))
    (tmp_path / "metrics.json").write_text("{}")
    begun(tmp_path, overwrite=True)
    assert not (tmp_path / "metrics.json").exists()


def test_images_of_an_earlier_release_are_listed_when_its_run_is_resumed(tmp_path: Path) -> None:
    done(begun(tmp_path), "a")
    begun(tmp_path, resume=True).release()
    (tmp_path / "a" / "mask.png").write_text("mine")  # after that
    assert own_files(tmp_path / "a") == {"map.png"}


def test_second_run_at_once_is_kept_out_until_the_first_ends(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with pytest.raises(NomalyError, match="another run is using output_dir .*: wait until it ends"):
        begun(tmp_path)
    run.end()
    assert not (tmp_path / ".nomaly.lock").exists()
    begun(tmp_path)


def test_key_of_a_run_that_goes_on_keeps_its_lines(tmp_path: Path) -> None:
    items = [{"image": f"/in/{name}.png", "case": f"case-{name}", "private": True} for name in "ab"]
    begun(tmp_path, items[:1]).release()
    begun(tmp_path, items[1:], resume=True)
    with open(tmp_path / "key.csv", newline="") as file:
        assert [row["study"] for row in csv.DictReader(file)] == ["case-a", "case-b"]


def test_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    begun(tmp_path, [{"image": os.fsdecode(b"/in/M\xfcller.png"), "case": "case-1", "private": True}])
    assert "M\\udcfcller.png" in (tmp_path / "key.csv").read_text()


def test_run_information_of_another_program_is_refused(tmp_path: Path) -> None:
    done(begun(tmp_path), "a")
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(NomalyError, match="a different model, calibration, decision rule. Repeat"):
        RunFolder(tmp_path, ITEMS, resume=True).check(FINGERPRINT)
