"""Baselines of intensities only: brightness, histogram, and the equalised intensity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor

from custom.errors import NomalyError
from custom.scoring.score import StudyScore, foreground

ScoreRule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Baseline(ABC):
    """A simple detector of unusual studies.

    `peer` tells that it uses more than the healthy images; it is then never the best baseline.
    """

    peer = False
    shape: tuple[int, ...] = ()

    def fit(self, train: Tensor) -> None:
        """Learn from healthy slices (N, C, H, W)."""
        self.shape = tuple(train.shape[1:])
        self._fit(train)

    @abstractmethod
    def _fit(self, train: Tensor) -> None:
        """Learn from healthy slices, float32 (N, C, H, W)."""

    @abstractmethod
    def score(self, study: Tensor) -> float:
        """Score of a study (C, X, Y, Z), larger = more abnormal."""

    def map(self, study: Tensor) -> Tensor | None:
        """Anomaly map (1, X, Y, Z) of a study, larger = more abnormal; None for a baseline without maps."""
        return None

    def slices(self, study: Tensor) -> Tensor:
        """(C, X, Y, Z) -> (Z, C, X, Y), after a check against the training slices."""
        fits = study.ndim == 4 and study.shape[0] == self.shape[0]
        if not fits or study.shape[1] < self.shape[1] or study.shape[2] < self.shape[2]:
            raise NomalyError(
                f"study must be (C, X, Y, Z) = {(*self.shape, 'Z')} as the training slices, or larger, got "
                f"{tuple(study.shape)}: bring it to the network's grid first."
            )
        return study.float().permute(3, 0, 1, 2)


class FeatureBaseline(Baseline):
    """A baseline that scores each slice; the study score is the mean over the slices that show a body.

    A dark study without any body gets the mean over all slices, each scored over all pixels.
    """

    @abstractmethod
    def slice_scores(self, slices: Tensor) -> Tensor:
        """(B, C, H, W) -> (B,), each over its foreground, or over all pixels without one."""

    def score(self, study: Tensor) -> float:
        """Mean over the slices that show a body, or over all slices if none does."""
        slices = self.slices(study)
        shown = with_body(slices)
        return self.slice_scores(shown if len(shown) else slices).mean().item()


class BrightnessBaseline(FeatureBaseline):
    """Distance of a slice's mean foreground intensity from its mean over the training slices."""

    def _fit(self, train: Tensor) -> None:
        self.mean = self._brightness(with_body(train)).mean()

    def slice_scores(self, slices: Tensor) -> Tensor:
        """Absolute difference of the mean intensity (B,) of slices (B, C, H, W), in [0, 1]."""
        return (self._brightness(slices) - self.mean).abs()

    @staticmethod
    def _brightness(slices: Tensor) -> Tensor:
        mask = or_all(body(slices))
        return (slices.mean(1, keepdim=True) * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)


class HistogramBaseline(FeatureBaseline):
    """Mahalanobis distance of a slice's foreground histogram, with the shrunk covariance of Ledoit and Wolf (2004).

    Args:
        bins: number of bins over [0, 1].
    """

    def __init__(self, bins: int = 64) -> None:
        self.bins = bins

    def _fit(self, train: Tensor) -> None:
        self.law = LedoitWolf().fit(self._histograms(with_body(train)).cpu().numpy())

    def slice_scores(self, slices: Tensor) -> Tensor:
        """Mahalanobis distance (B,) of slices (B, C, H, W), >= 0."""
        return torch.from_numpy(self.law.mahalanobis(self._histograms(slices).cpu().numpy())).sqrt()

    def _histograms(self, slices: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, bins), shares of the foreground."""
        index = (slices.mean(1) * self.bins).long().clamp(0, self.bins - 1).flatten(1)
        mask = or_all(body(slices)).flatten(1).double()
        counts = torch.zeros(len(slices), self.bins, dtype=torch.float64, device=slices.device)
        return counts.scatter_add_(1, index, mask) / mask.sum(1, keepdim=True)


class IntensityBaseline(Baseline):
    """Bright means abnormal: the equalised intensity, without any learning (Meissen et al., arXiv 2109.06023).

    Map: share of the study's own foreground pixels that are at most as bright, as published. Its histogram is the same
    for every study and cannot rank them, so the score uses another map: the share of the training slices' foreground
    pixels that are at most as bright. Dark lesions are not detected. Channels are averaged first. A dark study without
    any body is scored over all its pixels.

    Args:
        rule: score of a map over a foreground; one that needs a reconstruction is replaced by ``StudyScore("top_q")``.
        steps: number of quantiles that represent the training slices.
    """

    def __init__(self, rule: ScoreRule, steps: int = 4096) -> None:
        self.rule = StudyScore("top_q") if getattr(rule, "mode", None) in ("ms_ssim", "fused") else rule
        self.steps = steps

    def _fit(self, train: Tensor) -> None:
        values = train.mean(1, keepdim=True)[body(train)].sort().values
        if len(values) == 0:
            raise NomalyError("foreground must contain at least one pixel, got an empty mask: no slice shows a body.")
        places = (torch.arange(self.steps, device=values.device) + 0.5) / self.steps * len(values)
        self.quantiles = values[places.long()]

    def score(self, study: Tensor) -> float:
        """Score of the map against the training slices, over the foreground or, without one, over all pixels."""
        image = self._image(study)
        equalised = _share_at_most(image.mean(0, keepdim=True), self.quantiles)
        return self.rule(equalised, or_all(foreground(image)[None])[0], image, image).item()

    def map(self, study: Tensor) -> Tensor:
        """Share of the study's foreground that is at most as bright, (1, X, Y, Z); 0 outside it."""
        image = self._image(study)
        mean, mask = image.mean(0, keepdim=True), foreground(image)
        return _share_at_most(mean, mean[mask].sort().values) * mask

    def _image(self, study: Tensor) -> Tensor:
        """The study as float32, after a check against the training slices."""
        return self.slices(study).permute(1, 2, 3, 0)


def _share_at_most(values: Tensor, reference: Tensor) -> Tensor:
    """Share of the ascending reference values that do not exceed each value; 0 without a reference."""
    return torch.searchsorted(reference, values.contiguous(), right=True).float() / max(len(reference), 1)


def body(slices: Tensor) -> Tensor:
    """Foreground (B, 1, H, W) of slices (B, C, H, W), see :func:`custom.scoring.score.foreground`."""
    return foreground(slices.transpose(0, 1)).transpose(0, 1)


def or_all(masks: Tensor) -> Tensor:
    """Bool masks (B, ...) in which empty ones become full: without a body all pixels count."""
    return masks | ~masks.flatten(1).any(1).reshape(-1, *[1] * (masks.ndim - 1))


def with_body(slices: Tensor) -> Tensor:
    """The slices (B, C, H, W) that have some foreground."""
    return slices[body(slices).flatten(1).any(1)]
