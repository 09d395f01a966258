"""Intensities: zero point, inversion of films stored as negatives, and scaling; all can be undone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from custom.errors import NomalyError

RANGE_KEY = "intensity_range"
MIRROR_KEY = "intensity_mirror"
LOWEST_KEY = "intensity_lowest"
EIGHT_BIT_KEY = "eight_bit"


class SubtractLowest(Transform):
    """Shift a study, (C, X, Y, Z), so that its lowest intensity is 0, the value of the outside in later steps.

    A constant added to all intensities, such as DICOM RescaleIntercept or the offset of signed data, then changes
    nothing when a study is padded or smoothed. 8-bit image files (`meta["eight_bit"]`, see LoadStudy) are not shifted:
    0 is black in each of them. What was subtracted is kept in `meta["intensity_lowest"]` for unscale_intensity.
    """

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        lowest = 0.0 if _meta(image).get(EIGHT_BIT_KEY) else float(image.min())
        shifted = image - lowest
        if isinstance(shifted, MetaTensor):
            shifted.meta[LOWEST_KEY] = lowest
        return shifted


class SubtractLowestd(MapTransform):
    """Dictionary version of :py:class:`SubtractLowest`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = SubtractLowest()(item[key])
        return item


class InvertFilm(Transform):
    """Bring an X-ray film that is stored as a negative to "bone bright": x -> lowest + highest intensity - x.

    DICOM films marked MONOCHROME1 do not need it: the reader has already inverted them. It is for files without this
    information, such as exported 2-D images. The sum is kept in `meta["intensity_mirror"]` for unscale_intensity.
    """

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        mirror = float(image.min()) + float(image.max())
        inverted = mirror - image
        if isinstance(inverted, MetaTensor):
            inverted.meta[MIRROR_KEY] = mirror
        return inverted


class InvertFilmd(MapTransform):
    """Dictionary version of :py:class:`InvertFilm`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = InvertFilm()(item[key])
        return item


class ScaleStudyIntensity(Transform):
    """Scale a study, (C, X, Y, Z), to [0, 1]: its `lower` percentile becomes 0 and its `upper` one `target`.

    With ``source_range`` its two values become 0 and 1 instead, for images whose values mean the same in every study.
    Values outside are clipped to [0, 1]. With `upper` = 95 and `target` = 0.75, white matter of a T1w head is
    near 0.75 whatever the brightness of fat, and a lesion up to a third brighter is not clipped. Use 99.5 and 1 for
    2-D images in which nothing exceeds the normal range.

    The source intensities of 0 and 1 are kept in `meta["intensity_range"]`; see unscale_intensity. This is
    deliberately not an invertible MONAI transform: Invertd would also rescale anomaly maps.

    Args:
        lower: percentile of all voxels that becomes 0.
        upper: percentile of all voxels that becomes `target`.
        target: value in (0, 1] of the `upper` percentile.
        source_range: intensities (low, high) of the file that become 0 and 1; None = use percentiles.

    Raises:
        NomalyError: if an argument is out of range, or both percentiles of a study are equal.
    """

    def __init__(
        self,
        lower: float = 1.0,
        upper: float = 95.0,
        target: float = 0.75,
        source_range: Sequence[float] | None = None,
    ) -> None:
        if not 0 <= lower < upper <= 100 or not 0 < target <= 1:
            raise NomalyError(
                "lower, upper and target must be 0 <= lower < upper <= 100 and 0 < target <= 1, got "
                f"{lower}, {upper} and {target}. Correct the config."
            )
        self.lower = lower
        self.upper = upper
        self.target = target
        if source_range is not None and not (len(source_range) == 2 and source_range[0] < source_range[1]):
            raise NomalyError(
                f"source_range must be (low, high) with low < high, or null for percentiles, got {list(source_range)}. "
                "Correct the config."
            )
        self.source_range = source_range

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        lowest = _meta(image).get(LOWEST_KEY, 0.0)
        low, white = self._measure(image) if self.source_range is None else np.asarray(self.source_range) - lowest
        scaled = ((image - low) / (white - low)).clamp(0.0, 1.0)
        if isinstance(scaled, MetaTensor):
            scaled.meta[RANGE_KEY] = np.asarray([low, white]) + lowest
        return scaled

    def _measure(self, image: torch.Tensor) -> tuple[float, float]:
        """Values of the shifted study that become 0 and 1, from its percentiles."""
        low, high = (float(value) for value in np.percentile(np.asarray(image), [self.lower, self.upper]))
        if high <= low:
            name, value = _meta(image).get("case", "the study"), low + _meta(image).get(LOWEST_KEY, 0.0)
            raise NomalyError(
                f"{name}: the intensities at percentiles {self.lower:g} and {self.upper:g} must differ, but both are "
                f"{value:g}: nearly the whole image has one value. Check the study, or raise `upper`."
            )
        return low, low + (high - low) / self.target


class ScaleStudyIntensityd(MapTransform):
    """Dictionary version of :py:class:`ScaleStudyIntensity`."""

    def __init__(
        self,
        keys: Sequence[Hashable] | Hashable = "image",
        lower: float = 1.0,
        upper: float = 95.0,
        target: float = 0.75,
        source_range: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scaler = ScaleStudyIntensity(lower, upper, target, source_range)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.scaler(item[key])
        return item


def unscale_intensity(values: torch.Tensor, image: MetaTensor) -> torch.Tensor:
    """Convert values in [0, 1] back to the intensities of the file of `image`, a study scaled by ScaleStudyIntensity,
    possibly after InvertFilm and SubtractLowest.

    Raises:
        ValueError: if the meta data of `image` lack its range.
    """
    if RANGE_KEY not in image.meta:
        raise ValueError(f"meta['{RANGE_KEY}'] of the image is missing. Scale it with ScaleStudyIntensityd.")
    low, white = (float(value) for value in image.meta[RANGE_KEY])
    intensities = values * (white - low) + low
    mirror = image.meta.get(MIRROR_KEY)
    return intensities if mirror is None else mirror - intensities


def outside_intensity(image: MetaTensor) -> float:
    """Intensity of the file of `image` that the steps assume outside the image: its lowest; of a negative, its highest.

    0 without SubtractLowest.
    """
    lowest = float(image.meta.get(LOWEST_KEY, 0.0))
    mirror = image.meta.get(MIRROR_KEY)
    return lowest if mirror is None else mirror - lowest


def _meta(image: torch.Tensor) -> Mapping[str, Any]:
    """The meta data of an image; empty for a plain tensor."""
    return image.meta if isinstance(image, MetaTensor) else {}
