"""The score of a study: one number from its anomaly map."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from custom.errors import NomalyError
from custom.scoring.part_statistics import PARTS, PartStatistics
from custom.scoring.structural_similarity import StructuralSimilarityMap
from custom.studies.kinds import KINDS, kind_of


def foreground(image: Tensor, threshold: float = 0.05, reconstruction: Tensor | None = None) -> Tensor:
    """The body: pixels whose brightest channel is above `threshold`.

    Args:
        image: (C, *S) in [0, 1], without a batch axis.
        threshold: share of the range [0, 1] that counts as air.
        reconstruction: pseudo-healthy image (C, *S). If given, pixels that are bright in it count too, so that a
            missing part of the body is scored and not treated as air.

    Returns:
        Bool mask (1, *S).
    """
    mask = image.amax(0, keepdim=True) > threshold
    if reconstruction is not None:
        mask = mask | (reconstruction.amax(0, keepdim=True) > threshold)
    return mask


MODES = ("fused", "top_q", "mean", "max", "ms_ssim")
SMALLEST = 1e-6  # added before a logarithm: a perfect reconstruction has a finite score
BLOCK = 8  # slices whose structure is compared at once


class StudyScore:
    """Reduce a study to its score; larger = more abnormal, never clamped.

    The mode "fused" adds up to four parts that see different anomalies, each the logarithm of a value and standardised
    by healthy studies: "map" (as "top_q": something small and strong), "structure" (as "ms_ssim": a changed texture or
    shape), "code" (distance of the latent code: something large or diffuse) and "patches" (highest distances of
    patches, pooled as the map: a texture that healthy images lack). Their sum is the score; 0 is the mean of healthy
    studies. The rule is fixed in advance; nothing is learned from abnormal studies. (Ours.)

    Args:
        mode: "fused"; "top_q" (mean of the highest share `q` of the foreground of the map, for local lesions), "mean"
            or "max" of the foreground; or "ms_ssim" (1 - MS-SSIM of the study and its reconstruction blended with their
            absolute difference, over whole slices; a study has the mean of its slices).
        q: share of the foreground's pixels that "top_q" averages, in (0, 1]; at least one pixel is taken.
        similarity: map with ``blended_score``; only for "fused" and "ms_ssim".
        statistics: of the parts over healthy studies; only for "fused". None = parts are not standardised.

    Raises:
        NomalyError: unknown mode, q out of range or similarity missing; at the call, an empty foreground, a map that is
            not finite, or image or reconstruction missing where they are needed.
    """

    def __init__(
        self,
        mode: str = "top_q",
        q: float = 0.02,
        similarity: StructuralSimilarityMap | None = None,
        statistics: PartStatistics | None = None,
    ) -> None:
        if mode not in MODES:
            raise NomalyError(f"score_mode must be one of {', '.join(MODES)}, got {mode!r}.")
        if not 0 < q <= 1:
            raise NomalyError(f"q must be in (0, 1], got {q}.")
        if mode in ("fused", "ms_ssim") and similarity is None:
            raise NomalyError(
                f"score_mode {mode!r} needs a map of structural similarity, got none: choose another score_mode."
            )
        self.mode = mode
        self.q = q
        self.similarity = similarity
        self.statistics = statistics

    def __call__(
        self,
        anomaly_map: Tensor,
        mask: Tensor,
        image: Tensor | None = None,
        reconstruction: Tensor | None = None,
        code_distance: Tensor | None = None,
        patch_distance: Tensor | None = None,
        dissimilarity: Tensor | None = None,
    ) -> Tensor:
        """Score (), float32, or float64 if fused.

        Args:
            anomaly_map: (1, *S).
            mask: bool foreground (1, *S).
            image: study (C, X, Y, Z); only for "fused" and "ms_ssim".
            reconstruction: pseudo-healthy study (C, X, Y, Z); only for "fused" and "ms_ssim".
            code_distance: distance () of the latent code; only for "fused". None = without this part.
            patch_distance: distances of patches (1, *S); only for "fused". None = without this part.
            dissimilarity: () of the study, if :meth:`dissimilarities` was called for it already.
        """
        if self.mode == "fused":
            compared = anomaly_map, mask, image, reconstruction
            parts = self.parts(*compared, code_distance, patch_distance, dissimilarity)
            return total(self.standardised(parts, KINDS.index(kind_of(anomaly_map.shape))))
        values = checked_values(anomaly_map, mask)
        if self.mode == "ms_ssim":
            return self.dissimilarity(image, reconstruction) if dissimilarity is None else dissimilarity
        return self.pooled(values)

    def parts(
        self,
        anomaly_map: Tensor,
        mask: Tensor,
        image: Tensor | None,
        reconstruction: Tensor | None,
        code_distance: Tensor | None = None,
        patch_distance: Tensor | None = None,
        dissimilarity: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Logarithms (), float64, of the parts of "fused", by the names of PARTS; arguments as in a call."""
        structure = self.dissimilarity(image, reconstruction) if dissimilarity is None else dissimilarity
        values = {"map": self.pooled(checked_values(anomaly_map, mask)), "structure": structure}
        if code_distance is not None:
            values["code"] = code_distance
        if patch_distance is not None:
            values["patches"] = self.pooled(checked_values(patch_distance, mask))
        return logarithms(values)

    def standardised(self, parts: dict[str, Tensor], kind: int | Tensor) -> dict[str, Tensor]:
        """Parts in standard deviations above the mean of healthy studies of a kind, see PartStatistics."""
        return parts if self.statistics is None else self.statistics(parts, kind)

    def pooled(self, values: Tensor) -> Tensor:
        """One number () of the map's values (N,) over the foreground."""
        if self.mode == "max":
            return values.max()
        if self.mode in ("top_q", "fused"):
            # the tolerance keeps 0.02 * 50 pixels at 1 despite rounding of the product
            values = values.topk(max(math.ceil(self.q * values.numel() - 1e-6), 1), sorted=False).values
        return values.mean()

    def dissimilarity(self, image: Tensor | None, reconstruction: Tensor | None) -> Tensor:
        """1 - MS-SSIM () of a study and its reconstruction, blended with their difference, mean over slices."""
        if image is None or reconstruction is None:
            raise NomalyError(f"score_mode {self.mode!r} needs the image and its reconstruction, got only the map.")
        return self.dissimilarities(image.unsqueeze(0), reconstruction.unsqueeze(0))[0]

    def dissimilarities(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """:meth:`dissimilarity` (B,) of studies (B, C, X, Y, Z) of one shape, equal bit for bit to each on its own.

        The kernel of a matrix product, and with it the order of its sums, may depend on the size of the batch: slices
        are compared in blocks of exactly BLOCK, the last one filled up with copies.
        """
        assert self.similarity is not None  # checked at the start for the modes that use it
        pairs = [part.movedim(-1, 1).flatten(0, 1) for part in (images, reconstructions)]
        scores = [
            self.similarity.blended_score(*(filled(part, BLOCK) for part in block))[: len(block[0])]
            for block in zip(*(part.split(BLOCK) for part in pairs))
        ]
        return torch.stack([study.mean() for study in torch.cat(scores).split(images.shape[-1])])

    @property
    def uses_structure(self) -> bool:
        """Whether the score has a part for the structure."""
        return self.mode in ("fused", "ms_ssim")

    def for_baselines(self) -> StudyScore:
        """The same score for detectors without statistics of healthy studies."""
        return StudyScore(self.mode, self.q, self.similarity)

    def settings(self) -> dict[str, Any]:
        """The settings that the score depends on, see custom.scoring.settings."""
        settings: dict[str, Any] = {"mode": self.mode}
        if self.mode == "fused":
            settings["parts"] = PARTS
        if self.mode in ("fused", "top_q"):
            settings["q"] = self.q
        if self.similarity is not None and self.mode in ("fused", "ms_ssim"):
            settings["similarity"] = self.similarity.settings()
        return settings


def logarithms(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Logarithms of parts (), float64."""
    return {name: value.double().add(SMALLEST).log() for name, value in values.items()}


def total(parts: dict[str, Tensor]) -> Tensor:
    """Sum () of standardised parts."""
    return torch.stack(list(parts.values())).sum()


def filled(images: Tensor, size: int) -> Tensor:
    """Images (B, ...) filled up with copies of the last one to a batch of `size`."""
    return torch.cat([images, images[-1:].expand(size - len(images), *images.shape[1:])])


def checked_values(anomaly_map: Tensor, mask: Tensor) -> Tensor:
    """Values (N,) float32 of a map over the foreground.

    Raises:
        NomalyError: an empty foreground, or values that are not finite.
    """
    values = anomaly_map[mask.bool()].float()
    if values.numel() == 0:
        raise NomalyError("foreground must contain at least one pixel, got an empty mask: the study shows no body.")
    if not torch.isfinite(values).all():
        raise NomalyError("anomaly_map must have finite values, got NaN or infinity: check the model and the study.")
    return values
