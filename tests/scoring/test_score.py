"""Study scores and foregrounds on tiny hand-made maps."""

from __future__ import annotations

import math

import pytest
import torch

from custom.errors import NomalyError
from custom.scoring.part_statistics import PartStatistics
from custom.scoring.score import StudyScore, foreground
from custom.scoring.structural_similarity import StructuralSimilarityMap

MAP = torch.arange(100.0).reshape(1, 10, 10, 1)
EVERYWHERE = torch.ones_like(MAP, dtype=torch.bool)


@pytest.mark.parametrize(
    ("mode", "q", "expected"),
    [("top_q", 0.02, 98.5), ("top_q", 0.001, 99.0), ("top_q", 1.0, 49.5), ("mean", 0.02, 49.5), ("max", 0.02, 99.0)],
)
def test_each_mode_gives_its_hand_derived_score(mode: str, q: float, expected: float) -> None:
    assert StudyScore(mode, q)(MAP, EVERYWHERE).item() == expected


def test_pixels_outside_the_foreground_do_not_count() -> None:
    assert StudyScore("max")(MAP, MAP < 50).item() == 49
    assert StudyScore("top_q", 0.02)(MAP, MAP < 50).item() == 49  # 2 % of 50 pixels = 1 pixel


def test_scores_above_one_are_not_clamped() -> None:
    assert StudyScore("mean")(MAP * 1000, EVERYWHERE).item() == 49500


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "median"}, "score_mode must be one of fused, top_q, mean, max, ms_ssim, got 'median'"),
        ({"q": 0.0}, r"q must be in \(0, 1\], got 0.0"),
        ({"mode": "fused"}, "score_mode 'fused' needs a map of structural similarity, got none: choose another"),
        ({"mode": "ms_ssim"}, "score_mode 'ms_ssim' needs a map of structural similarity, got none: choose another"),
    ],
)
def test_wrong_settings_are_rejected_by_name(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        StudyScore(**settings)


def test_empty_foreground_and_infinite_maps_are_rejected() -> None:
    with pytest.raises(NomalyError, match="foreground must contain at least one pixel"):
        StudyScore()(MAP, ~EVERYWHERE)
    with pytest.raises(NomalyError, match="anomaly_map must have finite values"):
        StudyScore()(MAP / 0, EVERYWHERE)


def test_foreground_is_where_any_channel_exceeds_the_threshold() -> None:
    image = torch.tensor([[0.0, 0.05, 0.2, 0.0], [0.0, 0.0, 0.0, 0.3]]).reshape(2, 4, 1, 1)
    assert foreground(image).flatten().tolist() == [False, False, True, True]
    assert foreground(image, threshold=0.25).flatten().tolist() == [False, False, False, True]


def test_part_that_only_the_reconstruction_shows_stays_in_the_foreground() -> None:
    image, reconstruction = torch.tensor([0.0, 0.5, 0.0]), torch.tensor([0.9, 0.5, 0.0])
    mask = foreground(image.reshape(1, 3, 1, 1), reconstruction=reconstruction.reshape(1, 3, 1, 1))
    assert mask.flatten().tolist() == [True, True, False]


def test_settings_differ_for_scores_that_cannot_be_compared() -> None:
    assert StudyScore("top_q", 0.02).settings() != StudyScore("top_q", 0.05).settings()
    assert StudyScore("mean").settings() != StudyScore("max").settings()
    assert StudyScore("mean", 0.02).settings() == StudyScore("mean", 0.05).settings()  # q has no part in a mean


# Structural similarity


def test_ms_ssim_is_the_mean_blended_score_of_the_slices() -> None:
    similarity = StructuralSimilarityMap(window=7)
    generator = torch.Generator().manual_seed(0)
    image, reconstruction = (torch.rand(3, 32, 40, 2, generator=generator) for _ in range(2))
    anomaly_map = torch.rand(1, 32, 40, 2)
    score = StudyScore("ms_ssim", similarity=similarity)(anomaly_map, anomaly_map > 0.5, image, reconstruction)
    slices = [similarity.blended_score(image[None, ..., z], reconstruction[None, ..., z]) for z in range(2)]
    assert score.shape == () and score.item() == pytest.approx(torch.cat(slices).mean().item())
    assert StudyScore("ms_ssim", similarity=similarity)(anomaly_map, anomaly_map > 0.5, image, image) == 0


@pytest.mark.parametrize("depth", [1, 3])
def test_structure_of_several_studies_is_that_of_each_bit_for_bit(depth: int) -> None:
    rule = StudyScore("fused", similarity=StructuralSimilarityMap())
    images = torch.rand(11, 1, 48, 48, depth, generator=torch.Generator().manual_seed(0))
    reconstructions = (images + 0.1).clamp(0, 1)
    together = rule.dissimilarities(images, reconstructions)
    alone = [rule.dissimilarity(*pair) for pair in zip(images, reconstructions)]
    assert torch.equal(together, torch.stack(alone)) and len(together.unique()) == 11


def test_settings_of_ms_ssim_differ() -> None:
    settings = [{}, {"window": 7}, {"l1_weight": 0.5}, {"weights": (0.5, 0.5)}, {"sigma": 2.0}]
    rules = [
        str(StudyScore("ms_ssim", similarity=StructuralSimilarityMap(**setting)).settings()) for setting in settings
    ]
    assert len(set(rules)) == len(rules)
    assert rules[0] == str(
        StudyScore("ms_ssim", 0.5, similarity=StructuralSimilarityMap()).settings()
    )  # q has no part in it
    assert rules[0] != str(StudyScore("mean", similarity=StructuralSimilarityMap()).settings())


# Fused score


def fused_inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    image, reconstruction = (torch.rand(1, 32, 40, 2, generator=generator) for _ in range(2))
    anomaly_map = torch.rand(1, 32, 40, 2, generator=generator)
    patches = 1 + torch.rand(1, 32, 40, 2, generator=generator)
    return (
        anomaly_map,
        torch.ones_like(anomaly_map, dtype=torch.bool),
        image,
        reconstruction,
        torch.tensor(1.5),
        patches,
    )


def test_fused_score_is_the_sum_of_its_standardised_logarithms() -> None:
    similarity, statistics = StructuralSimilarityMap(), PartStatistics()
    statistics.mean.copy_(torch.tensor([0.1, -0.5, 0.2, 0.3]))
    statistics.std.copy_(torch.tensor([0.5, 0.25, 2.0, 0.1]))
    inputs = anomaly_map, mask, image, reconstruction, _, patches = fused_inputs()
    top = StudyScore("top_q", 0.02)(anomaly_map, mask).item()
    structure = StudyScore("ms_ssim", similarity=similarity)(anomaly_map, mask, image, reconstruction).item()
    texture = StudyScore("top_q", 0.02)(patches, mask).item()
    score = StudyScore("fused", 0.02, similarity, statistics)(*inputs)
    by_hand = (math.log(top) - 0.1) / 0.5 + (math.log(structure) + 0.5) / 0.25 + (math.log(1.5) - 0.2) / 2
    assert score.item() == pytest.approx(by_hand + (math.log(texture) - 0.3) / 0.1, abs=1e-4)


@pytest.mark.parametrize("part", ["map", "structure", "code", "patches"])
def test_fused_score_grows_with_each_part(part: str) -> None:
    anomaly_map, mask, image, reconstruction, distance, patches = fused_inputs()
    score = StudyScore("fused", similarity=StructuralSimilarityMap(), statistics=PartStatistics())
    before = score(anomaly_map, mask, image, reconstruction, distance, patches)
    changed = {
        "map": (anomaly_map * 2, mask, image, reconstruction, distance, patches),
        "structure": (anomaly_map, mask, image, 1 - image, distance, patches),
        "code": (anomaly_map, mask, image, reconstruction, distance * 2, patches),
        "patches": (anomaly_map, mask, image, reconstruction, distance, patches * 2),
    }
    assert score(*changed[part]) > before


def test_fused_score_of_a_perfect_reconstruction_is_finite() -> None:
    anomaly_map, mask, image, *_ = fused_inputs()
    score = StudyScore("fused", similarity=StructuralSimilarityMap())
    assert math.isfinite(score(anomaly_map * 0, mask, image, image))


def test_baselines_get_the_fused_score_without_code_patches_and_statistics() -> None:
    similarity = StructuralSimilarityMap()
    rule = StudyScore("fused", 0.05, similarity, PartStatistics()).for_baselines()
    assert (rule.mode, rule.q, rule.similarity, rule.statistics) == ("fused", 0.05, similarity, None)
    anomaly_map, mask, image, reconstruction, *_ = fused_inputs()
    assert list(rule.parts(anomaly_map, mask, image, reconstruction)) == ["map", "structure"]
    assert math.isfinite(rule(anomaly_map, mask, image, reconstruction))


def test_settings_of_the_fused_score_name_its_parts() -> None:
    settings = StudyScore("fused", 0.05, StructuralSimilarityMap()).settings()
    assert (settings["parts"], settings["q"], settings["similarity"]["kind"]) == (
        ("map", "structure", "code", "patches"),
        0.05,
        "ms_ssim",
    )
