"""The findings of a study in DICOM: one segment and one group of measurements each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from custom.runs.tables import RegionResult

MOST_SEGMENTS = 50  # longer lists are of no use in a viewer


@dataclass(frozen=True)
class Finding:
    """One segment.

    Args:
        segment: segment number, from 1 without gaps, as DICOM requires.
        regions: its regions, the most massive first: one, or all small ones of a study with very many.
    """

    segment: int
    regions: tuple[RegionResult, ...]

    @property
    def label(self) -> str:
        """Name in viewers, such as "Anomaly 3", with the number of the region in regions.csv."""
        first, last = self.regions[0].region, self.regions[-1].region
        return f"Anomaly {first}" if len(self.regions) == 1 else f"Anomalies {first} to {last}"

    @property
    def size(self) -> float:
        """Total size in `unit`."""
        return sum(region.size for region in self.regions)

    @property
    def unit(self) -> str:
        """As `RegionResult.unit`."""
        return self.regions[0].unit

    @property
    def peak(self) -> float:
        """Largest map value."""
        return max(region.peak for region in self.regions)

    @property
    def p_value(self) -> float | None:
        """p-value of the region; None for several regions."""
        return self.regions[0].p_value if len(self.regions) == 1 else None


def number_findings(regions: Sequence[RegionResult]) -> list[Finding]:
    """Assign each region a segment, in the order of their numbers; beyond MOST_SEGMENTS the rest share the last one."""
    ordered = sorted(regions, key=lambda region: region.region)
    single = ordered if len(ordered) <= MOST_SEGMENTS else ordered[: MOST_SEGMENTS - 1]
    groups: list[tuple[RegionResult, ...]] = [(region,) for region in single]
    if rest := tuple(ordered[len(single) :]):
        groups.append(rest)
    return [Finding(number, group) for number, group in enumerate(groups, 1)]


def segment_labels(labels: np.ndarray, findings: Sequence[Finding]) -> np.ndarray:
    """Region numbers replaced by segment numbers, uint16 of the shape of `labels`.

    Raises:
        ValueError: labels and findings do not contain the same regions.
    """
    numbers = {region.region: finding.segment for finding in findings for region in finding.regions}
    found = {int(number) for number in np.unique(labels)} - {0}
    if found != set(numbers):
        raise ValueError(f"labels must contain the regions {sorted(numbers)}, got {sorted(found)}.")
    table = np.zeros(max(found, default=0) + 1, np.uint16)
    for number, segment in numbers.items():
        table[number] = segment
    return table[labels]
