"""What calibration learned, as buffers of the detector."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from custom.calibration.conformal import p_values
from custom.calibration.decision import DecisionRule
from custom.input_check.state import InputCheckState
from custom.scoring.settings import ScoringSettings


class CalibrationState(nn.Module):
    """Healthy scores, the thresholds of the map and the decision rule; empty until calibrated.

    Buffers:
        healthy_scores: (n,) float64, one score for each healthy study, ascending; n = 0 means not calibrated.
        healthy_masses: (n,) float64, the mass of the most massive region in each of their maps, 0 where there is none.
        healthy_groups: (n,) int64, the calibration group of each, an index into the names of ``group_table``.
        group_table: (k,) uint8, UTF-8 of {"field": field of the datalist, "names": [...]}; empty without groups.
        decision: (3,) float64, alpha, confidence (0 = none) and likely_normal_p, see DecisionRule.
        pixel_threshold: () float64, the map value that the stated share of healthy foreground pixels exceeds.
        pixel_false_positive_rate: () float64, that share.
        minimum_region: () int64, pixels of the network's grid that a region over the threshold has at least.
        false_regions_per_study: () float64, the mean number of such regions in a healthy study that it allows.
        slices: (2,) int64, least and most slices of the calibration studies: p-values hold for studies of this kind.
        plane: (2,) int64, least and most pixels of a slice of theirs; the score of a large frame is no match for those
            of small windows.
        scoring: (k,) uint8, UTF-8 of the settings that the scores were made with, see custom.scoring.settings.
        input_check.*: what the input check learned, see InputCheckState.
    """

    OF_ANY_LENGTH = ("healthy_scores", "healthy_masses", "healthy_groups", "group_table", "scoring")

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
        """Whether healthy scores are there."""
        return len(self.healthy_scores) > 0

    @property
    def decision_rule(self) -> DecisionRule:
        """How p-values become decisions."""
        alpha, confidence, likely_normal_p = self.decision.tolist()
        return DecisionRule(alpha, confidence or None, likely_normal_p)

    @property
    def group_field(self) -> str | None:
        """Field of the datalist that parts the calibration groups, such as "scanner"; None without groups."""
        return self._groups()[0]

    @property
    def group_names(self) -> list[str]:
        """Names of the groups; empty without groups."""
        return self._groups()[1]

    @property
    def healthy_counts(self) -> dict[str | None, int]:
        """Number of healthy studies of each group, of None without groups."""
        return {group: self.healthy_count(group) for group in self.group_names or [None]}

    def healthy_count(self, group: str | None = None) -> int:
        """Number of healthy studies that a p-value rests on: those of the group, or all without groups."""
        return int(self._members(group).sum())

    def p_value(self, score: float, group: str | None = None) -> float:
        """Conformal p-value of a study's score among the healthy scores of its group."""
        return float(p_values(self.healthy_scores.cpu().numpy()[self._members(group)], [score])[0])

    def region_p_values(self, masses: ArrayLike, group: str | None = None) -> NDArray[np.float64]:
        """(m,) p-values of a study's regions: how seldom a healthy study has any region of this mass.

        As each is compared with the largest of a healthy study, the chance that any region of a healthy study has
        p <= alpha is at most alpha (the maximum statistic of Nichols and Holmes, 2002).
        """
        healthy = self.healthy_masses.cpu().numpy()[self._members(group)]
        return p_values(healthy, masses) if len(np.atleast_1d(masses)) else np.zeros(0)

    @property
    def scoring_settings(self) -> dict[str, Any]:
        """The settings that the scores were made with; empty where none are known."""
        return json.loads(bytes(self.scoring.cpu().tolist())) if len(self.scoring) else {}

    def refusal(self, shape: Sequence[int], scoring: ScoringSettings, group: str | None = None) -> str | None:
        """Why a study of this shape (X, Y, Z), of this group, scored with these settings, can have no p-value; None if
        it can.

        A picture is no volume, and a slice has at most a tenth fewer or more pixels than those of the calibration.
        """
        width, height, depth = shape
        low, high = self.plane.tolist()
        kinds = {True: "pictures", False: "volumes"}
        picture, pictures = depth == 1, int(self.slices.max()) == 1
        if not self.is_calibrated:
            return "the detector is not calibrated: run nomaly calibrate"
        if picture != pictures:
            return f"calibrated on {kinds[pictures]}, and this is {'a picture' if picture else 'a volume'}"
        if not 0.9 * low <= width * height <= 1.1 * high:
            return f"calibrated on slices of {low} to {high} pixels, and this study's have {width * height}"
        if differences := scoring.differences(self.scoring_settings):
            return (
                f"calibrated with other settings of score, map or ensemble ({'; '.join(differences)}): calibrate with "
                "these, or set them back"
            )
        return self._group_refusal(group)

    def fill(self, **values: Any) -> None:
        """Set buffers by name."""
        for name, value in values.items():
            buffer = getattr(self, name)
            setattr(self, name, torch.as_tensor(value, dtype=buffer.dtype, device=buffer.device))

    def fill_scoring(self, settings: Mapping[str, Any]) -> None:
        """Set the settings that the scores were made with."""
        self.fill(scoring=list(json.dumps(settings).encode()))

    def fill_healthy(
        self,
        scores: Sequence[float],
        masses: Sequence[float],
        groups: Sequence[str] | None = None,
        field: str | None = None,
    ) -> None:
        """Set what is known of each healthy study.

        Args:
            scores: (n,) their scores.
            masses: (n,) masses of their most massive regions.
            groups: (n,) names of their groups, or None without groups.
            field: field of the datalist that the names are from.
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
            return np.ones(len(self.healthy_scores), dtype=bool)
        return self.healthy_groups.cpu().numpy() == (names.index(group) if group in names else -1)

    def _group_refusal(self, group: str | None) -> str | None:
        """Why a study of this group can have no p-value."""
        field, names = self._groups()
        if not names or group in names:
            return None
        if group is None:
            return f"calibrated by {field}, and this study names none: give it in the datalist, or as --study_group"
        return f"no healthy study of {field} {group!r} was calibrated on, only of {', '.join(names)}"

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # The number of healthy studies is part of what is loaded, so these buffers take the stored size first.
        if (earlier := state_dict.pop(f"{prefix}score_rule", None)) is not None:
            content = json.dumps({"version": 0, "checksum": earlier.tolist()}).encode()
            state_dict[f"{prefix}scoring"] = torch.tensor(list(content), dtype=torch.uint8)
        for name in [name for name in state_dict if name.startswith(f"{prefix}gate.")]:  # its earlier name
            state_dict[f"{prefix}input_check.{name.removeprefix(f'{prefix}gate.')}"] = state_dict.pop(name)
        for name in self.OF_ANY_LENGTH:
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, getattr(self, name).new_zeros(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def group_name(value: Any) -> str:
    """Name of a calibration group from an entry of a datalist: 3 and 3.0 are one scanner."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
