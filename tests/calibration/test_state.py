"""For which studies a calibration holds."""

from __future__ import annotations

import pytest

from custom.calibration.state import CalibrationState, scoring_rule
from custom.networks.detector import AnomalyDetector
from custom.networks.memmc_mae import MemMCMaskedAutoencoder
from custom.scoring.anomaly_map import ResidualMap
from custom.scoring.normalisation import HealthyNormalisation
from custom.scoring.score import StudyScore
from custom.scoring.structural_similarity import StructuralSimilarityMap

RULE = (0.0, 0.02)


def calibrated(slices: tuple[int, int] = (1, 1), plane: tuple[int, int] = (100, 200)) -> CalibrationState:
    """Calibrated on studies of so many slices, each of so many pixels."""
    state = CalibrationState()
    state.fill(healthy_scores=[0.1, 0.2], slices=slices, plane=plane, score_rule=RULE)
    return state


@pytest.mark.parametrize(
    ("shape", "holds"),
    [
        ((9, 10, 1), True),  # 90 pixels, a tenth fewer than the smallest
        ((89, 1, 1), False),
        ((15, 10, 1), True),
        ((22, 10, 1), True),  # 220 pixels, a tenth more than the largest
        ((221, 1, 1), False),
        ((40, 40, 1), False),
    ],
)
def test_plane_may_differ_by_a_tenth_from_the_calibrated_ones(shape: tuple[int, ...], holds: bool) -> None:
    assert calibrated().holds_for(shape, RULE) is holds


@pytest.mark.parametrize(("slices", "depth", "holds"), [((1, 1), 2, False), ((5, 9), 1, False), ((5, 9), 30, True)])
def test_pictures_and_volumes_are_kept_apart(slices: tuple[int, int], depth: int, holds: bool) -> None:
    assert calibrated(slices).holds_for((10, 15, depth), RULE) is holds


@pytest.mark.parametrize("rule", [(1.0, 0.0), (0.0, 0.05)])
def test_scores_of_another_rule_are_not_compared(rule: tuple[float, float]) -> None:
    assert not calibrated().holds_for((10, 15, 1), rule)


def test_state_loads_into_a_new_one_with_any_number_of_scores() -> None:
    saved, loaded = calibrated(), CalibrationState()
    assert not loaded.is_calibrated
    loaded.load_state_dict(saved.state_dict())
    assert loaded.is_calibrated and loaded.plane.tolist() == [100, 200]
    assert loaded.healthy_scores.tolist() == [0.1, 0.2]


def detector(sigma: float = 1.0, masks: int = 4) -> AnomalyDetector:
    sizes = {"hidden_size": 8, "depth": 1, "num_heads": 2, "decoder_hidden_size": 8, "decoder_num_heads": 2}
    network = MemMCMaskedAutoencoder(2, 1, 16, 4, **sizes, masks=masks)
    return AnomalyDetector(network, ResidualMap(), HealthyNormalisation(16, sigma=sigma))


def test_rule_changes_with_whatever_changes_scores_and_is_not_in_the_weights() -> None:
    mean = StudyScore("mean")
    rule = scoring_rule(mean, detector())
    assert rule == scoring_rule(mean, detector())  # weights have no part in it
    others = [
        scoring_rule(StudyScore("max"), detector()),
        scoring_rule(mean, detector(sigma=2.0)),
        scoring_rule(mean, detector(masks=8)),
        scoring_rule(mean, AnomalyDetector(detector().reconstructor, ResidualMap())),
        scoring_rule(mean, AnomalyDetector(detector().reconstructor, StructuralSimilarityMap())),
        scoring_rule(mean, AnomalyDetector(detector().reconstructor, StructuralSimilarityMap(l1_weight=0.5))),
    ]
    assert len({rule, *others}) == 7
