"""The result of an evaluation, as metrics.json holds it.

The records are dictionaries with typed keys, so that they are written to JSON unchanged. None means that a
number cannot be computed; ``not_computable`` gives the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from custom.earlier_names import EVALUATION_KEYS, current_name


class Stat(TypedDict):
    """A value with its 95 % interval; low and high are None with too few patients."""

    value: float
    low: float | None
    high: float | None


class ClassCounts(TypedDict):
    """Numbers of studies."""

    healthy: int
    abnormal: int


class ClassRates(TypedDict):
    """A rate among the healthy and among the abnormal studies."""

    healthy: Stat | None
    abnormal: Stat | None


class ImageMetrics(TypedDict):
    """How well the scores rank abnormal above healthy studies.

    Attributes:
        auroc: area under the ROC curve.
        auprc: average precision.
        fpr_at_95_tpr: false-positive rate at 95 % sensitivity.
        tpr_at_5_fpr: sensitivity at a false-positive rate of 5 %.
        prevalence: share of abnormal studies, the average precision of random scores.
    """

    auroc: Stat | None
    auprc: Stat | None
    fpr_at_95_tpr: Stat | None
    tpr_at_5_fpr: Stat | None
    prevalence: float


class TriageShares(TypedDict):
    """Share of each decision; the three sum to 1."""

    flag: float
    uncertain: float
    likely_normal: float


class Triage(TypedDict):
    """Shares of the decisions by class; None for a class without decisions."""

    healthy: TriageShares | None
    abnormal: TriageShares | None


class GroupMetrics(TypedDict):
    """The abnormal studies of one pathology.

    Attributes:
        n: number of these studies.
        auroc: against all healthy studies.
        sensitivity: share of them that is flagged.
        dice: mean over those with a lesion mask.
    """

    n: int
    auroc: Stat | None
    sensitivity: Stat | None
    dice: float | None


class PixelMetrics(TypedDict):
    """Metrics of the pooled pixels of all studies whose lesions are known.

    Attributes:
        n_healthy, n_abnormal: numbers of these studies.
        method: "exact", or "histogram" for large test sets.
        ap: average precision.
        aupro: area under the overlap per lesion up to a false-positive rate of 0.3, over 0.3.
        dice: mean over abnormal studies at the calibrated threshold.
        best_dice: pooled Dice at the best threshold of this test set, an upper bound.
        threshold: map value above which a pixel is flagged; None without a calibration.
        pixel_false_positive_rate: the rate for which that threshold was set.
        false_positive_rate: the rate measured on the lesion-free pixels of this test set.
        prevalence: share of lesion pixels.
    """

    n_healthy: int
    n_abnormal: int
    method: str
    ap: Stat | None
    aupro: Stat | None
    dice: Stat | None
    best_dice: float | None
    threshold: float | None
    pixel_false_positive_rate: float
    false_positive_rate: float | None
    prevalence: float


class FrocCurve(TypedDict):
    """Points along falling thresholds: mean number of false regions in a healthy study, share of lesions hit."""

    false_positives: list[float]
    sensitivity: list[float]


class Froc(TypedDict):
    """Share of lesions hit at each operating point; None where even the strictest threshold has more false regions."""

    false_positives_per_study: list[float]
    sensitivity: list[float | None]
    curve: FrocCurve


class LesionSizeMetrics(TypedDict):
    """The lesions of one size.

    Attributes:
        name: "small", "medium" or "large".
        pixels: [least, most] number of pixels on the network's grid; no upper limit if the second is None.
        n: number of these lesions.
        sensitivity: share of them that the calibrated mask hits.
        froc: share hit at each operating point.
    """

    name: str
    pixels: list[int | None]
    n: int
    sensitivity: Stat | None
    froc: list[float | None]


class LesionMetrics(TypedDict):
    """Which lesions are hit, and how many false regions a healthy study has.

    `sensitivity_at_1_false_positive` is the point of the FROC with at most one false region per healthy study.
    """

    n: int
    sensitivity: Stat | None
    sensitivity_at_1_false_positive: Stat | None
    false_positives_per_study: Stat | None
    froc: Froc
    by_size: list[LesionSizeMetrics]


class BoxMetrics(TypedDict):
    """Detection of boxes at one threshold: detection rate, and precision and F1 as means over the n boxes."""

    threshold: float
    threshold_set_on: str
    n: int
    detection_rate: Stat | None
    precision: float
    f1: float


class BoxDetectionMetrics(TypedDict):
    """Detection of boxes as published for the Reversed Autoencoder, and independent of the map's scale."""

    published: BoxMetrics | None
    scale_free: BoxMetrics | None


