"""The graph's module: the same score, p-value and decision as DetectionEvaluator's, without branches on values."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from custom.calibration.by_kind import Calibrations
from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState
from custom.errors import NomalyError
from custom.export.detector import DECISIONS, TIE, CalibratedDecision, ExportedDetector, exported_detector, study_score
from custom.scoring.anomaly_map import LpipsDistance
from custom.scoring.score import StudyScore, foreground
from custom.scoring.structural_similarity import StructuralSimilarityMap
from custom.studies.kinds import KINDS


def calibrated(scores, groups=None) -> CalibrationState:
    """A calibration with these healthy scores."""
    state = CalibrationState()
    state.fill_healthy(scores, [0.0] * len(scores), groups, None if groups is None else "scanner")
    return state


def by_kind(calibrations: Calibrations) -> dict[str, CalibratedDecision]:
    """Decisions by the default rule; none for a kind that is not calibrated."""
    refusals = {kind: None if calibrations.of_kind(kind).is_calibrated else "not calibrated" for kind in KINDS}
    return {
        kind: CalibratedDecision(calibrations.of_kind(kind), DecisionRule(), refusal=refusal)
        for kind, refusal in refusals.items()
    }


def decide(state: CalibrationState, score: float, group=None, **rule) -> tuple[float, int]:
    """p-value and decision of a score."""
    p_value, decision = CalibratedDecision(state, DecisionRule(**rule), group)(torch.tensor(score))
    assert p_value.dtype == torch.float64 and decision.dtype == torch.int64
    return float(p_value), int(decision)


# CalibratedDecision


@pytest.mark.parametrize(
    ("score", "p_value", "decision"), [(20.0, 0.05, 2), (17.5, 0.15, 1), (0.5, 1.0, 0), (18.5, 0.1, 1), (15.5, 0.25, 0)]
)
def test_judgement_of_nineteen_healthy_scores_is_that_of_the_rule(score: float, p_value: float, decision: int) -> None:
    state = calibrated(np.arange(1.0, 20.0))  # 1 to 19: p = (1 + number >= score) / 20
    assert decide(state, score) == (pytest.approx(p_value, abs=1e-15), decision)
    assert decide(state, score)[0] == state.p_value(score)


def test_every_count_has_the_p_value_and_decision_of_the_calibration() -> None:
    scores = np.random.default_rng(0).gamma(2.0, size=75)
    state, rule = calibrated(scores), DecisionRule(0.05, 0.95, 0.3)
    names = ["likely_normal", "uncertain", "flag"]
    for score in np.float32([0.0, *np.random.default_rng(1).gamma(2.0, size=60), 50.0]).tolist():
        p_value, decision = decide(state, score, alpha=0.05, confidence=0.95, likely_normal_p=0.3)
        assert (p_value, names[decision]) == (state.p_value(score), rule.decide(state.p_value(score), 75))


def test_score_that_differs_from_a_healthy_one_in_the_last_bits_is_tied_with_it() -> None:
    state = calibrated(np.arange(1.0, 20.0))
    assert decide(state, 10 * (1 + TIE / 2))[0] == decide(state, 10.0)[0] == state.p_value(10.0)
    assert decide(state, 10 * (1 + 3 * TIE))[0] == state.p_value(10.001)


def test_each_kind_of_study_is_decided_by_its_own_calibration(grey_detector) -> None:
    # every score is 0.5; of four healthy 2-D images one scores as much, of nine healthy volumes none
    image, volume = grey_detector.calibration.image, grey_detector.calibration.volume
    image.fill_healthy([0.1, 0.2, 0.3, 0.7], [0.0] * 4)
    for volumes, p_value in ([], -1), ([0.1] * 9, 1 / 10):
        volume.fill_healthy(volumes, [0.0] * len(volumes))
        module = ExportedDetector(grey_detector, StudyScore("max"), 0.05, by_kind(grey_detector.calibration))
        found = [float(module(torch.ones(slices, 1, 4, 4))[3]) for slices in (1, 2, 7)]
        assert found == pytest.approx([2 / 5, p_value, p_value])


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_score_that_is_no_number_has_no_p_value(score: float) -> None:
    assert decide(calibrated(np.arange(1.0, 20.0)), score) == (-1, -1)


def test_group_is_judged_by_its_own_healthy_studies() -> None:
    state = calibrated([*range(19), *range(100, 119)], groups=["a"] * 19 + ["b"] * 19)
    assert decide(state, 50.0, group="a") == (0.05, 2) and decide(state, 50.0, group="b") == (1.0, 0)


def test_refusal_gives_no_p_value_to_any_score() -> None:
    calibrated_decision = CalibratedDecision(
        calibrated(np.arange(1.0, 20.0)), DecisionRule(), refusal="of other slices"
    )
    for score in (-5.0, 0.0, 5.0):
        assert [float(value) for value in calibrated_decision(torch.tensor(score))] == [-1, -1]


# Score


@pytest.mark.parametrize(
    "score", [StudyScore("top_q", 0.02), StudyScore("top_q", 1.0), StudyScore("mean"), StudyScore("max")]
)
@pytest.mark.parametrize("slices", [1, 5])
def test_score_without_branches_is_the_study_score(score: StudyScore, slices: int) -> None:
    generator = torch.Generator().manual_seed(slices)
    study = torch.rand(1, 9, 11, slices, generator=generator)
    anomaly_map = torch.rand(1, 9, 11, slices, generator=generator) - 0.3
    mask = foreground(study, 0.4)
    expected = float(score(anomaly_map, mask))
    stack = [part.movedim(-1, 0) for part in (anomaly_map, mask, study, study)]
    assert float(study_score(score, *stack, kind=0)) == pytest.approx(expected, rel=1e-6)


def test_share_of_the_foreground_is_rounded_up_and_at_least_one_pixel() -> None:
    values = torch.tensor([5.0, 1.0, 4.0, 2.0, 9.0]).view(1, 1, 5, 1)
    mask = torch.tensor([True, True, True, True, False]).view(1, 1, 5, 1)
    tops = [
        float(study_score(StudyScore("top_q", q), values, mask, values, values, 0)) for q in (0.01, 0.25, 0.26, 1.0)
    ]
    assert tops == [5.0, 5.0, 4.5, 3.0]


def test_score_of_structure_is_the_mean_over_slices() -> None:
    score = StudyScore("ms_ssim", similarity=StructuralSimilarityMap())
    image, reconstruction = torch.rand(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = score(image, torch.ones(3, 1, 32, 32), image.movedim(0, -1), reconstruction.movedim(0, -1))
    assert float(study_score(score, image, image > 0, image, reconstruction, 0)) == pytest.approx(
        float(expected), rel=1e-6
    )


# Detector


def test_module_gives_the_results_of_the_evaluator(run_grey, grey_detector) -> None:
    study = torch.rand(1, 8, 8, 4, generator=torch.Generator().manual_seed(0)) * (torch.arange(8) > 3).view(1, 8, 1, 1)
    grey_detector.predict = lambda x: ((x - 0.1).abs().mean(1, keepdim=True), torch.full_like(x, 0.04))
    score = StudyScore("top_q", 0.1)
    calibration = grey_detector.calibration.volume
    calibration.fill_healthy(np.linspace(0.5, 0.95, 9), [0.0] * 9)
    calibration.fill(plane=(64, 64), pixel_threshold=9.0)
    evaluator, _ = run_grey([], score=score)
    calibration.fill_scoring(evaluator.scoring.stored())
    _, (item,) = run_grey([{"image": study, "case": "a"}], score=score)
    decisions = {kind: CalibratedDecision(calibration, evaluator.decision_rule) for kind in KINDS}
    module = ExportedDetector(grey_detector, score, 0.05, decisions)
    anomaly_map, reconstruction, value, p_value, decision = module(study.movedim(-1, 0))
    assert torch.equal(anomaly_map.movedim(0, -1), item["pred"]) and (item["pred"] == 0).any()
    assert torch.equal(reconstruction.movedim(0, -1), item["reconstruction"])
    assert float(value) == pytest.approx(item["score"], rel=1e-6)
    assert (float(p_value), int(decision)) == (item["p_value"], DECISIONS[item["decision"]])
    assert 0.1 < item["p_value"] < 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_empty_foreground_and_a_broken_map_have_neither_score_nor_p_value(grey_detector, value: float) -> None:
    grey_detector.calibration.image.fill_healthy(np.arange(1.0, 20.0), [0.0] * 19)
    module = ExportedDetector(grey_detector, StudyScore("mean"), 0.05, by_kind(grey_detector.calibration))
    broken = torch.full((1, 1, 4, 4), 0.5)
    broken[0, 0, 0, 0] = value
    for image, explain in (
        (torch.zeros(1, 1, 4, 4), lambda x: (x, torch.zeros_like(x))),
        (torch.ones(1, 1, 4, 4), lambda x: (broken, x)),
    ):
        grey_detector.predict = explain
        _, _, score, p_value, decision = module(image)
        assert math.isnan(score) and (float(p_value), int(decision)) == (-1, -1)


def test_network_of_volumes_is_rejected() -> None:
    network = SimpleNamespace(reconstructor=SimpleNamespace(image_size=(96, 96, 8)))
    with pytest.raises(NomalyError, match=r"only 2-D networks can be exported, got a 3-D network \(96 x 96 x 8\)"):
        exported_detector(SimpleNamespace(detector=network))


def test_lpips_is_rejected(grey_detector) -> None:
    class WithoutItsPackage(LpipsDistance):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

    grey_detector.reconstructor = torch.nn.Module()
    grey_detector.reconstructor.image_size = (8, 8)
    grey_detector.map_head = WithoutItsPackage()
    with pytest.raises(NomalyError, match="only perceptual 'embedding' can be exported, got 'lpips'"):
        exported_detector(SimpleNamespace(detector=grey_detector))


@pytest.mark.parametrize("group", [None, "c"])
def test_calibration_by_groups_needs_the_name_of_one(grey_detector, group: str | None) -> None:
    grey_detector.calibration.image.fill_healthy([1.0, 2.0], [0.0, 0.0], ["a", "b"], "scanner")
    grey_detector.reconstructor = torch.nn.Module()
    grey_detector.reconstructor.image_size = (8, 8)
    with pytest.raises(
        NomalyError, match=f"--study_group must be one of a, b, got {group}: the detector is calibrated by scanner"
    ):
        exported_detector(SimpleNamespace(detector=grey_detector, study_group=group))


def test_score_mode_without_a_form_for_graphs_is_refused_and_not_replaced_by_the_mean() -> None:
    score, values = StudyScore("mean"), torch.ones(1, 1, 2, 2)
    score.mode = "median"
    with pytest.raises(NomalyError, match="score_mode must be one of fused, .* ms_ssim for an export, got"):
        study_score(score, values, values > 0, values, values, 0)
