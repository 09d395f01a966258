"""Evaluate scores and maps of any method as ``nomaly evaluate`` does: same table, same intervals, same comparison.

from nomaly import metrics

figures = metrics.evaluate(labels, scores, maps=maps, masks=masks, baselines={"mean intensity": other_scores})
print(figures)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.calibration.conformal import p_values
from custom.calibration.decision import DecisionRule
from custom.calibration.pixel_threshold import pixel_threshold
from custom.errors import NomalyError
from custom.files import atomic_write
from custom.metrics.evaluation import BaselineResult, evaluate_scores
from custom.metrics.lesion_level import LesionEvaluation
from custom.metrics.pixel_evaluation import PixelEvaluation
from custom.metrics.records import Evaluation
from custom.metrics.study_level import StudyTable
from custom.metrics.table import table_markdown
from custom.scoring.regions import label_regions


class Figures:
    """The figures of an evaluation with their 95 % intervals; printed, they are the table of metrics.md.

    Args:
        values: content of metrics.json, such as `values["image"]["auroc"]["value"]`.
    """

    def __init__(self, values: Evaluation) -> None:
        self.values = values

    def __getitem__(self, path: str) -> Any:
        """A figure by its dotted path, such as `image.auroc.value`; None if it cannot be computed."""
        found: Any = self.values
        for key in path.split("."):
            if found is None:
                return None
            found = found[key]
        return found

    def __str__(self) -> str:
        return table_markdown(self.values)

    _repr_markdown_ = __str__  # in notebooks

    def save(self, folder: str | PathLike[str]) -> None:
        """Write metrics.json and metrics.md; earlier ones are replaced.

        Raises:
            NomalyError: if they cannot be written.
        """
        for name, text in (("metrics.json", json.dumps(self.values, indent=2)), ("metrics.md", str(self))):
            with atomic_write(Path(folder) / name) as file:
                file.write(text + "\n")


def evaluate(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    maps: Sequence[ArrayLike] | None = None,
    masks: Sequence[ArrayLike | None] | None = None,
    foregrounds: Sequence[ArrayLike] | None = None,
    healthy_scores: ArrayLike | None = None,
    healthy_maps: Sequence[ArrayLike] | None = None,
    baselines: Mapping[str, ArrayLike] | None = None,
    names: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    groups: Sequence[str | None] | None = None,
    alpha: float = 0.05,
    pixel_false_positive_rate: float = 0.01,
    synthetic: bool = False,
    seed: int = 0,
) -> Figures:
    """Evaluate the scores, and the maps if given, of n test studies.

    Args:
        labels: (n,) 0 = healthy, 1 = abnormal.
        scores: (n,) larger = more abnormal.
        maps: n anomaly maps of any shapes, larger = more abnormal; gives pixel and lesion metrics.
        masks: n lesion masks, each of the shape of its map; None for a healthy study and for lesions of unknown place.
        foregrounds: n masks of the body, to which pixel metrics are limited; None = all pixels.
        healthy_scores: scores of other healthy studies, for p-values, decisions and the false-alarm rate.
        healthy_maps: maps of other healthy studies (only the pixels of the body), for the threshold of Dice, regions
            and lesions hit. Never use test studies.
        baselines: scores (n,) of other methods by name; the best one is compared with a paired interval.
        names: (n,) names of the studies; None = numbers.
        subjects: (n,) patient of each study, the unit of the intervals; None = each study is another patient.
        groups: (n,) kind of abnormality of each study; None = one group.
        alpha: target false-alarm rate of the decisions.
        pixel_false_positive_rate: share of healthy pixels above the threshold.
        synthetic: whether images or lesions are synthetic, which the table states.
        seed: of the resampling.

    Raises:
        NomalyError: if a list has another length, a value is not finite, a label is not 0 or 1, a mask has another
            shape than its map, or a healthy study has a mask that is not empty.
    """
    rule = DecisionRule(alpha, likely_normal_p=max(alpha, 0.2))
    table = _table(labels, scores, names, subjects, groups, healthy_scores, rule, seed)
    pixel = lesions = None
    if maps is not None:
        threshold = _threshold(healthy_maps, pixel_false_positive_rate)
        pixel, lesions = PixelEvaluation(threshold, pixel_false_positive_rate), LesionEvaluation(threshold)
        _add_maps(table, maps, masks, foregrounds, pixel, lesions)
    others = {
        name: BaselineResult(_finite(f"baselines[{name!r}]", own).tolist()) for name, own in (baselines or {}).items()
    }
    return Figures(evaluate_scores(table, rule, synthetic, baselines=others, pixel=pixel, lesions=lesions))


def _table(
    labels: ArrayLike,
    scores: ArrayLike,
    names: Sequence[str] | None,
    subjects: Sequence[str] | None,
    groups: Sequence[str | None] | None,
    healthy_scores: ArrayLike | None,
    rule: DecisionRule,
    seed: int,
) -> StudyTable:
    """The studies, checked, with p-values and decisions if there are healthy scores."""
    values, classes = _finite("scores", scores), np.asarray(labels)
    if classes.ndim != 1 or not np.isin(classes, (0, 1)).all():
        raise NomalyError("labels must be a list of 0 (healthy) and 1 (abnormal), got other values: correct them.")
    cases = [str(number) for number in range(1, len(values) + 1)] if names is None else list(map(str, names))
    if len(set(cases)) != len(cases):
        raise NomalyError("names must differ from each other, but one is given twice: rename the studies.")
    patients = cases if subjects is None else list(map(str, subjects))
    kinds = [None] * len(cases) if groups is None else list(groups)
    if healthy_scores is None:
        return StudyTable(cases, classes.astype(int), values, patients, kinds, seed=seed)
    found: list[float] = p_values(healthy_scores, values).tolist()
    decisions = [rule.decide(p_value, np.size(healthy_scores)) for p_value in found]
    return StudyTable(cases, classes.astype(int), values, patients, kinds, found, decisions, seed)


def _finite(name: str, scores: ArrayLike) -> NDArray[np.float64]:
    """Scores (n,) without NaN.

    Raises:
        NomalyError: if they have another shape, or some are not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise NomalyError(
            f"{name} must be a list of finite numbers, got shape {values.shape} with "
            f"{int((~np.isfinite(values)).sum())} values that are NaN or infinite: leave these studies out."
        )
    return values


