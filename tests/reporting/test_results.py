from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from custom.errors import NomalyError
from custom.reporting.results import (
    StudyResult,
    read_results_csv,
    software_versions,
    weight_hash,
    write_results_csv,
    write_run_info,
)

HEADER = "study,status,score,p_value,decision,lesion_count,lesion_volume,lesion_unit,seconds,error"


def test_csv_reads_back_exactly_what_was_written(tmp_path):
    rows = [
        StudyResult("b", "ok", 0.1 + 0.2, 1 / 41, "flag", 2, 3.25, "ml", 1.5),
        StudyResult('a, "quoted"\nname', "ok", -1e-9, 1.0, "normal", 0, 0.0, "mm2", 0.25),
        StudyResult("c", "failed", error="file, cut off; copy it again"),
    ]
    write_results_csv(rows, tmp_path / "results.csv")
    assert read_results_csv(tmp_path / "results.csv") == rows


def test_csv_has_the_agreed_columns_and_empty_cells(tmp_path):
    path = tmp_path / "results.csv"
    write_results_csv([StudyResult("s1", score=0.5, seconds=2), StudyResult("s2", "failed", error="why")], path)
    assert path.read_text().splitlines() == [HEADER, "s1,ok,0.5,,,,,,2.0,", "s2,failed,,,,,,,,why"]


def test_reading_a_foreign_table_names_the_expected_header(tmp_path):
    (tmp_path / "other.csv").write_text("id,value\n1,2\n")
    with pytest.raises(NomalyError, match="must be study,status,score.*got id,value"):
        read_results_csv(tmp_path / "other.csv")


def test_reading_a_missing_table_names_its_path(tmp_path):
    with pytest.raises(NomalyError, match=r"nowhere\.csv must be a file, found none"):
        read_results_csv(tmp_path / "nowhere.csv")


def test_zero_dimensional_tensors_and_arrays_become_plain_numbers():
    result = StudyResult("s", score=torch.tensor(0.5), p_value=np.float64(0.25), lesion_count=np.int64(3))
    assert [type(v) for v in (result.score, result.p_value, result.lesion_count)] == [float, float, int]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "done"}, "status must be one of ok, failed, got 'done'"),
        ({"decision": "abnormal"}, "decision must be one of flag, normal, got 'abnormal'"),
        ({"lesion_unit": "cm3"}, "lesion_unit must be one of ml, mm2, px, got 'cm3'"),
        ({"status": "failed"}, "error of study 's' must say why it failed"),
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


def test_weight_hash_ignores_the_order_of_entries():
    a, b = torch.arange(3.0), torch.tensor(5)
    assert weight_hash({"a": a, "b": b}) == weight_hash({"b": b, "a": a})


def test_weight_hash_is_sha256_of_header_and_bytes():
    # sha256(b"w|torch.uint8|(2,)|" + bytes([1, 2])), from the sha256sum command
    assert weight_hash({"w": torch.tensor([1, 2], dtype=torch.uint8)}) == "2d7be7366a5ad2a5"


@pytest.mark.parametrize(
    "other",
    [
        {"w": torch.tensor([0.0, 1.0 + 2**-20])},
        {"v": torch.tensor([0.0, 1.0])},
        {"w": torch.tensor([[0.0, 1.0]])},
        {"w": torch.tensor([0.0, 1.0]).view(torch.int32)},
        {"w": torch.tensor([0.0, 1.0]), "x": torch.empty(0)},
    ],
    ids=["value", "name", "shape", "dtype", "entry"],
)
def test_weight_hash_changes_with_each_thing_it_covers(other):
    assert weight_hash(other) != weight_hash({"w": torch.tensor([0.0, 1.0])})


def test_weight_hash_reads_views_and_low_precision_tensors():
    table = torch.arange(6.0).reshape(2, 3)
    assert weight_hash({"w": table.t()}) == weight_hash({"w": table.t().contiguous()})
    assert len(weight_hash({"h": torch.ones(2, dtype=torch.bfloat16), "flag": torch.tensor(True)})) == 16


def test_weight_hash_refuses_an_entry_without_tensor():
    with pytest.raises(NomalyError, match=r"state_dict\['step'\] must be a tensor, got int"):
        weight_hash({"step": 3})
