"""Quality of reconstructions against scikit-image and cases that can be told by hand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from custom.metrics.reconstruction_quality import ReconstructionQuality, slice_similarity


def study(seed: int, channels: int = 1) -> np.ndarray:
    """Noise (C, 24, 20, 3) in [0.2, 1]."""
    return (0.2 + 0.8 * np.random.default_rng(seed).random((channels, 24, 20, 3))).astype(np.float32)


BODY = np.ones((1, 24, 20, 3), dtype=bool)
LESION = np.zeros((1, 24, 20, 3), dtype=bool)
LESION[0, 8:16, 6:14, 1] = True


def test_healthy_error_and_similarity_are_means_over_slices() -> None:
    quality, (x, y) = ReconstructionQuality(), (study(0), study(1))
    quality.add("a", x, y, BODY, None)
    result = quality.result(20)
    expected = [structural_similarity(x[0, ..., z], y[0, ..., z], data_range=1.0) for z in range(3)]
    assert result["healthy_ssim"]["value"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert result["healthy_mae"]["value"] == pytest.approx(np.abs(x - y).mean(), abs=1e-6)
    assert result["conserve"] is None and result["correct"] is None and result["index"] is None


def test_slices_without_a_body_do_not_flatter() -> None:
    x, y = study(0), study(1)
    x[..., 2] = y[..., 2] = 0  # air, perfectly rebuilt
    body = BODY.copy()
    body[..., 2] = False
    with_air, without = ReconstructionQuality(), ReconstructionQuality()
    with_air.add("a", x, y, body, None)
    without.add("a", x[..., :2], y[..., :2], BODY[..., :2], None)
    assert with_air.result(5) == without.result(5)


def test_reconstruction_that_changes_only_the_lesion_is_best() -> None:
    x = study(0)
    perfect, copy, wrong = x.copy(), x.copy(), study(2)
    perfect[LESION] = study(3)[LESION]
    results = []
    for y in (perfect, copy, wrong):
        quality = ReconstructionQuality()
        quality.add("a", x, y, BODY, LESION)
        results.append({key: value and value["value"] for key, value in quality.result(5).items() if key != "index"})
        results[-1]["index"] = quality.result(5)["index"]
    assert results[0]["conserve"] > 0.9 and results[0]["correct"] > 0.6
    assert (results[1]["conserve"], results[1]["correct"], results[1]["index"]) == (1, 0, 0)
    assert results[0]["index"] > results[2]["index"] > results[1]["index"]


def test_index_is_the_harmonic_mean_and_air_does_not_count() -> None:
    x, y = study(0, channels=3), study(1, channels=3)
    body = BODY.copy()
    body[:, :4] = False
    quality = ReconstructionQuality()
    quality.add("a", x, y, body, LESION)
    result = quality.result(5)
    maps = [
        structural_similarity(x[..., z], y[..., z], data_range=1.0, channel_axis=0, full=True)[1].mean(0)
        for z in range(3)
    ]
    similarity = np.stack(maps, -1)
    conserve, correct = similarity[body[0] & ~LESION[0]].mean(), 1 - similarity[LESION[0]].mean()
    assert result["conserve"]["value"] == pytest.approx(conserve, abs=1e-5)
    assert result["correct"]["value"] == pytest.approx(correct, abs=1e-5)
    assert result["index"] == pytest.approx(2 * conserve * correct / (conserve + correct), abs=1e-5)


def test_slices_too_small_for_a_window_have_an_error_and_no_similarity() -> None:
    mean, similarity = slice_similarity(np.zeros((1, 2, 9), np.float32), np.zeros((1, 2, 9), np.float32))
    assert np.isnan(mean) and np.isnan(similarity).all() and similarity.shape == (2, 9)
    quality = ReconstructionQuality()
    quality.add("a", np.ones((1, 2, 9, 1)), np.full((1, 2, 9, 1), 0.75), np.ones((1, 2, 9, 1)), None)
    result = quality.result(5)
    assert result["healthy_mae"]["value"] == 0.25 and result["healthy_ssim"] is None


def test_smaller_slices_take_the_largest_window_that_fits() -> None:
    x, y = study(0)[:, :6, :6, 0], study(1)[:, :6, :6, 0]
    assert slice_similarity(x, y)[0] == pytest.approx(structural_similarity(x[0], y[0], win_size=5, data_range=1.0))


def test_no_study_gives_no_result_and_an_empty_foreground_no_number() -> None:
    assert ReconstructionQuality().result() is None
    quality = ReconstructionQuality()
    quality.add("a", study(0), study(1), np.zeros_like(BODY), None)
    assert quality.result(5)["healthy_mae"] is None
