"""The calibrations of a detector: one for 2-D images, one for volumes; a study takes that of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState
from custom.scoring.settings import ScoringSettings
from custom.studies.kinds import IMAGE, KINDS, PLURALS, VOLUME, kind_of


class Calibrations(nn.Module):
    """A CalibrationState for each kind of study, as ``image`` and ``volume``, each empty until calibrated.

    The decision rule holds for both. Weights of earlier releases have one calibration: it is loaded as that of its
    kind.
    """

    image: CalibrationState
    volume: CalibrationState

    def __init__(self) -> None:
        super().__init__()
        for kind in KINDS:
            self.add_module(kind, CalibrationState())

    def of(self, shape: Sequence[int]) -> CalibrationState:
        """The calibration of a study of shape (..., X, Y, Z)."""
        return self.of_kind(kind_of(shape))

    def of_kind(self, kind: str) -> CalibrationState:
        """The calibration of a kind, one of KINDS."""
        state: CalibrationState = getattr(self, kind)
        return state

    @property
    def calibrated(self) -> dict[str, CalibrationState]:
        """The calibrations that are not empty, by kind."""
        return {kind: state for kind in KINDS if (state := self.of_kind(kind)).is_calibrated}

    @property
    def is_calibrated(self) -> bool:
        """Whether any kind is calibrated."""
        return bool(self.calibrated)

    @property
    def decision_rule(self) -> DecisionRule:
        """How p-values become decisions, for both kinds."""
        return next(iter(self.calibrated.values()), self.image).decision_rule

    def fill_rule(self, rule: DecisionRule) -> None:
        """Store how p-values become decisions."""
        for kind in KINDS:
            self.of_kind(kind).fill(decision=(rule.alpha, rule.confidence or 0.0, rule.likely_normal_p))

    def refusal(self, shape: Sequence[int], scoring: ScoringSettings, group: str | None = None) -> str | None:
        """Why a study of this shape (X, Y, Z) and group, scored with these settings, gets no p-value; None if it does.

        The calibration must be of the study's kind, and as :meth:`CalibrationState.refusal` says.
        """
        kind = kind_of(shape)
        if self.calibrated and kind not in self.calibrated:
            other, this = (PLURALS[VOLUME], "a 2-D image") if kind == IMAGE else (PLURALS[IMAGE], "a volume")
            return f"calibrated on {other}, but this is {this}"
        return self.of(shape).refusal(shape, scoring, group)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        if f"{prefix}healthy_scores" in state_dict:
            slices = state_dict.get(f"{prefix}slices")
            kind = VOLUME if slices is not None and int(slices.max()) > 1 else IMAGE
            for name in [name for name in state_dict if name.startswith(prefix)]:
                state_dict[f"{prefix}{kind}.{name.removeprefix(prefix)}"] = state_dict.pop(name)
            other = next(other for other in KINDS if other != kind)
            state_dict |= {f"{prefix}{other}.{name}": value for name, value in CalibrationState().state_dict().items()}
        super()._load_from_state_dict(state_dict, prefix, *args)
