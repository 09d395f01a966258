"""The records of a study: as a user or a datalist names it, as prepared for the network, as the evaluator scored it.

They are dictionaries with typed keys, since MONAI's transforms, loaders and engines pass dictionaries. An item may hold
further fields of the datalist, such as "scanner" for calibration groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TypedDict

import torch
from monai.data import MetaTensor

ImageSource = str | PathLike | Sequence[str]


class SyntheticLesion(TypedDict):
    """A lesion that is drawn into a healthy study.

    Attributes:
        anatomy: whose lesions are drawn.
        group: which of them.
        seed: of the lesion.
    """

    anatomy: str
    group: str
    seed: int


class StudyFields(TypedDict, total=False):
    """What may be known of a study.

    Attributes:
        label: 0 = healthy, 1 = abnormal.
        subject: id of the patient.
        group: kind of the abnormality.
        synthetic: the lesion that is drawn into it.
        private: whether results must not tell the names of its files.
    """

    label: int
    subject: str
    group: str
    synthetic: SyntheticLesion
    private: bool


class _Named(TypedDict):
    """Every record of a study has its name, unique within a run."""

    case: str


class _WithMask(TypedDict, total=False):
    """Pixel truth of a listed study: file, files or folder."""

    mask: ImageSource


class StudyItem(StudyFields, _Named, _WithMask):
    """A study that is listed and not read yet; `image` is its file, its files or its folder."""

    image: ImageSource


class _Found(TypedDict, total=False):
    """What preparation and the evaluator add to a study.

    Attributes:
        mask: pixel truth (1, X, Y, Z) of 0 and 1.
        source: the `image` of the item.
        seconds: time spent so far.
        error: why the study failed; nothing that follows is then there.
        refusals: why the input check rejects the study; it is then scored on demand only.
        pred: anomaly map (1, X, Y, Z), larger = more abnormal, 0 off the foreground.
        reconstruction: pseudo-healthy image (C, X, Y, Z) in [0, 1].
        deviation: standard deviation of the reconstructions (1, X, Y, Z); ensembles only.
        foreground: where there is a body (1, X, Y, Z), bool.
        score: study score, larger = more abnormal.
        squared_error: of the reconstruction, summed over a slice, mean over slices.
        p_value: of the score among the healthy ones; None with the reason in `note`.
        decision: "flag", "uncertain" or "likely_normal"; None without a p-value.
        calibration_group: group of healthy studies that the p-value is from; None without groups.
        regions: connected regions over the pixel threshold (1, X, Y, Z) int32, 1 = the most massive; None if the
            detector is not calibrated.
        region_masses: mass of each region.
        region_p_values: p-value of each region; None without a p-value.
        note: why there is no p-value; empty if there is one.
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
    squared_error: float
    p_value: float | None
    decision: str | None
    calibration_group: str | None
    regions: torch.Tensor | None
    region_masses: list[float]
    region_p_values: list[float] | None
    note: str


class Study(StudyFields, _Named, _Found):
    """A study on its way through the evaluator; `image` is (C, X, Y, Z) in [0, 1], with its meta data."""

    image: MetaTensor
