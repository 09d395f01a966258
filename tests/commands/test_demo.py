"""The demonstration: which config gets which setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custom.commands import demo
from custom.errors import NomalyError
from custom.runs.tables import StudyResult, write_results_csv


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Overrides by config; nothing is run."""
    calls: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(demo, "run_bundle", lambda bundle, configs, overrides: calls.update({configs[0]: overrides}))
    monkeypatch.setattr(demo, "make_phantom", lambda folder, anatomy, **settings: str(folder))
    monkeypatch.setattr(demo, "summary", lambda bundle, folder, seconds: "done")
    return calls


def test_each_run_gets_only_the_knobs_that_it_has(ran) -> None:
    assert demo.run("ra_brain", "out", {"beta_rec": 2.0, "alpha": 0.1, "seed": 7}) == 0
    given = {
        config: {name for name in ("beta_rec", "alpha", "seed") if name in parameters}
        for config, parameters in ran.items()
    }
    assert given == {
        "train": {"beta_rec", "seed"},
        "calibrate": {"alpha", "seed"},
        "evaluate": {"alpha", "seed"},
        "inference": {"alpha", "seed"},
    }


@pytest.mark.parametrize(
    ("bundle", "unseen"),
    [
        ("ra_brain", "head_with_lesion.nii.gz"),
        ("memmc_colonoscopy", "frame_with_polyp.png"),
        ("memmc_covid", "film_with_opacity.png"),
    ],
)
def test_all_runs_share_weights_and_write_into_the_output_folder(ran, bundle: str, unseen: str) -> None:
    demo.run(bundle, "out", {})
    assert {parameters["ckpt_dir"] for parameters in ran.values()} == {str(Path("out/models"))}
    folders = [parameters["output_dir"] for parameters in ran.values() if "output_dir" in parameters]
    assert folders == [str(Path("out") / name) for name in ("train", "evaluation", "unseen_study")]
    files = [parameters.get("calibration_file") for parameters in ran.values()]
    assert files == [None, *3 * [str(Path("out/calibration/calibration.json"))]]
    assert Path(ran["inference"]["studies"]) == Path("out/phantom/unseen") / unseen


def test_demo_calibrates_on_enough_studies_for_a_stable_false_alarm_rate(ran, monkeypatch) -> None:
    made = {}
    monkeypatch.setattr(demo, "make_phantom", lambda folder, anatomy, **settings: str(made.update(settings) or folder))
    demo.run("ra_brain", "out", {})
    assert made["num_calibration"] >= 60


def test_parameter_of_no_run_is_refused_before_the_training(ran) -> None:
    with pytest.raises(
        NomalyError,
        match="no parameter of train, calibrate, evaluate, inference is called max_epoch: did you mean max_ep",
    ):
        demo.run("ra_brain", "out", {"max_epoch": 1})
    assert ran == {}


def summary_of(folder: Path, study: StudyResult, low: float | None = 0.8) -> str:
    """The summary of a demonstration that has written what it reads."""
    ends = {"low": low, "high": None if low is None else 1.0}
    metrics = {
        **{"n_healthy": 4, "n_abnormal": 3, "alpha": 0.05, "best_baseline": {"name": "blur"}},
        "image": {"auroc": {"value": 0.9, **ends}},
        "baselines": {"blur": {"auroc": {"value": 0.6}}},
        "pixel": {"ap": {"value": 0.3}, "dice": {"value": 0.4}},
        "false_alarm_rate": {"value": 0.1},
    }
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    (folder / "unseen_study" / study.study).mkdir(parents=True)
    if study.score is not None:
        (folder / "unseen_study" / study.study / "map.png").touch()
    write_results_csv([study], folder / "unseen_study" / "results.csv")
    return demo.summary("ra_brain", folder, 90)


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (
            "No p-value: calibrated on 2-D images, but this is a volume.",
            "no p-value: calibrated on 2-D images, but this is ",
        ),
        ("", "score 2, no p-value, no decision, 1 significant region"),
    ],
)
def test_summary_gives_the_reason_for_a_missing_p_value(note: str, reason: str, tmp_path: Path) -> None:
    assert reason in summary_of(tmp_path, StudyResult("head", score=2.0, region_count=1, note=note))


@pytest.mark.parametrize(
    "study",
    [StudyResult("a", "not_assessable", note="Not assessable: rotated."), StudyResult("a", "failed", error="rotated")],
)
def test_summary_of_a_study_that_was_not_scored_gives_the_reason(study: StudyResult, tmp_path: Path) -> None:
    text = summary_of(tmp_path, study)
    assert f"unseen study     {study.error or study.note}\n" in text


def test_summary_gives_p_value_and_interval(tmp_path: Path) -> None:
    study = StudyResult("head", score=2.0, p_value=0.02, decision="flag", region_count=1)
    text = summary_of(tmp_path, study)
    assert "score 2, p = 0.020, flag, 1 significant region\n" in text
    assert "0.900 (95 % CI 0.800 to 1.000); 4 healthy" in text


def test_summary_accepts_a_number_without_interval(tmp_path: Path) -> None:
    text = summary_of(tmp_path, StudyResult("head", score=2.0, p_value=0.02, region_count=1), low=None)
    assert "image AUROC      0.900; 4 healthy, 3 with a lesion" in text
