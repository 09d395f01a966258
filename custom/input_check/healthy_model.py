"""Distance of a vector from those of healthy studies, and of those from one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_AXES = 32
SHARE = 0.9  # of the variance that the axes explain
FOLDS = 50  # leave-one-out up to this number of studies


@dataclass(frozen=True)
class HealthyModel:
    """A Gaussian with few free axes: probabilistic principal components (Tipping and Bishop, 1999).

    Its covariance is full along the leading axes and the same in all other directions, so it is invertible with fewer
    studies than dimensions, and needs little space in a file.

    Args:
        mean: (D,).
        axes: (Q, D) orthonormal.
        variances: (Q + 1,) along the axes and, last, in every other direction.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    variances: NDArray[np.float64]

    def distance(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(...) Mahalanobis distance of values (..., D) as a root mean square over the dimensions: 1 is typical."""
        centred = np.asarray(values, np.float64) - self.mean
        along = centred @ self.axes.T
        rest = np.maximum((centred**2).sum(-1) - (along**2).sum(-1), 0)
        total = (along**2 / self.variances[:-1]).sum(-1) + rest / self.variances[-1]
        return np.sqrt(total / len(self.mean))


def fit(values: NDArray[np.float64]) -> HealthyModel:
    """Model of healthy vectors (n, D), with axes for 90 % of the variance, at most half as many as studies."""
    n, size = values.shape
    mean = values.mean(0)
    _, singular, axes = np.linalg.svd(values - mean, full_matrices=False)
    variances = singular**2 / max(n - 1, 1)
    smallest = 1e-9 + 1e-6 * float(variances.sum()) / size  # for directions without any variance
    needed = int(np.searchsorted(np.cumsum(variances), SHARE * variances.sum())) + 1
    count = max(min(needed, (n - 1) // 2, MAX_AXES, size - 1), 0)
    rest = float(variances[count:].sum()) / max(size - count, 1)
    return HealthyModel(
        mean=mean.astype(np.float32).astype(np.float64),
        axes=axes[:count].astype(np.float32).astype(np.float64),
        variances=np.maximum([*variances[:count], rest], smallest).astype(np.float32).astype(np.float64),
    )


def held_out(values: NDArray[Any], measure: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """(n,) ``measure(others, left_out)`` of each of (n, ...) values, computed without that value.

    Leave-one-out for up to fifty values, otherwise fifty folds in turn; nothing is random.
    """
    fold = np.arange(len(values)) % FOLDS
    found = np.zeros(len(values))
    for number in np.unique(fold):
        found[fold == number] = measure(values[fold != number], values[fold == number])
    return found
