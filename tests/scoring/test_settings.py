"""Scores are compared only if they were made with the same settings, and renaming code changes no setting."""

from __future__ import annotations

import json

import pytest
from torch import nn

from custom.detector.anomaly_detector import AnomalyDetector
from custom.errors import NomalyError
from custom.networks.memmc_mae import MemMCMaskedAutoencoder
from custom.scoring.anomaly_map import AdaptiveHistogramPerceptualMap, SmoothResidualMap
from custom.scoring.code_distance import CodeDistance
from custom.scoring.expected_residual import ExpectedResidual
from custom.scoring.score import StudyScore
from custom.scoring.settings import ScoringSettings, scoring_settings
from custom.scoring.structural_similarity import StructuralSimilarityMap
from maps import ResidualMap
from tiny import TINY_AUTOENCODER

MEAN = StudyScore("mean")


def autoencoder(masks: int = 4, mask_seed: int = 0) -> MemMCMaskedAutoencoder:
    return MemMCMaskedAutoencoder(2, 1, 16, 4, **TINY_AUTOENCODER, masks=masks, mask_seed=mask_seed)


def product_map(**settings) -> AdaptiveHistogramPerceptualMap:
    return AdaptiveHistogramPerceptualMap(**settings)


def detector(**parts) -> AnomalyDetector:
    return AnomalyDetector(**{"reconstructor": autoencoder(), "map_head": ResidualMap(), **parts})


def test_each_part_has_its_settings_under_its_own_name() -> None:
    score = StudyScore("top_q", 0.05)
    network = detector(normalisation=ExpectedResidual(floor=0.5), code_distance=CodeDistance(8, ridge=0.1))
    assert scoring_settings(score, network).stored() == {
        "version": 1,
        "score": {"mode": "top_q", "q": 0.05},
        "map": {"kind": "residual"},
        "normalisation": {"kind": "expected_residual", "floor": 0.5},
        "code": {"kind": "gaussian_mixture", "components": 4, "ridge": 0.1, "dimensions": 8},
        "ensemble": {"kind": "complementary_masks", "masks": 4, "mask_ratio": 0.75, "mask_seed": 0},
    }


@pytest.mark.parametrize(
    ("score", "parts", "difference"),
    [
        (StudyScore("max"), {}, 'score.mode: "mean" at calibration, "max" now'),
        (MEAN, {"reconstructor": autoencoder(masks=8)}, "ensemble.masks: 4 at calibration, 8 now"),
        (MEAN, {"reconstructor": autoencoder(mask_seed=1)}, "ensemble.mask_seed: 0 at calibration, 1 now"),
        (MEAN, {"normalisation": ExpectedResidual()}, "normalisation.floor: none at calibration, 0.05 now"),
        (MEAN, {"code_distance": CodeDistance(8)}, "code.ridge: none at calibration, 0.01 now"),
        (MEAN, {"map_head": SmoothResidualMap(1.5)}, "map.sigma: none at calibration, 1.5 now"),
        (MEAN, {"map_head": StructuralSimilarityMap()}, 'map.kind: "residual" at calibration, "ms_ssim" now'),
    ],
)
def test_each_setting_that_differs_is_named_with_both_values(score, parts: dict, difference: str) -> None:
    calibrated = scoring_settings(MEAN, detector()).stored()
    assert difference in scoring_settings(score, detector(**parts)).differences(calibrated)


def test_every_argument_of_a_map_is_a_setting_of_it() -> None:
    changes = [
        {"residual": "smooth"},
        {"perceptual_raw": False},
        {"perceptual_clahe": False},
        {"perceptual_power": 0.5},
        {"sigma": 1.0},
        {"levels": (0,)},
        {"kernel_size": 8},
        {"clip_limit": 0.02},
    ]
    calibrated = scoring_settings(MEAN, detector(map_head=product_map())).stored()
    for change in changes:
        differences = scoring_settings(MEAN, detector(map_head=product_map(**change))).differences(calibrated)
        assert [text.partition(":")[0] for text in differences] == [f"map.{name}" for name in change]


def test_settings_read_back_from_a_file_equal_those_written() -> None:
    settings = scoring_settings(StudyScore("ms_ssim", similarity=StructuralSimilarityMap()), detector())
    assert settings.differences(json.loads(json.dumps(settings.stored()))) == []
    assert settings.differences(json.loads(json.dumps(settings.stored())) | {"version": 7}) == [
        "the calibration has settings of version 7, this release reads version 1"
    ]


# Mode and checksum that the last release with version 0 computed for these detectors.
@pytest.mark.parametrize(
    ("score", "network", "checksum"),
    [
        (MEAN, detector(), [1.0, 2300881230.0]),
        (
            StudyScore("max"),
            detector(reconstructor=nn.Identity(), map_head=product_map(residual="smooth", perceptual_power=0.25)),
            [2.0, 4095307938.0],
        ),
    ],
    ids=["residual", "smooth residual"],
)
def test_calibrations_of_earlier_releases_are_valid_if_nothing_changed(score, network, checksum: list[float]) -> None:
    stored = {"version": 0, "checksum": checksum}
    assert scoring_settings(score, network).differences(stored) == []
    unknown = "unknown which, since the calibration is from an earlier release"
    assert scoring_settings(StudyScore("top_q", 0.5), network).differences(stored) == [unknown]


def test_calibrations_of_earlier_releases_have_no_healthy_statistics() -> None:
    settings = scoring_settings(MEAN, detector(code_distance=CodeDistance(8)))
    assert settings.differences({"version": 0, "checksum": [1.0, 2300881230.0]}) == [
        "normalisation and code: none or those of an earlier release at calibration"
    ]


def test_map_without_settings_is_rejected() -> None:
    with pytest.raises(NomalyError, match=r"Identity has no settings\(\): add a method settings\(\) that returns"):
        scoring_settings(MEAN, detector(map_head=nn.Identity()))


def test_calibration_of_an_earlier_release_differs_from_a_score_mode_that_it_did_not_have() -> None:
    settings = ScoringSettings({"score": {"mode": "median"}})
    assert settings.differences({"version": 0, "checksum": [1.0, 2300881230.0]}) == [
        'score.mode: one of an earlier release at calibration, "median" now'
    ]
