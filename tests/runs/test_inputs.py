"""Which studies a run is about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom.errors import NomalyError
from custom.runs.inputs import baseline_items, calibration_items, evaluation_items, inference_items
from custom.synthetic.head_lesions import GROUPS

HEALTHY = [{"image": f"h{i}.png", "case": f"h{i}", "subject": f"h{i}", "label": 0} for i in range(2)]
ABNORMAL = [{"image": "a.png", "case": "a", "subject": "a", "label": 1, "group": "mass"}]


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_users_studies_come_before_the_test_section() -> None:
    assert inference_items(None, {"test": ABNORMAL}) == ABNORMAL
    (item,) = inference_items("x.png", {"test": ABNORMAL})
    assert item == {"image": "x.png", "case": "x", "private": False}


def test_calibration_studies_are_healthy_whatever_was_named(tmp_path: Path) -> None:
    assert calibration_items(None, {"validation": HEALTHY}) == HEALTHY
    touch(tmp_path, "x.png")
    (item,) = calibration_items([str(tmp_path / "x.png")], None, pseudonymise=True)
    assert (item["image"], item["label"], item["private"]) == (str(tmp_path / "x.png"), 0, True)


def test_mistyped_path_of_healthy_studies_is_named_and_one_of_several_fails_alone(tmp_path: Path) -> None:
    touch(tmp_path, "x.png")
    message = "^healthy studies not found: nowhere, y.png. Check the paths for spelling and mounts.$"
    with pytest.raises(NomalyError, match=message):
        calibration_items(["nowhere", "y.png"], None)
    assert len(calibration_items([str(tmp_path / "x.png"), "y.png"], None)) == 2


def test_calibration_on_a_data_set_takes_its_validation_section(tmp_path: Path) -> None:
    touch(tmp_path, "train.png", "val.png")
    datalist = {"training": [{"image": "train.png"}], "validation": [{"image": "val.png"}]}
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    (item,) = calibration_items(str(tmp_path), None)
    assert (item["case"], item["image"], item["label"]) == ("val", str(tmp_path / "val.png"), 0)


def test_test_section_never_passes_for_healthy(tmp_path: Path) -> None:
    touch(tmp_path, "sick.png", "other.png")
    (tmp_path / "datalist.json").write_text(json.dumps({"test": [{"image": "sick.png", "label": 1}]}))
    with pytest.raises(
        NomalyError, match="must not come from the test section of a datalist.json: name only the folder"
    ):
        calibration_items([str(tmp_path), str(tmp_path / "other.png")], None)


def test_calibration_without_studies_says_how_to_give_them() -> None:
    with pytest.raises(
        NomalyError, match="calibration needs healthy studies, but none were found: fill the calibration"
    ):
        calibration_items(None, {"validation": []})


@pytest.mark.parametrize(
    ("items", "setting", "cases"),
    [
        (HEALTHY + ABNORMAL, "auto", ["h0", "h1", "a"]),
        (HEALTHY, "auto", ["h0", "h0_hyperintense", "h1", "h1_hypointense"]),
        (HEALTHY, False, ["h0", "h1"]),
        (HEALTHY + ABNORMAL, True, ["h0", "h0_hyperintense", "h1", "h1_hypointense", "a"]),
    ],
)
def test_synthetic_twins_are_added_where_asked(items, setting, cases) -> None:
    chosen = evaluation_items({"test": items}, setting, "head", seed=0)
    assert [item["case"] for item in chosen] == cases
    assert [item["label"] for item in chosen] == [int(case[0] == "a" or "_" in case) for case in cases]
    assert GROUPS[:2] == ("hyperintense", "hypointense")


@pytest.mark.parametrize(
    ("items", "setting", "message"),
    [
        ([], "auto", "evaluation needs studies in the test section of datalist.json, but it is empty"),
        (HEALTHY, "yes", "synthetic_lesions must be true, false or \"auto\", got 'yes'"),
    ],
)
def test_evaluation_that_means_nothing_is_refused(items, setting, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        evaluation_items({"test": items}, setting, "head", seed=0)


def test_baseline_are_fitted_on_another_data_set_if_named(tmp_path: Path) -> None:
    touch(tmp_path, "other.png")
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [{"image": "other.png"}]}))
    assert baseline_items(None, {"training": HEALTHY}) == HEALTHY
    assert [item["case"] for item in baseline_items(str(tmp_path), {"training": HEALTHY})] == ["other"]


def test_calibration_section_is_taken_before_the_validation_section(caplog) -> None:
    own, validation = [{"image": "a", "case": "a"}], [{"image": "b", "case": "b"}]
    sections = {"training": [], "validation": validation, "test": [], "calibration": own}
    assert [item["case"] for item in calibration_items(None, sections)] == ["a"]
    assert not caplog.records
    del sections["calibration"]
    assert [item["case"] for item in calibration_items(None, sections)] == ["b"]
    assert "The checkpoint was chosen on these studies" in caplog.text
