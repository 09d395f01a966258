"""Decisions with a guaranteed false-alarm rate, from healthy scores only; larger score = more abnormal.

Split conformal prediction (Vovk et al., 2005; conformal anomaly detection, Laxhammar 2014): a new healthy study's
p-value is at most alpha with probability at most alpha, on average over calibration sets, whatever the distribution of
the scores. The confident mode guarantees more: for the given calibration set, the false-alarm rate is at most alpha
with the stated confidence (the distribution-free tolerance bound of Wilks 1941, by the binomial distribution of an
order statistic). Scores of several studies of one patient are not independent, so give one study per patient; this
cannot be checked here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from custom.errors import NomalyError


def p_values(healthy_scores: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """p = (1 + number of healthy scores >= s) / (n + 1) for each score s; small = unusual.

    Args:
        healthy_scores: (n,) scores of the healthy calibration studies, which were not used in training.
        scores: (m,) scores of the new studies.

    Returns:
        (m,) p-values in [1 / (n + 1), 1]. Ties count against the alarm.

    Raises:
        NomalyError: there are no healthy scores, or a score is not finite.
    """
    healthy = np.sort(_finite(healthy_scores, "healthy_scores"))
    at_least = len(healthy) - np.searchsorted(healthy, _finite(scores, "scores"), side="left")
    return (1 + at_least) / (len(healthy) + 1)


def minimum_n(alpha: float, confidence: float | None = None) -> int:
    """Smallest number of healthy studies with which anything can be flagged at `alpha`.

    Args:
        alpha: target false-alarm rate, in (0, 1).
        confidence: None to meet alpha on average, n >= 1 / alpha - 1 (19 / 49 / 99 for 5 / 2 / 1 %); a number in (0, 1)
            to meet it with that confidence, (1 - alpha)^n <= 1 - confidence (59 / 149 / 299 at 95 %).
    """
    _share(alpha, "alpha")
    if confidence is None:
        return max(math.ceil(1 / alpha - 1 - 1e-9), 1)
    return math.ceil(math.log(1 - _share(confidence, "confidence")) / math.log(1 - alpha) - 1e-9)


def check_enough(n: int, alpha: float, confidence: float | None = None) -> None:
    """Refuse a calibration set that is too small ever to flag a study at `alpha`.

    Raises:
        NomalyError: the calibration set is too small; the text gives the number of healthy studies needed.
    """
    needed = minimum_n(alpha, confidence)
    if n < needed:
        condition = "" if confidence is None else f" with confidence {confidence}"
        raise NomalyError(
            f"calibration needs at least {needed} healthy studies for alpha = {alpha}{condition}, got {n}: add healthy "
            "studies or choose a larger alpha."
        )


def check_groups(counts: Mapping[str | None, int], alpha: float, confidence: float | None = None) -> None:
    """Refuse calibration groups if one is too small ever to flag a study at `alpha`.

    Args:
        counts: number of healthy studies of each group; under the key None without groups.
        alpha: see :func:`minimum_n`.
        confidence: see :func:`minimum_n`.

    Raises:
        NomalyError: as :func:`check_enough`, with the name of the group.
    """
    for group, count in counts.items():
        try:
            check_enough(count, alpha, confidence)
        except NomalyError as error:
            raise NomalyError(str(error) if group is None else f"group {group}: {error}") from None


def confident_alpha(n: int, alpha: float, confidence: float = 0.95) -> float:
    """The p-value at or below which a study is flagged in the confident mode; at most `alpha`.

    With k = the rank of :func:`confident_threshold`, s > threshold if and only if p <= (n - k + 1) / (n + 1).

    Raises:
        NomalyError: n too small for this alpha and confidence.
    """
    return (n - _confident_rank(n, alpha, confidence) + 1) / (n + 1)


def confident_threshold(healthy_scores: ArrayLike, alpha: float, confidence: float = 0.95) -> float:
    """Score above which (strictly) a study is flagged so that P(false-alarm rate <= alpha) >= confidence.

    It is the k-th smallest healthy score, k the smallest rank with P(Binomial(n, 1 - alpha) < k) >= confidence.

    Raises:
        NomalyError: there are too few healthy scores, or a score is not finite.
    """
    healthy = np.sort(_finite(healthy_scores, "healthy_scores"))
    return float(healthy[_confident_rank(len(healthy), alpha, confidence) - 1])


def _confident_rank(n: int, alpha: float, confidence: float) -> int:
    """k of :func:`confident_threshold`, counted from 1."""
    check_enough(n, alpha, confidence)
    # the tolerance absorbs rounding errors at the n for which the bound is met exactly
    enough = binom.cdf(np.arange(n), n, 1 - alpha) >= confidence - 1e-12
    return int(np.argmax(enough)) + 1


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Flat float64 scores, at least one, all finite."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0:
        raise NomalyError(f"{name} must hold at least one score, got none.")
    if not np.isfinite(array).all():
        raise NomalyError(f"{name} must be finite numbers, got NaN or infinity: exclude failed studies.")
    return array


def _share(value: float, name: str) -> float:
    if not 0 < value < 1:
        raise NomalyError(f"{name} must be in (0, 1), got {value}.")
    return value
