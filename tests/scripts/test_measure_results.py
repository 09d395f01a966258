"""Which weights are measured, and what a second run keeps."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from custom.errors import NomalyError
from custom.reporting.evidence import read_rows
from nomaly import metrics
from tests.support.scripts import load_script


@pytest.fixture
def script() -> ModuleType:
    return load_script("measure_results.py")


@pytest.fixture
def measurement(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A measurement whose evaluations are made up; each is recorded with its overlay and baselines."""
    made = script.Measurement(tmp_path, tmp_path / "work", tmp_path / "results.csv", peers=False, command="measure")
    made.asked = []

    def evaluation(unit, overlay: tuple, baselines: str):
        made.asked.append((unit.seed, *overlay, baselines))
        if unit.seed == 7:
            raise NomalyError("the evaluation failed.")
        others = {"pca": [0.0] * 20} if baselines != "none" else None
        return metrics.evaluate([0] * 10 + [1] * 10, list(range(20)), baselines=others).values

    monkeypatch.setattr(made, "evaluation", evaluation)
    return made


def unit(script, folder: Path, content: str = "weights", source: str = "shipped", seed: int = 0):
    weights = folder / f"{source}{seed}.pt"
    weights.write_text(content)
    return script.Unit("lgg_flair", "ra_brain_flair", source, seed, weights)


def test_finished_rows_are_kept_until_the_weights_change(script, measurement, tmp_path: Path, capsys) -> None:
    first = unit(script, tmp_path)
    assert script.measure_all(measurement, [first], jobs=1, again=False) == []
    assert measurement.asked == [(0, "simple"), (0, "paper_score", "none")]
    assert script.measure_all(measurement, [first], jobs=1, again=False) == [] and len(measurement.asked) == 2
    assert "1 measurements: 1 kept, 0 to do" in capsys.readouterr().out
    unit(script, tmp_path, "other weights")
    script.measure_all(measurement, [first], jobs=1, again=False)
    assert len(measurement.asked) == 4
    assert [row["method"] for row in read_rows(tmp_path / "results.csv")] == ["nomaly", "paper", "pca"]


def test_changed_settings_of_a_bundle_measure_its_baselines_again(
    script, measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = unit(script, tmp_path)
    script.measure_all(measurement, [first], jobs=1, again=False)
    monkeypatch.setattr(script, "_settings", lambda bundle: "other")
    assert not measurement.finished(first)


def test_failed_measurement_is_reported_and_the_others_go_on(script, measurement, tmp_path: Path, capsys) -> None:
    units = [unit(script, tmp_path, source="trained", seed=seed) for seed in (7, 8)]
    assert script.measure_all(measurement, units, jobs=2, again=False) == ["the evaluation failed."]
    assert {row["seed"] for row in read_rows(tmp_path / "results.csv")} == {"0", "8"}  # 0: of the baselines
    assert "seed 8: AUROC nomaly 1.000, paper 1.000, best baseline pca" in capsys.readouterr().out


def test_trained_weights_are_found_in_both_layouts(script, tmp_path: Path, capsys) -> None:
    for place in ("seed0", "seed10/models", "other"):
        (tmp_path / "ra_wrist" / place).mkdir(parents=True)
        (tmp_path / "ra_wrist" / place / "model.pt").touch()
    found = list(script.trained("hand_wrist", "ra_wrist", tmp_path))
    assert [(one.source, one.seed) for one in found] == [("trained", 0), ("trained", 10)]
    assert list(script.trained("ixi_t1", "ra_brain", tmp_path)) == []
    assert "ixi_t1: " in (text := capsys.readouterr().out) and "has no seed*/model.pt, so ra_brain is skipped." in text


def test_method_without_a_bundle_for_a_set_is_skipped_with_a_sentence(script, capsys) -> None:
    assert list(script.bundles_of(["ixi_t1", "pediatric_cxr"])) == [
        ("ixi_t1", "ra_brain"),
        ("pediatric_cxr", "ra_chest"),
        ("pediatric_cxr", "memmc_pneumonia"),
    ]
    expected = "ixi_t1: no bundle applies MemMC-MAE to these images, so it is skipped.\n"
    assert capsys.readouterr().out == expected


def test_finished_training_is_not_repeated_and_a_failed_one_is_named(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(script, "run_nomaly", lambda words, folder: calls.append(words))
    for _ in range(2):
        (tmp_path / "seed1").mkdir(exist_ok=True)
        script.train("ra_wrist", Path("DATA/hand_wrist"), tmp_path / "seed1", 1, ["--amp", "true"])
    assert len(calls) == 1 and calls[0][-4:] == ["--seed", "1", "--amp", "true"]
    monkeypatch.undo()
    with pytest.raises(NomalyError, match="`nomaly train no_such_bundle` failed: BUNDLE must be"):
        script.run_nomaly(["train", "no_such_bundle"], tmp_path / "log")
