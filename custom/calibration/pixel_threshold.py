"""The threshold above which a pixel counts as abnormal, from healthy pixels only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError


class HealthyHistogram:
    """Streaming histogram of the map values of healthy pixels: one pass over any number of studies, half a megabyte.

    Bins are spaced evenly in the logarithm, so the relative error of a quantile between `low` and `high` is at most
    (high / low)^(1 / bins) - 1, 0.04 % by default. It is rounded up: on the pixels that were added, the false-positive
    rate never exceeds the stated one.

    Args:
        bins: number of bins between `low` and `high`.
        low: values up to this one, and negative ones, share the first bin.
        high: larger values share the last bin, whose quantile is the largest value seen.
    """

    def __init__(self, bins: int = 65536, low: float = 1e-9, high: float = 1e3) -> None:
        if bins < 2 or not 0 < low < high:
            raise NomalyError(f"bins must be >= 2 and 0 < low < high, got bins = {bins}, low = {low}, high = {high}.")
        self.edges = np.geomspace(low, high, bins + 1)  # upper edge of each bin
        self.counts = np.zeros(bins + 2, dtype=np.int64)  # one more for values above `high`
        self.maximum = -math.inf

    @property
    def total(self) -> int:
        """Number of values added."""
        return int(self.counts.sum())

    def add(self, values: ArrayLike) -> None:
        """Count `values`, of any shape, as numpy array or CPU tensor.

        Raises:
            NomalyError: a value is NaN or infinite.
        """
        array = np.asarray(values, dtype=np.float64).ravel()
        if not np.isfinite(array).all():
            raise NomalyError("values must be finite, got NaN or infinity: exclude this study.")
        if array.size:
            self.counts += np.bincount(self._bin(array), minlength=len(self.counts))
            self.maximum = max(self.maximum, float(array.max()))

    def quantile(self, q: float) -> float:
        """A value such that at least the share `q` of the added values is not larger."""
        if not 0 <= q <= 1:
            raise NomalyError(f"q must be in [0, 1], got {q}.")
        if self.total == 0:
            raise NomalyError("quantile needs healthy values, got none: call add first.")
        needed = max(math.ceil(q * self.total - 1e-6), 1)
        index = int(np.searchsorted(self.counts.cumsum(), needed))
        upper = self.edges[index] if index < len(self.edges) else math.inf
        return float(min(upper, self.maximum))

    def _bin(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Index of the first edge >= value: from the logarithm, then corrected by at most one for rounding."""
        low, high = np.log(self.edges[0]), np.log(self.edges[-1])
        place = (np.log(np.clip(values, self.edges[0], self.edges[-1])) - low) / (high - low) * (len(self.edges) - 1)
        index = np.ceil(place).astype(np.int64)
        index -= values <= self.edges[np.maximum(index - 1, 0)]
        index = np.maximum(index, 0)
        return index + (values > self.edges[np.minimum(index, len(self.edges) - 1)])


def pixel_threshold(healthy: HealthyHistogram | ArrayLike, false_positive_rate: float) -> float:
    """Map value above which (strictly) a pixel counts as abnormal.

    Args:
        healthy: map values of healthy foreground pixels, or their histogram; never those of test studies.
        false_positive_rate: share of healthy pixels that may be above the threshold, in (0, 1).

    Returns:
        The smallest threshold that meets the rate on the given pixels: exact for an array, within one bin for a
        histogram.

    Raises:
        NomalyError: the rate is out of range, or there are fewer than 1 / rate healthy pixels.
    """
    if not 0 < false_positive_rate < 1:
        raise NomalyError(f"false_positive_rate must be in (0, 1), got {false_positive_rate}.")
    if isinstance(healthy, HealthyHistogram):
        _check_pixels(healthy.total, false_positive_rate)
        return healthy.quantile(1 - false_positive_rate)
    values = np.asarray(healthy, dtype=np.float64).ravel()
    _check_pixels(values.size, false_positive_rate)
    if not np.isfinite(values).all():
        raise NomalyError("healthy must hold finite values, got NaN or infinity: exclude this study.")
    index = values.size - 1 - math.floor(false_positive_rate * values.size + 1e-6)
    return float(np.partition(values, index)[index])


def _check_pixels(total: int, false_positive_rate: float) -> None:
    """Refuse too few healthy pixels for the rate."""
    needed = math.ceil(1 / false_positive_rate - 1e-9)
    if total < needed:
        raise NomalyError(
            f"healthy must hold at least {needed} pixels for false_positive_rate = {false_positive_rate}, got {total}."
        )
