"""Study-level metrics against scikit-learn, scipy and hand-derived values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from custom.errors import NomalyError
from custom.metrics.image_level import auprc, auroc, bootstrap_interval, bootstrap_weights, clopper_pearson


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


@pytest.mark.parametrize("metric", [auroc, auprc])
@pytest.mark.parametrize("label", [0, 1])
def test_metrics_of_a_single_class_are_not_a_number(metric: object, label: int) -> None:
    assert np.isnan(metric([label] * 3, [1.0, 2.0, 3.0]))


def test_bootstrap_draws_whole_subjects_with_replacement() -> None:
    weights = bootstrap_weights(["a", "b", "a", "c"], n=500, seed=1)
    assert weights.shape == (500, 4)
    assert np.array_equal(weights[:, 0], weights[:, 2])  # both studies of subject a together
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()  # as many draws as subjects
    assert np.array_equal(weights, bootstrap_weights(["a", "b", "a", "c"], n=500, seed=1))


def test_bootstrap_interval_equals_resampling_in_a_loop() -> None:
    labels, scores = scores_with_ties(60)
    subjects = [str(i // 2) for i in range(60)]
    low, high = bootstrap_interval(auroc, labels, scores, subjects, n=200, seed=3)
    looped = [
        roc_auc_score(np.repeat(labels, row), np.repeat(scores, row))
        for row in bootstrap_weights(subjects, 200, 3).astype(int)
    ]
    assert (low, high) == pytest.approx(tuple(np.quantile(looped, [0.025, 0.975])), abs=1e-12)
    assert low < auroc(labels, scores) < high


def test_repeated_studies_of_a_subject_do_not_narrow_the_interval() -> None:
    labels, scores = scores_with_ties(40)
    subjects = [str(i) for i in range(40)]
    once = bootstrap_interval(auroc, labels, scores, subjects)
    thrice = bootstrap_interval(auroc, np.tile(labels, 3), np.tile(scores, 3), subjects * 3)
    assert thrice == pytest.approx(once, abs=1e-12)


def test_interval_without_both_classes_is_not_a_number() -> None:
    assert np.isnan(bootstrap_interval(auroc, [0, 0], [1.0, 2.0], ["a", "b"])).all()


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 16), (10, 10)])
def test_binomial_interval_equals_scipy_exact_interval(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


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


def test_bootstrap_without_subjects_is_refused() -> None:
    with pytest.raises(NomalyError, match="subjects must name at least one patient"):
        bootstrap_weights([])
