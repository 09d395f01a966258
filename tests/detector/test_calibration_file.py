"""A calibration file gives back what it was written from, and only to the weights that it is of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from custom.calibration.by_kind import Calibrations
from custom.calibration.decision import DecisionRule
from custom.detector.calibration_file import load_calibration, write_calibration
from custom.errors import NomalyError

STUDIES = [
    {"study": "b", "score": 0.3, "mass": 2.0, "group": "GE"},
    {"study": "a", "score": 0.1, "mass": 0.0, "group": "Siemens"},
]


def state_of(studies: list[dict], field: str | None = "scanner") -> Calibrations:
    """Volumes calibrated on these studies."""
    calibrations = Calibrations()
    state = calibrations.volume
    names = [study["group"] for study in studies] if field else None
    state.fill_healthy([s["score"] for s in studies], [s["mass"] for s in studies], names, field)
    state.fill(pixel_threshold=0.7, pixel_false_positive_rate=0.02, minimum_region=5)
    state.fill(false_regions_per_study=0.5, slices=(2, 9), plane=(64, 80))
    state.fill_scoring({"version": 1, "score": {"mode": "mean"}})
    generator = np.random.default_rng(0)
    state.input_check.learn(
        [np.array([0.7, np.nan, 200.0])] * 20, [{"detail": generator.normal(size=10)} for _ in range(20)]
    )
    calibrations.fill_rule(DecisionRule(0.1, 0.9, 0.4))
    return calibrations


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_calibration(tmp_path / "site.json", state_of(STUDIES), "abc", {"volume": STUDIES}, {"date": "2026-01-02"})
    return tmp_path / "site.json"


@pytest.mark.parametrize("field", ["scanner", None])
def test_state_read_back_equals_the_one_written(tmp_path: Path, field: str | None) -> None:
    saved, loaded = state_of(STUDIES, field), Calibrations()
    write_calibration(tmp_path / "site.json", saved, "abc", {"volume": STUDIES}, {})
    load_calibration(tmp_path / "site.json", loaded, "abc")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.decision_rule == DecisionRule(0.1, 0.9, 0.4)
    assert loaded.volume.input_check.limit("detail") > 0


def test_file_that_is_older_than_the_input_gate_leaves_it_empty(file: Path) -> None:
    content = json.loads(file.read_text())
    del content["volume"]["input_check"]
    file.write_text(json.dumps(content))
    state = state_of(STUDIES)
    load_calibration(file, state, "abc")
    assert state.is_calibrated and not state.volume.input_check.is_learned


def test_file_of_an_earlier_release_keeps_its_mode_and_checksum(file: Path) -> None:
    content = json.loads(file.read_text())
    del content["volume"]["scoring"]
    content["volume"]["score_rule"] = [1.0, 4294967295.0]
    file.write_text(json.dumps(content))
    state = Calibrations()
    load_calibration(file, state, "abc")
    assert state.volume.scoring_settings == {"version": 0, "checksum": [1.0, 4294967295.0]}


def test_broken_gate_is_refused_before_anything_changes(file: Path) -> None:
    content = json.loads(file.read_text())
    del content["volume"]["input_check"]["limits"]["pose"]
    file.write_text(json.dumps(content))
    state = Calibrations()
    with pytest.raises(NomalyError, match=r"is incomplete or invalid \(KeyError: 'pose'\)"):
        load_calibration(file, state, "abc")
    assert not state.is_calibrated and not state.volume.input_check.is_learned


def test_file_can_be_read_by_people(file: Path) -> None:
    content = json.loads(file.read_text())
    volumes = content["volume"]
    assert [study["study"] for study in volumes["studies"]] == ["a", "b"]  # ascending by score
    assert (volumes["healthy_studies"], content["alpha"], content["confidence"]) == (2, 0.1, 0.9)
    assert (content["model_hash"], content["date"], volumes["minimum_region"]) == ("abc", "2026-01-02", 5)


def earlier(file: Path, **changes) -> None:
    """Rewrite a file as earlier releases did, with one calibration at the top."""
    content = json.loads(file.read_text())
    volumes = content.pop("volume")
    file.write_text(json.dumps(content | volumes | changes))


@pytest.mark.parametrize(("slices", "kind"), [([1, 1], "image"), ([2, 9], "volume")])
def test_file_of_an_earlier_release_is_of_the_kind_of_its_studies(file: Path, slices: list[int], kind: str) -> None:
    earlier(file, slices=slices)
    loaded = Calibrations()
    load_calibration(file, loaded, "abc")
    assert [*loaded.calibrated] == [kind] and loaded.of_kind(kind).healthy_scores.tolist() == [0.1, 0.3]
    assert loaded.decision_rule == DecisionRule(0.1, 0.9, 0.4)


def test_kind_that_the_file_does_not_contain_is_kept(file: Path) -> None:
    loaded = Calibrations()
    loaded.image.fill_healthy([0.5], [0.0])
    load_calibration(file, loaded, "abc")
    assert loaded.image.healthy_scores.tolist() == [0.5] and len(loaded.volume.healthy_scores) == 2
    assert loaded.image.decision_rule == DecisionRule(0.1, 0.9, 0.4)


def test_calibration_of_other_weights_is_refused(file: Path) -> None:
    state = Calibrations()
    with pytest.raises(
        NomalyError, match=r"site.json was made with other weights \(abc; these are xyz\), so the scores"
    ):
        load_calibration(file, state, "xyz")
    assert not state.is_calibrated


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must contain model_hash and studies: create it again with nomaly calibrate"),
        (
            '{"model_hash": "abc", "studies": []}',
            "must contain model_hash and studies: create it again with nomaly calibrate",
        ),
        ('{"model_hash": "abc", "studies": [{}]}', r"is incomplete or invalid \(KeyError: 'alpha'\)"),
    ],
    ids=["cut off", "a list", "empty", "without the rest"],
)
def test_file_that_is_no_calibration_is_refused(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(NomalyError, match=message):
        load_calibration(file, Calibrations(), "abc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_threshold": float("nan")}, "ValueError: scores, masses and thresholds must be finite"),
        (
            {"studies": [{**STUDIES[0], "score": float("inf")}, STUDIES[1]]},
            "scores, masses and thresholds must be finite",
        ),
        ({"studies": STUDIES[:1]}, "ValueError: healthy_studies is 2, but 1 are listed"),
        (
            {"studies": [{**STUDIES[0], "group": None}, STUDIES[1]]},
            "each study must have a group, since group_field is scan",
        ),
        ({"scoring": 3}, "ValueError: scoring must be settings with a version, got 3"),
        ({"plane": [16]}, r"plane must be two numbers, got \[16\]"),
        ({"minimum_region": 0}, "minimum_region must be at least 1, got 0"),
        ({"alpha": 2.0}, r"alpha must be in \(0, 1\), got 2.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "refused",
)
def test_file_changed_to_what_no_calibration_holds_is_refused(file: Path, change: dict, message: str) -> None:
    content = json.loads(file.read_text())
    (content if "alpha" in change else content["volume"]).update(change)
    file.write_text(json.dumps(content))
    state = Calibrations()
    with pytest.raises(NomalyError, match=message):
        load_calibration(file, state, "abc")
    assert not state.is_calibrated


def test_scanners_that_are_numbers_are_names_after_reading(file: Path) -> None:
    studies = [{**study, "group": number} for study, number in zip(STUDIES, (1, 2.0))]
    content = json.loads(file.read_text())
    content["volume"]["studies"] = studies
    file.write_text(json.dumps(content))
    state = Calibrations()
    load_calibration(file, state, "abc")
    assert state.volume.group_names == ["1", "2"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        NomalyError, match="calibration file not found: .*nowhere.json. Create it with nomaly calibrate"
    ):
        load_calibration(tmp_path / "nowhere.json", Calibrations(), "abc")
