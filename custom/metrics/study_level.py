"""The study-level part of an evaluation: ranking, decisions and groups of one test set under common resamplings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError
from custom.metrics.image_level import auprc, auroc, fpr_at_tpr, tpr_at_fpr
from custom.metrics.intervals import bootstrap_weights, distinct, rate_stat, stat

RESAMPLINGS = 1000
DECISIONS = ("flag", "uncertain", "likely_normal")
BASELINE_METRICS = {"auroc": auroc, "auprc": auprc}
METRICS = {
    **BASELINE_METRICS,
    "fpr_at_95_tpr": lambda labels, scores, weights=None: fpr_at_tpr(labels, scores, 0.95, weights),
    "tpr_at_5_fpr": lambda labels, scores, weights=None: tpr_at_fpr(labels, scores, 0.05, weights),
}


@dataclass
class StudyTable:
    """The studies of a test set that were scored; failed ones are left out.

    Args:
        cases: (n,) unique names.
        labels: (n,) 0 healthy, 1 abnormal.
        scores: (n,) larger = more abnormal.
        subjects: (n,) the patient of each study.
        groups: (n,) pathology of each study, None or "" for healthy ones.
        p_values: (n,) calibrated p-values, None where a study has none; None as a whole without a calibration.
        decisions: (n,) "flag", "uncertain" or "likely_normal", None for a study without a p-value; None as a whole
            without a calibration.
        seed: seed of the resampling of subjects.

    Raises:
        NomalyError: no study, columns of unequal length, or another decision.
    """

    cases: Sequence[str]
    labels: ArrayLike
    scores: ArrayLike
    subjects: Sequence[str]
    groups: Sequence[str | None]
    p_values: Sequence[float | None] | None = None
    decisions: Sequence[str | None] | None = None
    seed: int = 0
    weights: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the columns and draw the resamplings."""
        if len(self.cases) == 0:
            raise NomalyError("cases must name at least one study, got none: the test set is empty or all failed.")
        self.p_values = [None] * len(self.cases) if self.p_values is None else list(self.p_values)
        self.decisions = [None] * len(self.cases) if self.decisions is None else list(self.decisions)
        for name in ("labels", "scores", "subjects", "groups", "p_values", "decisions"):
            self.check_length(name, getattr(self, name))
        strange = set(self.decisions) - {*DECISIONS, None}
        if strange:
            raise NomalyError(f"decisions must be of {', '.join(DECISIONS)} or None, got {strange.pop()!r}.")
        self.labels, self.scores = np.asarray(self.labels), np.asarray(self.scores, dtype=np.float64)
        self.weights = bootstrap_weights(self.subjects, RESAMPLINGS, self.seed)

    def check_length(self, name: str, column: Sequence) -> None:
        """Refuse a column that has not one entry a study."""
        if len(column) != len(self.cases):
            raise NomalyError(f"{name} must have an entry a case, {len(self.cases)}, got {len(column)}.")

    def ranking(
        self, scores: ArrayLike, metrics: Mapping = BASELINE_METRICS, members: NDArray[np.bool_] | None = None
    ) -> dict[str, dict[str, float]]:
        """Metrics of one score per study with intervals, over all studies or the members; NaN where a class lacks.

        There is no interval where a class has fewer subjects than `MIN_SUBJECTS` of custom.metrics.intervals.
        """
        kept = np.ones(len(self.cases), dtype=bool) if members is None else members
        labels, scores, weights = self.labels[kept], np.asarray(scores)[kept], self.weights[:, kept]
        patients = self._subjects_of_a_class(kept)
        return {
            name: stat(of(labels, scores), of(labels, scores, weights=weights), patients)
            for name, of in metrics.items()
        }

    def lead(self, baselines: Mapping[str, Mapping]) -> dict:
        """The best baseline by AUROC and the method's AUROC minus its, with the interval of the paired difference."""
        best = max(baselines, key=lambda name: auroc(self.labels, baselines[name]["scores"]))
        pair = (self.scores, baselines[best]["scores"])
        value, other = (auroc(self.labels, scores) for scores in pair)
        resampled, resampled_other = (auroc(self.labels, scores, self.weights) for scores in pair)
        patients = self._subjects_of_a_class(np.ones(len(self.cases), dtype=bool))
        return {"name": best, "auroc_difference": stat(value - other, resampled - resampled_other, patients)}

    def _subjects_of_a_class(self, members: NDArray[np.bool_]) -> int:
        """Number of patients among the members of the class that has fewer of them."""
        return min(distinct(self.subjects, members & (self.labels == label)) for label in (0, 1))

    def rate(self, members: NDArray[np.bool_], decision: str = "flag") -> dict[str, float] | None:
        """Share of a decision among those members that have one; None if none has.

        The interval is Clopper and Pearson's where these studies are of different patients, else by resampling, if
        there are patients enough for that.
        """
        kept = members & np.array([decision is not None for decision in self.decisions])
        return self.share([own == decision for own in self.decisions], kept)

    def share(self, hits: Sequence[bool], members: NDArray[np.bool_]) -> dict[str, float | None] | None:
        """Share of the members that are hits (one entry a study); interval as of `rate`, None if there is no member."""
        index = np.flatnonzero(members)
        return rate_stat([hits[i] for i in index], [self.subjects[i] for i in index], self.weights[:, members])

    def triage(self) -> dict[str, dict[str, float] | None] | None:
        """Share of each decision among the healthy and among the abnormal studies; None without p-values."""
        if not any(self.decisions):
            return None
        result = {}
        for name, label in (("healthy", 0), ("abnormal", 1)):
            rates = {decision: self.rate(self.labels == label, decision) for decision in DECISIONS}
            shares = {decision: rate["value"] for decision, rate in rates.items() if rate}
            result[name] = shares or None
        return result

    def by_group(self, dices: Mapping[str, float]) -> dict[str, dict]:
        """Per pathology, its abnormal studies against all healthy ones under the one model; mean of known Dices."""
        names = np.array([group or "" for group in self.groups])
        result = {}
        for name in dict.fromkeys(names[self.labels == 1].tolist()):
            members = (self.labels == 1) & (names == name)
            known = [dices[self.cases[i]] for i in np.flatnonzero(members) if self.cases[i] in dices]
            result[name or "ungrouped"] = {
                "n": int(members.sum()),
                "auroc": self.ranking(self.scores, {"auroc": auroc}, members | (self.labels == 0))["auroc"],
                "sensitivity": self.rate(members),
                "dice": float(np.mean(known)) if known else None,
            }
        return result

    def rows(self) -> list[dict]:
        """A row a study."""
        columns = zip(self.cases, self.subjects, self.labels, self.groups, self.scores, self.p_values, self.decisions)
        return [
            {"case": case, "subject": subject, "label": int(label), "group": group or None, "score": float(score)}
            | {"p_value": None if p is None else float(p), "decision": decision}
            for case, subject, label, group, score, p, decision in columns
        ]
