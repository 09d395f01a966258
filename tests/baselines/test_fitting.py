"""Baselines on small seeded images: each finds what it is made to find, and its errors equal scikit-learn's."""

from __future__ import annotations

import math

import pytest
import torch
from monai.inferers import sliding_window_inference
from sklearn.decomposition import PCA
from torch import Tensor

from custom.baselines.fitting import fit_baselines, reference_errors
from custom.baselines.intensity import BrightnessBaseline, HistogramBaseline, IntensityBaseline
from custom.baselines.reconstruction import AutoencoderBaseline, PcaBaseline, principal_components
from custom.errors import NomalyError
from custom.scoring.score import StudyScore
from custom.scoring.structural_similarity import StructuralSimilarityMap

NAMES = ["brightness", "histogram", "intensity", "mean_image", "pca", "autoencoder"]


def healthy_slices(n: int, seed: int = 0, size: tuple[int, int] = (24, 20)) -> Tensor:
    """(n, 1, H, W): a disc of random brightness on black, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.linspace(-1, 1, side) for side in size)
    disc = (x[:, None] ** 2 + y**2 < 0.7).float()
    brightness = 0.5 + 0.1 * torch.rand(n, 1, 1, 1, generator=generator)
    return disc * (brightness + 0.02 * torch.randn(n, 1, *size, generator=generator))


def as_study(slices: Tensor) -> Tensor:
    """(Z, C, X, Y) -> (C, X, Y, Z)."""
    return slices.permute(1, 2, 3, 0)


@pytest.fixture(scope="module")
def baselines() -> dict:
    return fit_baselines(healthy_slices(40), epochs=2, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_baseline_scores_a_bright_lesion_above_healthy_studies(baselines: dict, name: str) -> None:
    healthy = [as_study(healthy_slices(3, seed)) for seed in range(10, 20)]
    ill = as_study(healthy_slices(3, 10)).clone()
    ill[:, 8:16, 6:12] += 0.4
    assert baselines[name].score(ill) > max(baselines[name].score(study) for study in healthy)


@pytest.mark.parametrize("name", NAMES)
def test_maps_have_the_study_shape_and_feature_baseline_have_none(baselines: dict, name: str) -> None:
    study = as_study(healthy_slices(3, 10))
    result = baselines[name].map(study)
    if name in ("brightness", "histogram"):
        assert result is None
    else:
        assert result.shape == (1, 24, 20, 3) and (result >= 0).all()


def test_brightness_baseline_is_the_distance_of_foreground_means() -> None:
    baseline = BrightnessBaseline()
    train = torch.zeros(2, 1, 4, 4)
    train[0, :, :2], train[1, :, 2:] = 0.4, 0.6  # foreground means 0.4 and 0.6: training mean 0.5
    baseline.fit(train)
    study = torch.zeros(1, 4, 4, 3)
    study[:, :, :2, 0], study[:, :2, :, 1] = 0.8, 0.3  # the third slice is empty and does not count
    assert baseline.score(study) == pytest.approx((0.3 + 0.2) / 2)


def test_histograms_are_shares_of_the_foreground_only() -> None:
    slices = torch.tensor([0.0, 0.3, 0.3, 0.9]).reshape(1, 1, 2, 2)
    shares = HistogramBaseline(bins=4)._histograms(slices)
    assert shares.tolist() == [[0.0, pytest.approx(2 / 3), 0.0, pytest.approx(1 / 3)]]


def test_intensity_map_is_the_share_of_the_body_that_is_at_most_as_bright() -> None:
    baseline = IntensityBaseline(StudyScore("max"))
    baseline.fit(torch.full((2, 1, 2, 3), 0.5))
    study = torch.tensor([0.0, 0.2, 0.2, 0.4, 0.6, 0.01]).reshape(1, 2, 3, 1)  # two pixels of air
    expected = torch.tensor([0.0, 0.5, 0.5, 0.75, 1.0, 0.0]).reshape(1, 2, 3, 1)
    torch.testing.assert_close(baseline.map(study), expected)
    torch.testing.assert_close(baseline.map(0.5 * study + 0.1 * (study > 0.1)), expected)  # any brighter or darker scan


def test_intensity_score_compares_with_the_training_slices() -> None:
    baseline = IntensityBaseline(StudyScore("mean"))
    baseline.fit(torch.arange(1, 11).reshape(1, 1, 2, 5).repeat(2, 1, 1, 1) / 10)  # 0.1, 0.2, ... 1.0
    study = torch.full((1, 2, 5, 1), 0.35)  # three tenths are darker
    study[:, 0] = 0.75  # seven tenths
    assert baseline.score(study) == pytest.approx((0.3 + 0.7) / 2, abs=0.001)


def test_intensity_score_of_a_rule_that_needs_a_reconstruction_is_that_of_the_top_pixels() -> None:
    similarity = StudyScore("ms_ssim", similarity=StructuralSimilarityMap())
    by_similarity, by_top = IntensityBaseline(similarity), IntensityBaseline(StudyScore("top_q"))
    for baseline in (by_similarity, by_top):
        baseline.fit(healthy_slices(10))
    study = as_study(healthy_slices(2, 3))
    assert by_similarity.score(study) == by_top.score(study)


def test_intensity_baseline_without_any_body_to_learn_from_is_refused() -> None:
    with pytest.raises(
        NomalyError, match="foreground must contain at least one pixel, got an empty mask: no slice shows"
    ):
        IntensityBaseline(StudyScore()).fit(torch.zeros(2, 1, 4, 4))


def test_mean_image_baseline_map_is_the_distance_from_the_mean() -> None:
    baseline = PcaBaseline(0, StudyScore("mean"))
    train = healthy_slices(5)
    baseline.fit(train)
    study = as_study(healthy_slices(2, 3))
    expected = (study - train.mean(0).unsqueeze(-1)).abs()
    assert torch.allclose(baseline.map(study), expected)


@pytest.mark.parametrize("count", [3, 8])
def test_principal_components_span_what_scikit_learn_finds(count: int) -> None:
    rows = healthy_slices(30).flatten(1)
    mean, basis = principal_components(rows, count)
    reference = PCA(count).fit(rows.numpy())
    agreement = (basis @ torch.from_numpy(reference.components_).float().T).abs().diagonal()
    assert torch.allclose(mean, torch.from_numpy(reference.mean_).float(), atol=1e-6)
    assert torch.allclose(agreement, torch.ones(count), atol=1e-3)


def test_components_beyond_the_rank_of_the_rows_are_left_out() -> None:
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    _, basis = principal_components(rows, 32)
    assert basis.shape == (2, 50)  # three centred rows span two dimensions
    assert torch.allclose(basis @ basis.T, torch.eye(2), atol=1e-5)


def test_reference_errors_equal_scikit_learn_reconstructions() -> None:
    train, validation = healthy_slices(30), healthy_slices(10, 7)
    errors = reference_errors(train, validation, components=(2, 8))
    rows = validation.flatten(1).numpy()
    for k in (2, 8):
        pca = PCA(k).fit(train.flatten(1).numpy())
        expected = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(1).mean()
        assert errors[f"pca_{k}"] == pytest.approx(expected, rel=1e-3)
    assert errors["mean_image"] == pytest.approx(float((validation - train.mean(0)).square().sum() / 10), rel=1e-5)
    assert list(errors) == ["mean_image", "pca_2", "pca_8"]


def test_autoencoder_repeats_by_seed_and_does_not_change_the_global_generator() -> None:
    train, study = healthy_slices(20), as_study(healthy_slices(1, 5))
    state = torch.get_rng_state()
    maps = []
    for seed in (1, 1, 2):
        baseline = AutoencoderBaseline(epochs=1, seed=seed, rule=StudyScore())
        baseline.fit(train)
        maps.append(baseline.map(study))
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])
    assert torch.equal(state, torch.get_rng_state())


def test_autoencoder_learns_to_reconstruct_its_training_slices() -> None:
    train = healthy_slices(40)
    errors = []
    for epochs in (0, 20):
        baseline = AutoencoderBaseline(epochs=epochs, seed=0, rule=StudyScore())
        baseline.fit(train)
        errors.append((baseline.reconstruct(train) - train).square().mean().item())
    assert errors[1] < 0.25 * errors[0]


def test_wrong_shapes_are_refused_by_name(baselines: dict) -> None:
    with pytest.raises(
        NomalyError, match=r"train must be at least 2 slices \(N, C, H, W\), got the shape \(1, 1, 4, 4\)"
    ):
        fit_baselines(torch.zeros(1, 1, 4, 4))
    with pytest.raises(NomalyError, match=r"study must be \(C, X, Y, Z\) = \(1, 24, 20, 'Z'\) as the training slices"):
        baselines["pca"].score(torch.zeros(1, 24, 16, 1))


# Studies without a body


@pytest.mark.parametrize("name", NAMES)
def test_study_without_any_body_has_a_finite_score_and_is_no_error(baselines: dict, name: str) -> None:
    study = torch.full((1, 24, 20, 2), 0.01)
    assert math.isfinite(baselines[name].score(study))
    assert baselines[name].map(study) is None or baselines[name].map(study).isfinite().all()


def test_study_without_any_body_is_scored_over_all_its_pixels() -> None:
    brightness, histogram, intensity = (
        BrightnessBaseline(),
        HistogramBaseline(bins=4),
        IntensityBaseline(StudyScore("mean")),
    )
    train = torch.tensor([0.03] * 5 + [0.2, 0.4, 0.6, 0.8, 1.0]).reshape(1, 1, 2, 5).repeat(2, 1, 1, 1)
    for baseline in (brightness, histogram, intensity):
        baseline.fit(train)
    study = torch.full((1, 2, 5, 2), 0.01)
    assert brightness.score(study) == pytest.approx(0.6 - 0.01)
    assert histogram._histograms(study.permute(3, 0, 1, 2)).tolist() == [[1, 0, 0, 0]] * 2
    assert intensity.score(study) == 0  # no pixel of a training body is as dark


def test_reconstruction_that_is_dark_too_is_scored_over_all_pixels() -> None:
    baseline = PcaBaseline(0, StudyScore("mean"))
    baseline.fit(torch.full((2, 1, 4, 4), 0.03))
    assert baseline.score(torch.zeros(1, 4, 4, 1)) == pytest.approx(0.03)


# Studies larger than the training slices


def test_larger_study_is_reconstructed_in_overlapping_windows(baselines: dict) -> None:
    study = torch.rand(1, 40, 31, 2, generator=torch.Generator().manual_seed(0))
    for name in ("mean_image", "pca", "autoencoder"):
        network = baselines[name].reconstruct
        slices = [
            sliding_window_inference(part[None], (24, 20), 4, network, 0.5, "gaussian") for part in study.unbind(-1)
        ]
        expected = (study - torch.stack(slices, -1)[0]).abs()
        torch.testing.assert_close(baselines[name].map(study), expected, rtol=0, atol=1e-5)


def test_feature_baseline_score_a_larger_study_as_a_whole() -> None:
    train = torch.full((3, 1, 4, 4), 0.5)
    baseline = BrightnessBaseline()
    baseline.fit(train)
    study = torch.full((1, 4, 12, 1), 0.5)
    study[:, :, :4] = 0.8  # a third of the study is 0.3 brighter
    assert baseline.score(study) == pytest.approx(0.1)


def test_rule_gets_map_foreground_study_and_reconstruction() -> None:
    given = []
    baseline = PcaBaseline(0, lambda *parts: given.append(parts) or torch.tensor(7.0))
    baseline.fit(torch.full((2, 2, 4, 4), 0.25))
    study = torch.zeros(2, 8, 4, 1)
    study[0, :2] = 0.75
    assert baseline.score(study) == 7
    ((anomaly_map, foreground, image, reconstruction),) = given
    torch.testing.assert_close(reconstruction, torch.full((2, 8, 4, 1), 0.25))
    torch.testing.assert_close(anomaly_map[0, :, 0, 0], torch.tensor(2 * [(0.5 + 0.25) / 2] + 6 * [0.25]))
    assert torch.equal(image, study) and foreground.shape == (1, 8, 4, 1) and foreground.all()