def _threshold(healthy_maps: Sequence[ArrayLike] | None, rate: float) -> float:
    """The pixel threshold of healthy maps; infinite without any."""
    if healthy_maps is None:
        return float("inf")
    return pixel_threshold(np.concatenate([np.asarray(values, np.float64).ravel() for values in healthy_maps]), rate)


def _add_maps(
    table: StudyTable,
    maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike | None] | None,
    foregrounds: Sequence[ArrayLike] | None,
    pixel: PixelEvaluation,
    lesions: LesionEvaluation,
) -> None:
    """Add the maps of the studies whose truth is known: healthy ones, and abnormal ones with a mask."""
    truths: Sequence[ArrayLike | None] = [None] * len(table.cases) if masks is None else masks
    bodies: Sequence[ArrayLike | None] = [None] * len(table.cases) if foregrounds is None else foregrounds
    for name, column in (("maps", maps), ("masks", truths), ("foregrounds", bodies)):
        table.check_length(name, column)
    for case, subject, label, values, mask, body in zip(
        table.cases, table.subjects, table.labels, maps, truths, bodies
    ):
        grid = _as_grid(values)
        truth = _truth(case, grid, mask)
        if truth is not None and not label:
            raise NomalyError(f"the mask of a healthy study must be empty or None, but that of {case} is not.")
        if label and truth is None:
            continue
        inside = np.ones(grid.shape, bool) if body is None else _as_grid(body) > 0.5
        pixel.add(case, subject, grid, inside, truth)
        masked = np.where(inside if truth is None else inside | truth, grid, 0)
        labels = label_regions(masked, lesions.threshold, lesions.minimum_size)[0]
        lesions.take(lesions.measure(subject, masked, labels, truth))


def _truth(case: str, grid: NDArray[np.float32], mask: ArrayLike | None) -> NDArray[np.bool_] | None:
    """The lesion mask of a study as (1, X, Y, Z); None without a lesion.

    Raises:
        NomalyError: if it has another shape than the map.
    """
    if mask is None:
        return None
    truth = _as_grid(mask) > 0.5
    if truth.shape != grid.shape:
        raise NomalyError(
            f"the mask of {case} must have the shape of its map {grid.shape[1:]}, got {truth.shape[1:]}: resample it."
        )
    return truth if truth.any() else None


def _as_grid(values: ArrayLike) -> NDArray[np.float32]:
    """A map or mask as (1, X, Y, Z); a 2-D one gets Z = 1.

    Raises:
        NomalyError: if it has neither two nor three axes.
    """
    array = np.asarray(values, dtype=np.float32)
    if array.ndim not in (2, 3):
        raise NomalyError(f"maps and masks must have two or three axes, got {array.shape}: give one study at a time.")
    return array[None, ..., None] if array.ndim == 2 else array[None]
