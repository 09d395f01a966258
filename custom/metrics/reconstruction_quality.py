"""Quality of the pseudo-healthy images: close to healthy studies; changed inside lesions and only there.

Based on the restoration quality and the conservation-and-correction index of Bercea et al., Nature Communications
16:1624 (2025). Their exact formulas are not public; this is our interpretation. Their anomaly-to-healthy index needs an
Inception network and is left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.metrics import structural_similarity

from custom.metrics.intervals import bootstrap_weights, mean_stat
from custom.metrics.records import ReconstructionMetrics, Stat

WINDOW = 7  # pixels, scikit-image's default


class ReconstructionQuality:
    """Accumulate the quality of reconstructions; every study counts once, as the mean over its slices or pixels.

    - healthy_mae, healthy_ssim: mean absolute error and SSIM (Wang et al. 2004, range 1) of whole slices with a body.
    - conserve: SSIM map of an abnormal study and its reconstruction, averaged over the foreground outside the lesions;
      1 = healthy tissue is unchanged.
    - correct: 1 - SSIM map, averaged inside the lesions; larger = more changed. It does not distinguish a lesion
      replaced by healthy tissue from one replaced by something else.
    - index: harmonic mean of conserve and correct, negative values counted as 0.
    """

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.rows: list[dict[str, float]] = []

    def measure(
        self, subject: str, image: ArrayLike, reconstruction: ArrayLike, foreground: ArrayLike, truth: ArrayLike | None
    ) -> tuple[str, dict[str, float]]:
        """Measure a study without adding it; returns its patient and its numbers.

        Args:
            subject: its patient, the unit of the intervals.
            image: study (C, X, Y, Z) in [0, 1].
            reconstruction: pseudo-healthy study (C, X, Y, Z).
            foreground: bool mask of the body (1, X, Y, Z).
            truth: lesion mask (1, X, Y, Z); None for a healthy study. An abnormal study without a mask must not be
                added.
        """
        x, y = (np.asarray(part, dtype=np.float32) for part in (image, reconstruction))
        body = np.asarray(foreground, dtype=bool)[0]
        if truth is None:
            return subject, _fidelity(x, y, np.flatnonzero(body.any((0, 1))))
        lesion = np.asarray(truth)[0] > 0.5
        shown = np.flatnonzero((body | lesion).any((0, 1)))
        similarity = np.stack([slice_similarity(x[..., z], y[..., z])[1] for z in shown], -1)
        lesion, body = lesion[..., shown], body[..., shown]
        return subject, {"conserve": _mean(similarity[body & ~lesion]), "correct": _mean(1 - similarity[lesion])}

    def take(self, study: tuple[str, dict[str, float]]) -> None:
        """Add a measured study."""
        subject, row = study
        self.subjects.append(subject)
        self.rows.append(row)

    def add(
        self, subject: str, image: ArrayLike, reconstruction: ArrayLike, foreground: ArrayLike, truth: ArrayLike | None
    ) -> None:
        """Add a study; arguments as :meth:`measure`."""
        self.take(self.measure(subject, image, reconstruction, foreground, truth))

    def result(self, resamplings: int = 1000, seed: int = 0) -> ReconstructionMetrics | None:
        """The `reconstruction` part of an evaluation; None without a study."""
        if not self.rows:
            return None
        weights = bootstrap_weights(self.subjects, resamplings, seed)
        conserve, correct = self._stat("conserve", weights), self._stat("correct", weights)
        return {
            "healthy_mae": self._stat("healthy_mae", weights),
            "healthy_ssim": self._stat("healthy_ssim", weights),
            "conserve": conserve,
            "correct": correct,
            "index": _harmonic_mean(conserve, correct),
        }

    def _stat(self, name: str, weights: NDArray[np.float64]) -> Stat | None:
        """Mean over the studies that have this number."""
        members = np.flatnonzero([not np.isnan(row.get(name, np.nan)) for row in self.rows])
        subjects = [self.subjects[i] for i in members]
        return mean_stat([self.rows[i][name] for i in members], subjects, weights[:, members])


def slice_similarity(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """scikit-image's mean SSIM of two slices (C, X, Y) and its map (X, Y); NaN if a side has fewer than 3 pixels."""
    side = min(WINDOW, *x.shape[1:])
    window = side if side % 2 else side - 1
    if window < 3:
        return float("nan"), np.full(x.shape[1:], np.nan, dtype=np.float32)
    mean, similarity = structural_similarity(x, y, win_size=window, data_range=1.0, channel_axis=0, full=True)
    return float(mean), similarity.mean(0)


def _fidelity(x: NDArray[np.float32], y: NDArray[np.float32], shown: NDArray[np.int64]) -> dict[str, float]:
    """Mean absolute error and SSIM over the slices with a body."""
    ssim = np.array([slice_similarity(x[..., z], y[..., z])[0] for z in shown])
    return {"healthy_mae": _mean(np.abs(x - y)[..., shown]), "healthy_ssim": _mean(ssim)}


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _harmonic_mean(first: Stat | None, second: Stat | None) -> float | None:
    """Harmonic mean of two values; None if one is missing."""
    if first is None or second is None:
        return None
    a, b = max(first["value"], 0.0), max(second["value"], 0.0)
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
