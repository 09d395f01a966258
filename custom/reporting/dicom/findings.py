"""The findings of a study as DICOM counts them: one segment and one group of measurements each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from custom.reporting.results import LesionResult

MOST_SEGMENTS = 50  # more are no help in a viewer's list


@dataclass(frozen=True)
class Finding:
    """One segment.

    Args:
        segment: its number, counted from 1 without gaps, as DICOM wants it.
        lesions: what it shows, the most massive first; one, or all small ones of a study with very many.
    """

    segment: int
    lesions: tuple[LesionResult, ...]

    @property
    def label(self) -> str:
        """Name in viewers: "Anomaly 3" has the number that the lesion has in lesions.csv."""
        first, last = self.lesions[0].lesion, self.lesions[-1].lesion
        return f"Anomaly {first}" if len(self.lesions) == 1 else f"Anomalies {first} to {last}"

    @property
    def size(self) -> float:
        """Total size in `unit`."""
        return sum(lesion.size for lesion in self.lesions)

    @property
    def unit(self) -> str:
        """As `LesionResult.unit`."""
        return self.lesions[0].unit

    @property
    def peak(self) -> float:
        """Largest map value."""
        return max(lesion.peak for lesion in self.lesions)

    @property
    def p_value(self) -> float | None:
        """That of the lesion; None for several."""
        return self.lesions[0].p_value if len(self.lesions) == 1 else None


def number_findings(lesions: Sequence[LesionResult]) -> list[Finding]:
    """Give each lesion a segment, in the order of their numbers; beyond MOST_SEGMENTS the rest share the last one."""
    ordered = sorted(lesions, key=lambda lesion: lesion.lesion)
    single = ordered if len(ordered) <= MOST_SEGMENTS else ordered[: MOST_SEGMENTS - 1]
    groups = [(lesion,) for lesion in single]
    if rest := tuple(ordered[len(single) :]):
        groups.append(rest)
    return [Finding(number, group) for number, group in enumerate(groups, 1)]


def segment_labels(labels: np.ndarray, findings: Sequence[Finding]) -> np.ndarray:
    """Bring lesion numbers to segment numbers, uint16 of the shape of `labels`.

    Raises:
        ValueError: labels and findings do not name the same lesions.
    """
    numbers = {lesion.lesion: finding.segment for finding in findings for lesion in finding.lesions}
    found = {int(number) for number in np.unique(labels)} - {0}
    if found != set(numbers):
        raise ValueError(f"labels must hold the lesions {sorted(numbers)}, got {sorted(found)}.")
    table = np.zeros(max(found, default=0) + 1, np.uint16)
    for number, segment in numbers.items():
        table[number] = segment
    return table[labels]
