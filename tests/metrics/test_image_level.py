"""Study-level metrics against scikit-learn and hand-derived values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from custom.errors import NomalyError
from custom.metrics.image_level import auprc, auroc, fpr_at_tpr, tpr_at_fpr


def scores_with_ties(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    return labels, np.round(generator.normal(labels, 1), 1)


def test_auroc_and_auprc_equal_hand_derived_values() -> None:
    labels, scores = [0, 1, 0, 1], [1.0, 1.0, 2.0, 3.0]
    assert auroc(labels, scores) == (0.5 + 0 + 1 + 1) / 4  # the four pairs of an abnormal and a healthy study
    # thresholds 3, 2, 1: recall 1/2, 1/2, 1 with precision 1, 1/2, 2/4
    assert auprc(labels, scores) == 0.5 * 1 + 0.5 * 0.5


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn_with_and_without_weights(seed: int) -> None:
    labels, scores = scores_with_ties(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, (3, 200)).astype(float)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auprc(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    expected = [roc_auc_score(labels, scores, sample_weight=row) for row in weights]
    assert auroc(labels, scores, weights) == pytest.approx(expected, abs=1e-12)
    expected = [average_precision_score(labels, scores, sample_weight=row) for row in weights]
    assert auprc(labels, scores, weights) == pytest.approx(expected, abs=1e-12)


def test_operating_points_equal_hand_derived_values() -> None:
    labels, scores = [0, 0, 0, 0, 1, 1], [1.0, 2.0, 3.0, 5.0, 4.0, 6.0]
    # along falling scores the points (FPR, TPR) are (0, 1/2), (1/4, 1/2), (1/4, 1), (1/2, 1), ...
    assert fpr_at_tpr(labels, scores, 0.95) == 1 / 4 and fpr_at_tpr(labels, scores, 0.5) == 0
    assert tpr_at_fpr(labels, scores, 0.05) == 1 / 2 and tpr_at_fpr(labels, scores, 0.25) == 1
    assert tpr_at_fpr([0, 1, 1], [3.0, 1.0, 2.0]) == 0  # nothing is found before the first false alarm


@pytest.mark.parametrize("seed", range(5))
def test_operating_points_equal_the_roc_curve_of_scikit_learn(seed: int) -> None:
    labels, scores = scores_with_ties(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, (3, 200)).astype(float)
    at_95, at_5 = fpr_at_tpr(labels, scores, 0.95, weights), tpr_at_fpr(labels, scores, 0.05, weights)
    for row, fpr_95, tpr_5 in zip((np.ones(200), *weights), (fpr_at_tpr(labels, scores), *at_95), (None, *at_5)):
        fpr, tpr, _ = roc_curve(labels, scores, sample_weight=row, drop_intermediate=False)
        assert fpr_95 == pytest.approx(fpr[tpr >= 0.95 - 1e-12][0], abs=1e-12)
        tpr_5 = tpr_at_fpr(labels, scores) if tpr_5 is None else tpr_5
        assert tpr_5 == pytest.approx(tpr[fpr <= 0.05 + 1e-12].max(), abs=1e-12)


def test_operating_point_exactly_at_the_asked_rate_counts() -> None:
    labels = [0] * 20 + [1] * 20
    scores = np.r_[np.arange(20), np.arange(20) + 0.5]
    assert tpr_at_fpr(labels, scores, 0.05) == 1 / 20 + 1 / 20  # scores 19.5 and 18.5 before the second false alarm
    assert fpr_at_tpr(labels, scores, 0.95) == 18 / 20  # the 19 highest abnormal scores end at 1.5; 2 to 19 are above


@pytest.mark.parametrize("metric", [auroc, auprc, fpr_at_tpr, tpr_at_fpr])
@pytest.mark.parametrize("label", [0, 1])
def test_metrics_of_a_single_class_are_not_a_number(metric: object, label: int) -> None:
    assert np.isnan(metric([label] * 3, [1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [1.0], "labels and scores must be two lists of equal length"),
        ([0, 2], [1.0, 2.0], r"labels must be 0 \(healthy\) or 1 \(abnormal\), got \[0, 2\]"),
        ([0, 1], [1.0, np.nan], "scores must be finite"),
    ],
)
def test_broken_columns_are_refused_by_name(labels: list, scores: list, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        auroc(labels, scores)


def test_rate_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(NomalyError, match=r"tpr must be in \[0, 1\], got 95"):
        fpr_at_tpr([0, 1], [1.0, 2.0], 95)
