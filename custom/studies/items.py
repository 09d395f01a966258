"""The records of a study: as listed by a user or a datalist, as prepared for the network, as scored by the evaluator.

They are dictionaries with typed keys, since MONAI's transforms, loaders and engines pass dictionaries. An item may have
further datalist fields, such as "scanner" for calibration groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import torch
    from monai.data import MetaTensor

ImageSource = str | PathLike | Sequence[str]


class SyntheticLesion(TypedDict):
    """A lesion to draw into a healthy study.

    Attributes:
        anatomy: anatomy that the lesion belongs to.
        group: kind of lesion.
        seed: random seed of the lesion.
    """

    anatomy: str
    group: str
    seed: int


class StudyFields(TypedDict, total=False):
    """Optional facts about a study.

    Attributes:
        label: 0 = healthy, 1 = abnormal.
        subject: identifier of the patient.
        group: kind of the abnormality.
        synthetic: lesion to draw into the study.
        private: whether results must not contain the names of its files.
    """

    label: int
    subject: str
    group: str
    synthetic: SyntheticLesion
    private: bool


class _Named(TypedDict):
    """The name of a study, unique within a run."""

    case: str


class _WithMask(TypedDict, total=False):
    """Annotation mask of a listed study: file, files or folder."""

    mask: ImageSource


class StudyItem(StudyFields, _Named, _WithMask):
    """A listed study that has not been read yet; `image` is its file, its files or its folder."""

    image: ImageSource


class Decision(TypedDict, total=False):
    """What a calibrated detector concludes from a score and a map.

    Attributes:
        p_value: p-value of the score under the healthy calibration scores; None with the reason in `note`.
        decision: "flag", "uncertain" or "likely_normal"; None without a p-value.
        calibration_group: group of healthy studies that gave the p-value; None without groups.
        healthy_studies: number of healthy studies of its kind, and of its group, that gave the p-value; None without.
        pixel_threshold: map value above which a pixel belongs to a region; None if the detector is not calibrated for
            studies of its kind.
        regions: connected regions above the pixel threshold (1, X, Y, Z) int32, 1 = largest mass; None likewise.
        region_masses: mass of each region.
        region_p_values: p-value of each region; None without a p-value.
        note: why there is no p-value; empty if there is one.
    """

    p_value: float | None
    decision: str | None
    calibration_group: str | None
    healthy_studies: int | None
    pixel_threshold: float | None
    regions: torch.Tensor | None
    region_masses: list[float]
    region_p_values: list[float] | None
    note: str


class _Found(Decision, total=False):
    """What preparation and the evaluator add to a study.

    Attributes:
        mask: annotation mask (1, X, Y, Z) of 0 and 1.
        source: the `image` of the item.
        seconds: processing time so far.
        error: why the study failed; none of the following entries then exist.
        refusals: why the input check rejects the study; it is then scored only on request.
        pred: anomaly map (1, X, Y, Z), larger = more abnormal, 0 outside the foreground.
        reconstruction: pseudo-healthy image (C, X, Y, Z) in [0, 1].
        deviation: standard deviation of the reconstructions (1, X, Y, Z); ensembles only.
        foreground: pixels of the body (1, X, Y, Z), bool.
        score: study score, larger = more abnormal.
        score_parts: parts of a fused score by name, in standard deviations above the mean of healthy studies.
        squared_error: squared reconstruction error, summed over each slice, mean over slices.
    """

    mask: MetaTensor
    source: ImageSource
    seconds: float
    error: str
    refusals: list[str]
    pred: torch.Tensor
    reconstruction: torch.Tensor
    deviation: torch.Tensor
    foreground: torch.Tensor
    score: float
    score_parts: dict[str, float]
    squared_error: float


class Study(StudyFields, _Named, _Found):
    """A study on its way through the evaluator; `image` is (C, X, Y, Z) in [0, 1], with its meta data."""

    image: MetaTensor
