"""The study-level part of an evaluation: ranking, decisions and groups of one test set, with common resamplings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError
from custom.metrics.image_level import auprc, auroc, fpr_at_tpr, tpr_at_fpr
from custom.metrics.intervals import bootstrap_weights, distinct, rate_stat, stat
from custom.metrics.records import GroupMetrics, ImageMetrics, Stat, StudyLead, StudyRow, Triage, TriageShares

# (labels, scores, weights (R, n)) -> (R,)
Metric = Callable[[ArrayLike, ArrayLike, ArrayLike], NDArray[np.float64]]

RESAMPLINGS = 1000
DECISIONS = ("flag", "uncertain", "likely_normal")


class StudyTable:
    """The scored studies of a test set, without failed ones.

    Args:
        cases: (n,) unique names.
        labels: (n,) 0 healthy, 1 abnormal.
        scores: (n,) larger = more abnormal.
        subjects: (n,) the patient of each study.
        groups: (n,) pathology of each study, None or "" for healthy ones.
        p_values: (n,) calibrated p-values, None for a study without one; None without a calibration.
        decisions: (n,) "flag", "uncertain" or "likely_normal", None for a study without a p-value; None without a
            calibration.
        seed: seed of the resampling of subjects.

    Raises:
        NomalyError: no study, columns of unequal length, or an unknown decision.
    """

    def __init__(
        self,
        cases: Sequence[str],
        labels: ArrayLike,
        scores: ArrayLike,
        subjects: Sequence[str],
        groups: Sequence[str | None],
        p_values: Sequence[float | None] | None = None,
        decisions: Sequence[str | None] | None = None,
        seed: int = 0,
    ) -> None:
        if len(cases) == 0:
            raise NomalyError("cases must name at least one study, got none: the test set is empty or all failed.")
        self.cases = cases
        self.labels, self.scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
        self.subjects = subjects
        self.groups = groups
        self.p_values = [None] * len(cases) if p_values is None else list(p_values)
        self.decisions = [None] * len(cases) if decisions is None else list(decisions)
        self.seed = seed
        for name in ("labels", "scores", "subjects", "groups", "p_values", "decisions"):
            self.check_length(name, getattr(self, name))
        unknown = set(self.decisions) - {*DECISIONS, None}
        if unknown:
            raise NomalyError(f"decisions must be {', '.join(DECISIONS)} or None, got {unknown.pop()!r}.")
        self.weights = bootstrap_weights(subjects, RESAMPLINGS, seed)

    def check_length(self, name: str, column: Sized) -> None:
        """Reject a column whose length is not the number of studies."""
        if len(column) != len(self.cases):
            raise NomalyError(f"{name} must have one entry per case, {len(self.cases)}, got {len(column)}.")

    def image_metrics(self) -> ImageMetrics:
        """How well the scores rank the studies."""
        return {
            "auroc": self.ranking(auroc, self.scores),
            "auprc": self.ranking(auprc, self.scores),
            "fpr_at_95_tpr": self.ranking(_fpr_at_95_tpr, self.scores),
            "tpr_at_5_fpr": self.ranking(tpr_at_5_fpr, self.scores),
            "prevalence": float(self.labels.mean()),
        }

    def ranking(self, metric: Metric, scores: ArrayLike, members: NDArray[np.bool_] | None = None) -> Stat:
        """A metric of one score per study over all studies or the members; NaN if a class is missing.

        Without an interval if a class has fewer subjects than `MIN_SUBJECTS` of custom.metrics.intervals.
        """
        kept = np.ones(len(self.cases), dtype=bool) if members is None else members
        labels, values = self.labels[kept], np.asarray(scores)[kept]
        value = metric(labels, values, np.ones((1, len(labels))))[0]
        return stat(value, metric(labels, values, self.weights[:, kept]), self._subjects_of_a_class(kept))

    def lead(self, baselines: Mapping[str, ArrayLike]) -> StudyLead:
        """The best baseline by AUROC and the method's AUROC minus its, with the interval of the paired difference.

        Args:
            baselines: name -> scores (n,).
        """
        values = {name: auroc(self.labels, scores) for name, scores in baselines.items()}
        best = max(values, key=values.__getitem__)
        value = auroc(self.labels, self.scores) - values[best]
        resampled, resampled_best = (auroc(self.labels, s, self.weights) for s in (self.scores, baselines[best]))
        patients = self._subjects_of_a_class(np.ones(len(self.cases), dtype=bool))
        return {"name": best, "auroc_difference": stat(value, resampled - resampled_best, patients)}

    def _subjects_of_a_class(self, members: NDArray[np.bool_]) -> int:
        """Number of patients among the members of the class that has fewer of them."""
        return min(distinct(self.subjects, members & (self.labels == label)) for label in (0, 1))

    def rate(self, members: NDArray[np.bool_], decision: str = "flag") -> Stat | None:
        """Share of a decision among the members with a decision; None if no member has one.

        The interval is Clopper and Pearson's if these studies are of different patients, otherwise by resampling, if
        there are enough patients.
        """
        kept = members & np.array([decision is not None for decision in self.decisions])
        return self.share([own == decision for own in self.decisions], kept)

    def share(self, hits: Sequence[bool], members: NDArray[np.bool_]) -> Stat | None:
        """Share of the members that are hits (one entry per study); interval as of `rate`; None without a member."""
        index = np.flatnonzero(members)
        return rate_stat([hits[i] for i in index], [self.subjects[i] for i in index], self.weights[:, members])

    def triage(self) -> Triage | None:
        """Share of each decision among the healthy and among the abnormal studies; None without p-values."""
        if not any(self.decisions):
            return None
        return {"healthy": self._triage(self.labels == 0), "abnormal": self._triage(self.labels == 1)}

    def _triage(self, members: NDArray[np.bool_]) -> TriageShares | None:
        """Share of each decision among the members; None if no member has one."""
        flag, uncertain, likely_normal = (self.rate(members, decision) for decision in DECISIONS)
        if flag is None or uncertain is None or likely_normal is None:
            return None
        return {"flag": flag["value"], "uncertain": uncertain["value"], "likely_normal": likely_normal["value"]}

    def by_group(self, dices: Mapping[str, float]) -> dict[str, GroupMetrics]:
        """Per pathology: its abnormal studies against all healthy ones, and the mean of the known Dices by case."""
        names = np.array([group or "" for group in self.groups])
        result: dict[str, GroupMetrics] = {}
        for name in dict.fromkeys(names[self.labels == 1].tolist()):
            members = (self.labels == 1) & (names == name)
            known = [dices[self.cases[i]] for i in np.flatnonzero(members) if self.cases[i] in dices]
            result[name or "ungrouped"] = {
                "n": int(members.sum()),
                "auroc": self.ranking(auroc, self.scores, members | (self.labels == 0)),
                "sensitivity": self.rate(members),
                "dice": float(np.mean(known)) if known else None,
            }
        return result

    def rows(self) -> list[StudyRow]:
        """One row per study."""
        columns = zip(self.cases, self.subjects, self.labels, self.groups, self.scores, self.p_values, self.decisions)
        return [
            {
                "case": case,
                "subject": subject,
                "label": int(label),
                "group": group or None,
                "score": float(score),
                "p_value": None if p is None else float(p),
                "decision": decision,
            }
            for case, subject, label, group, score, p, decision in columns
        ]


def _fpr_at_95_tpr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    return fpr_at_tpr(labels, scores, 0.95, weights=weights)


def tpr_at_5_fpr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """Sensitivity (R,) at a false-positive rate of at most 5 %, see custom.metrics.image_level."""
    return tpr_at_fpr(labels, scores, 0.05, weights=weights)
