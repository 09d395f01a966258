"""From a p-value to one of three decisions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from custom.calibration.conformal import confident_alpha
from custom.errors import NomalyError


@dataclass(frozen=True)
class DecisionRule:
    """Three-way triage of studies by their p-values: flag, uncertain, likely normal.

    A study is flagged if p <= alpha (in the confident mode: at or below a smaller level, see ``confident_alpha``),
    likely normal if p > likely_normal_p, and uncertain in between. Of healthy studies like those of the calibration,
    at most the share alpha is flagged and at least 1 - likely_normal_p is called likely normal. For abnormal studies
    there is no guarantee: healthy scans do not show how many abnormal ones look healthy.

    Args:
        alpha: target false-alarm rate, in (0, 1).
        confidence: None to meet alpha on average over calibration sets; in (0, 1) to meet it for the given calibration
            set with this confidence.
        likely_normal_p: p-value above which a study is called likely normal, in [alpha, 1).

    Raises:
        NomalyError: if a value is out of its range.
    """

    alpha: float = 0.05
    confidence: float | None = None
    likely_normal_p: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise NomalyError(f"alpha must be in (0, 1), got {self.alpha}: 0.05 flags at most 5 % of healthy studies.")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise NomalyError(f"confidence must be in (0, 1), or null to meet alpha on average, got {self.confidence}.")
        if not self.alpha <= self.likely_normal_p < 1:
            raise NomalyError(
                f"likely_normal_p must be in [alpha, 1) = [{self.alpha:g}, 1), got {self.likely_normal_p}: studies "
                "above it are called likely normal."
            )

    def at(self, alpha: float | None) -> DecisionRule:
        """The same rule at another alpha; None = the rule itself."""
        if alpha is None:
            return self
        return replace(self, alpha=alpha, likely_normal_p=max(self.likely_normal_p, alpha))

    def flag_level(self, n: int) -> float:
        """p-value at or below which a study is flagged, with n healthy calibration studies.

        Raises:
            NomalyError: if n is too small for the confident mode, with the n that is needed.
        """
        return self.alpha if self.confidence is None else confident_alpha(n, self.alpha, self.confidence)

    def decide(self, p_value: float, n: int) -> str:
        """ "flag", "uncertain" or "likely_normal".

        Args:
            p_value: p-value of the study.
            n: number of healthy calibration studies behind it.
        """
        if not 0 <= p_value <= 1:
            raise NomalyError(f"p_value must be a p-value in [0, 1], got {p_value}.")
        if p_value <= self.flag_level(n):
            return "flag"
        return "likely_normal" if p_value > self.likely_normal_p else "uncertain"
