from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from custom.errors import NomalyError
from custom.runs.tables import (
    RegionResult,
    StudyResult,
    read_results_csv,
    software_versions,
    write_regions_csv,
    write_results_csv,
    write_run_info,
)

HEADER = (
    "study,status,score,p_value,decision,group,kind,healthy_studies,score_map,score_structure,score_code,score_patches,"
    "region_count,region_size,region_unit,seconds,note,error"
)


def test_csv_reads_back_exactly_what_was_written(tmp_path):
    rows = [
        StudyResult(
            "b",
            "ok",
            0.1 + 0.2,
            1 / 41,
            "flag",
            "scanner A",
            "volume",
            40,
            2.5,
            -0.5,
            None,
            1.25,
            2,
            3.25,
            "ml",
            1.5,
            "look, twice",
        ),
        StudyResult(
            'a, "quoted"\nname',
            "ok",
            -1e-9,
            1.0,
            "likely_normal",
            None,
            "image",
            19,
            None,
            None,
            None,
            None,
            0,
            0.0,
            "mm2",
            0.25,
        ),
        StudyResult("c", "failed", error="file, cut off; copy it again"),
    ]
    write_results_csv(rows, tmp_path / "results.csv")
    assert read_results_csv(tmp_path / "results.csv") == rows


def test_csv_has_the_agreed_columns_and_empty_cells(tmp_path):
    path = tmp_path / "results.csv"
    write_results_csv([StudyResult("s1", score=0.5, seconds=2), StudyResult("s2", "failed", error="why")], path)
    assert path.read_text().splitlines() == [HEADER, "s1,ok,0.5,,,,,,,,,,,,,2.0,,", "s2,failed,,,,,,,,,,,,,,,,why"]


def test_lesions_have_a_table_of_their_own_with_places_and_p_values(tmp_path):
    volume = RegionResult("s1", 1, 2.5, "ml", -10.0, 4.5, 30.0, "mm", peak=0.9, mass=12.5, p_value=0.05)
    picture = RegionResult("s2", 1, 40.0, "px", 12.0, 7.0, None, "px", peak=0.4, mass=3.0)
    write_regions_csv([volume, picture], tmp_path / "regions.csv")
    assert (tmp_path / "regions.csv").read_text().splitlines() == [
        "study,region,size,unit,x,y,z,position_unit,peak,mass,p_value",
        "s1,1,2.5,ml,-10.0,4.5,30.0,mm,0.9,12.5,0.05",
        "s2,1,40.0,px,12.0,7.0,,px,0.4,3.0,",
    ]
    with pytest.raises(NomalyError, match="position_unit must be one of mm, px, got 'cm'"):
        RegionResult("s2", 1, 40.0, "px", 12.0, 7.0, None, "cm", peak=0.4, mass=3.0)


def test_reading_another_table_names_the_columns_that_are_missing(tmp_path):
    (tmp_path / "other.csv").write_text("study,value\n1,2\n")
    with pytest.raises(NomalyError, match="but lacks status, score, p_value, decision. Name the results.csv of a run"):
        read_results_csv(tmp_path / "other.csv")


def test_table_of_another_release_is_read_by_its_names(tmp_path):
    header = "study,status,score,p_value,decision,lesion_count,lesion_volume,lesion_unit,added_later"
    (tmp_path / "results.csv").write_text(f"{header}\na,ok,0.5,0.04,flag,2,3.5,ml,x\n")
    expected = StudyResult("a", "ok", 0.5, 0.04, "flag", region_count=2, region_size=3.5, region_unit="ml")
    assert read_results_csv(tmp_path / "results.csv") == [expected]


def test_reading_a_missing_table_names_its_path(tmp_path):
    with pytest.raises(NomalyError, match=r"results table not found: .*nowhere\.csv"):
        read_results_csv(tmp_path / "nowhere.csv")


def test_zero_dimensional_tensors_and_arrays_become_plain_numbers():
    result = StudyResult("s", score=torch.tensor(0.5), p_value=np.float64(0.25), region_count=np.int64(3))
    assert [type(v) for v in (result.score, result.p_value, result.region_count)] == [float, float, int]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "done"}, "status must be one of ok, failed, not_assessable, got 'done'"),
        ({"decision": "abnormal"}, "decision must be one of flag, uncertain, likely_normal, got 'abnormal'"),
        ({"region_unit": "cm3"}, "region_unit must be one of ml, mm2, px, got 'cm3'"),
        ({"status": "failed"}, "error of study 's' must state why it failed"),
        ({"score": math.nan}, "score of study 's' must be finite, got nan"),
    ],
)
def test_result_that_the_table_cannot_mean_is_refused(fields, message):
    with pytest.raises(NomalyError, match=message):
        StudyResult("s", **fields)


def test_run_info_adds_versions_and_keeps_those_given(tmp_path):
    written = write_run_info(tmp_path / "run.json", {"seed": 7, "versions": {"monai": "given", "cuda": "12.8"}})
    stored = json.loads((tmp_path / "run.json").read_text())
    assert stored == written
    assert stored["versions"] == {**software_versions(), "monai": "given", "cuda": "12.8"}
    assert set(software_versions()) == {"nomaly", "python", "torch", "monai", "numpy"}


def test_run_info_turns_every_value_into_strict_json(tmp_path):
    info = {
        "path": Path("a/b"),
        "device": torch.device("cpu"),
        "shape": (1, np.int64(2)),
        "nan": math.nan,
        "deep": {"x": [np.float32("inf")]},
        "tensor": torch.tensor([1, 2]),
    }
    write_run_info(tmp_path / "run.json", info)
    stored = json.loads((tmp_path / "run.json").read_text(), parse_constant=pytest.fail)
    del stored["versions"]
    assert stored == {
        "path": "a/b",
        "device": "cpu",
        "shape": [1, 2],
        "nan": None,
        "deep": {"x": [None]},
        "tensor": [1, 2],
    }


def test_table_saved_by_a_spreadsheet_program_is_read(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("\ufeffstudy,status,score,p_value,decision,region_count\r\na,ok,0.5,0.04,flag,2.0\r\n", "utf-8")
    assert read_results_csv(path) == [StudyResult("a", "ok", 0.5, 0.04, "flag", region_count=2)]


@pytest.mark.parametrize("row", [b"a,ok,high,0.04,flag", b"a,ok,0.5,0.04,flag\nM\xfcller,ok,0.5,0.04,flag"])
def test_row_with_invalid_values_is_named_by_its_line(tmp_path, row):
    (tmp_path / "results.csv").write_bytes(b"study,status,score,p_value,decision\n" + row + b"\n")
    with pytest.raises(NomalyError, match=r"results.csv, line \d, is not a row of a results table: .*(float|decode)"):
        read_results_csv(tmp_path / "results.csv")