class ReconstructionMetrics(TypedDict):
    """Quality of the pseudo-healthy images, see custom.metrics.reconstruction_quality."""

    healthy_mae: Stat | None
    healthy_ssim: Stat | None
    conserve: Stat | None
    correct: Stat | None
    index: float | None


class BaselineMetrics(TypedDict):
    """Metrics of a baseline at its own thresholds, set as those of the method on the healthy calibration section.

    Attributes:
        peer: whether it uses more than the healthy images, such as a network trained on natural images; the best
            baseline is chosen among the others.
        auroc, auprc, tpr_at_5_fpr: as in ImageMetrics.
        auroc_difference: the method's AUROC minus its, paired.
        false_alarm_rate, sensitivity: shares of the healthy and abnormal studies that it flags.
        pixel_ap, dice: as in PixelMetrics; None if it has no map.
        sensitivity_at_1_false_positive: as in LesionMetrics; None if it has no map.
        scores: one per study, in the order of the evaluation's own.
    """

    peer: bool
    auroc: Stat | None
    auprc: Stat | None
    tpr_at_5_fpr: Stat | None
    auroc_difference: Stat | None
    false_alarm_rate: Stat | None
    sensitivity: Stat | None
    pixel_ap: Stat | None
    dice: Stat | None
    sensitivity_at_1_false_positive: Stat | None
    scores: list[float]


class StudyLead(TypedDict):
    """The baseline of the largest AUROC, and the method's AUROC minus its, paired."""

    name: str
    auroc_difference: Stat | None


class PixelLead(TypedDict):
    """The baseline of the largest average precision of pixels, and the method's minus its, paired."""

    name: str
    ap_difference: Stat | None


class StudyRow(TypedDict):
    """One study of the test set: label 0 = healthy, 1 = abnormal; score larger = more abnormal."""

    case: str
    subject: str
    label: int
    group: str | None
    score: float
    p_value: float | None
    decision: str | None


class Evaluation(TypedDict):
    """Content of metrics.json.

    Attributes:
        n_healthy, n_abnormal: numbers of scored studies.
        n_failed: studies that could not be scored; they count nowhere else.
        n_without_mask: abnormal studies whose lesions are not known, left out of all metrics that need them; None if no
            maps were evaluated.
        n_without_p_value: studies left out of rates and triage.
        input_check: share of studies that the input check rejects; they count in all other numbers. None without it.
        synthetic: whether any image or lesion is synthetic.
        seed: of the resampling of subjects.
        alpha: target false-alarm rate of the decisions.
        flag_level: p-value at or below which a study is flagged.
        confidence: with which the target holds over calibration sets; None = on average.
        likely_normal_p: p-value above which a study is likely normal.
        image: ranking of studies.
        false_alarm_rate: share of the healthy studies that is flagged.
        sensitivity: share of the abnormal studies that is flagged.
        triage: shares of the decisions.
        groups: by pathology.
        pixel, lesions, ra_detection, reconstruction: metrics of the maps; None if none was evaluated.
        baselines: by name.
        best_baseline, best_pixel_baseline: the lead over the best baseline, by studies and by pixels.
        scores: one row per study.
        not_computable: dotted path of each missing number -> reason.
    """

    n_healthy: int
    n_abnormal: int
    n_failed: ClassCounts
    n_without_mask: int | None
    n_without_p_value: int
    input_check: ClassRates | None
    synthetic: bool
    seed: int
    alpha: float
    flag_level: float
    confidence: float | None
    likely_normal_p: float
    image: ImageMetrics
    false_alarm_rate: Stat | None
    sensitivity: Stat | None
    triage: Triage | None
    groups: dict[str, GroupMetrics]
    pixel: PixelMetrics | None
    lesions: LesionMetrics | None
    ra_detection: BoxDetectionMetrics | None
    reconstruction: ReconstructionMetrics | None
    baselines: dict[str, BaselineMetrics]
    best_baseline: StudyLead | None
    best_pixel_baseline: PixelLead | None
    scores: list[StudyRow]
    not_computable: dict[str, str]


def read_evaluation(content: Mapping[str, Any]) -> Evaluation:
    """The content of a metrics.json of this or an earlier release, under the names of this release.

    Files of earlier releases may lack keys: read them with ``get``.
    """
    return cast(Evaluation, {current_name(key, EVALUATION_KEYS): value for key, value in content.items()})
