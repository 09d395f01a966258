"""The result of a calibration on studies of one kind, as buffers of the detector."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from custom.calibration.conformal import p_values
from custom.calibration.decision import DecisionRule
from custom.input_check.state import InputCheckState
from custom.scoring.settings import ScoringSettings


class CalibrationState(nn.Module):
    """Healthy scores, the thresholds of the map and the decision rule; empty until calibrated.

    Buffers:
        healthy_scores: (n,) float64, one score per healthy study, ascending; n = 0 means not calibrated.
        healthy_masses: (n,) float64, mass of the most massive region of each study, 0 without regions.
        healthy_groups: (n,) int64, calibration group of each study, an index into the names of ``group_table``.
        group_table: (k,) uint8, UTF-8 of {"field": field of the datalist, "names": [...]}; empty without groups.
        decision: (3,) float64, alpha, confidence (0 = none) and likely_normal_p, see DecisionRule.
        pixel_threshold: () float64, map value that a given share of the healthy foreground pixels exceeds.
        pixel_false_positive_rate: () float64, that share.
        minimum_region: () int64, minimum size of a region above the threshold, in pixels of the network's grid.
        false_regions_per_study: () float64, mean number of such regions that is allowed in a healthy study.
        slices: (2,) int64, minimum and maximum number of slices of the calibration studies.
        plane: (2,) int64, minimum and maximum number of pixels per slice of the calibration studies; scores of slices
            of very different sizes are not comparable.
        scoring: (k,) uint8, UTF-8 of the settings of the scores, see custom.scoring.settings.
        input_check.*: see InputCheckState.
    """

    OF_ANY_LENGTH = ("healthy_scores", "healthy_masses", "healthy_groups", "group_table", "scoring")
    healthy_scores: Tensor
    healthy_masses: Tensor
    healthy_groups: Tensor
    group_table: Tensor
    decision: Tensor
    pixel_threshold: Tensor
    pixel_false_positive_rate: Tensor
    minimum_region: Tensor
    false_regions_per_study: Tensor
    slices: Tensor
    plane: Tensor
    scoring: Tensor

    def __init__(self) -> None:
        super().__init__()
        rule = DecisionRule()
        initial = {
            "healthy_scores": torch.zeros(0, dtype=torch.float64),
            "healthy_masses": torch.zeros(0, dtype=torch.float64),
            "healthy_groups": torch.zeros(0, dtype=torch.int64),
            "group_table": torch.zeros(0, dtype=torch.uint8),
            "decision": torch.tensor([rule.alpha, rule.confidence or 0, rule.likely_normal_p], dtype=torch.float64),
            "pixel_threshold": torch.tensor(float("inf"), dtype=torch.float64),
            "pixel_false_positive_rate": torch.zeros((), dtype=torch.float64),
            "minimum_region": torch.ones((), dtype=torch.int64),
            "false_regions_per_study": torch.zeros((), dtype=torch.float64),
            "slices": torch.zeros(2, dtype=torch.int64),
            "plane": torch.zeros(2, dtype=torch.int64),
            "scoring": torch.zeros(0, dtype=torch.uint8),
        }
        for name, value in initial.items():
            self.register_buffer(name, value)
        self.input_check = InputCheckState()

    @property
    def is_calibrated(self) -> bool:
        """Whether healthy scores have been stored."""
        return len(self.healthy_scores) > 0

    @property
    def decision_rule(self) -> DecisionRule:
        """How p-values become decisions."""
        alpha, confidence, likely_normal_p = self.decision.tolist()
        return DecisionRule(alpha, confidence or None, likely_normal_p)

    @property
    def group_field(self) -> str | None:
        """Field of the datalist that defines the calibration groups, such as "scanner"; None without groups."""
        return self._groups()[0]

    @property
    def group_names(self) -> list[str]:
        """Names of the groups; empty without groups."""
        return self._groups()[1]

    @property
    def healthy_counts(self) -> dict[str | None, int]:
        """Number of healthy studies of each group; without groups, of all studies under the key None."""
        groups: list[str | None] = [*self.group_names]
        return {group: self.healthy_count(group) for group in groups or [None]}

    def healthy_count(self, group: str | None = None) -> int:
        """Number of healthy studies behind a p-value: those of the group, or all without groups."""
        return int(self._members(group).sum())

    def p_value(self, score: float, group: str | None = None) -> float:
        """Conformal p-value of a study's score among the healthy scores of its group."""
        return float(p_values(self.healthy_scores.cpu().numpy()[self._members(group)], [score])[0])

    def region_p_values(self, masses: ArrayLike, group: str | None = None) -> NDArray[np.float64]:
        """(m,) p-values of a study's regions: how rarely a healthy study has any region of at least this mass.

        Each region is compared with the most massive one of every healthy study, so the probability that any region
        of a healthy study has p <= alpha is at most alpha (the maximum statistic of Nichols and Holmes, 2002).
        """
        healthy = self.healthy_masses.cpu().numpy()[self._members(group)]
        return p_values(healthy, masses) if len(np.atleast_1d(masses)) else np.zeros(0)

    @property
    def scoring_settings(self) -> dict[str, Any]:
        """The settings of the healthy scores; empty if unknown."""
        return json.loads(bytes(self.scoring.cpu().tolist())) if len(self.scoring) else {}

    def refusal(self, shape: Sequence[int], scoring: ScoringSettings, group: str | None = None) -> str | None:
        """Why a study of this shape (X, Y, Z) and group, scored with these settings, gets no p-value; None if it does.

        The number of pixels per slice may differ from the calibration studies by at most 10 %.
        """
        width, height, _ = shape
        low, high = self.plane.tolist()
        if not self.is_calibrated:
            return "the detector is not calibrated: run nomaly calibrate"
        if not 0.9 * low <= width * height <= 1.1 * high:
            sizes = f"{low}" if low == high else f"{low} to {high}"
            return f"calibrated on slices of {sizes} pixels, but the slices of this study have {width * height}"
        if differences := scoring.differences(self.scoring_settings):
            return (
                f"calibrated with other settings of score, map or ensemble ({'; '.join(differences)}): calibrate again "
                "with the current settings, or restore the earlier ones"
            )
        return self._group_refusal(group)

    def fill(self, **values: Any) -> None:
        """Set buffers by name."""
        for name, value in values.items():
            buffer = getattr(self, name)
            setattr(self, name, torch.as_tensor(value, dtype=buffer.dtype, device=buffer.device))

    def fill_scoring(self, settings: Mapping[str, Any]) -> None:
        """Store the settings of the healthy scores."""
        self.fill(scoring=list(json.dumps(settings).encode()))

    def fill_healthy(
        self,
        scores: Sequence[float],
        masses: Sequence[float],
        groups: Sequence[str] | None = None,
        field: str | None = None,
    ) -> None:
        """Store the healthy studies.

        Args:
            scores: (n,) scores.
            masses: (n,) masses of the most massive regions.
            groups: (n,) names of the calibration groups, or None without groups.
            field: field of the datalist that defines the groups.
        """
        order = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")
        names = sorted(set(groups or ()))
        table = json.dumps({"field": field, "names": names}).encode() if names else b""
        index = [names.index(group) for group in groups] if groups else [0] * len(order)
        self.fill(
            healthy_scores=np.asarray(scores, dtype=np.float64)[order],
            healthy_masses=np.asarray(masses, dtype=np.float64)[order],
            healthy_groups=np.asarray(index, dtype=np.int64)[order],
            group_table=list(table),
        )

    def _groups(self) -> tuple[str | None, list[str]]:
        """Field and names of the groups."""
        if len(self.group_table) == 0:
            return None, []
        table = json.loads(bytes(self.group_table.cpu().tolist()))
        return table["field"], table["names"]

    def _members(self, group: str | None) -> NDArray[np.bool_]:
        """(n,) which healthy studies a study of this group is compared with."""
        names = self.group_names
        if not names:
            return np.ones(len(self.healthy_scores), dtype=np.bool_)
        return self.healthy_groups.cpu().numpy() == (names.index(group) if group in names else -1)

    def _group_refusal(self, group: str | None) -> str | None:
        """Why a study of this group gets no p-value; None if it does."""
        field, names = self._groups()
        if not names or group in names:
            return None
        if group is None:
            return f"calibrated by {field}, but this study has none: add it to the datalist, or give --study_group"
        return f"not calibrated for {field} {group!r}, only for {', '.join(names)}"

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # The number of healthy studies is not known before loading, so these buffers first take the stored size.
        if (earlier := state_dict.pop(f"{prefix}score_rule", None)) is not None:
            content = json.dumps({"version": 0, "checksum": earlier.tolist()}).encode()
            state_dict[f"{prefix}scoring"] = torch.tensor(list(content), dtype=torch.uint8)
        for name in [name for name in state_dict if name.startswith(f"{prefix}gate.")]:  # the earlier name
            state_dict[f"{prefix}input_check.{name.removeprefix(f'{prefix}gate.')}"] = state_dict.pop(name)
        for name in self.OF_ANY_LENGTH:
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, getattr(self, name).new_zeros(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def group_name(value: Any) -> str:
    """Name of a calibration group from an entry of a datalist: 3 and 3.0 are the same scanner."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
