"""The regions of a study: its regions over the pixel threshold, measured on the grid of the study's own file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom.runs.region_measures import measure_regions
from custom.runs.source_geometry import source_spacing
from custom.runs.tables import RegionResult


def study_regions(study: dict[str, Any], labels: NDArray[np.int32]) -> list[RegionResult]:
    """Regions of a study, the most massive first.

    Args:
        study: what a DetectionEvaluator with a calibrated detector says of it.
        labels: (X, Y) or (X, Y, Z) its numbered regions on the grid of its file, as they are written, so that table and
            file agree.
    """
    image = study["image"]
    spacing = source_spacing(image)
    if labels.ndim == 3 and labels.shape[2] == 1:  # a film stored as a volume of one slice has areas, no volumes
        labels, spacing = labels[..., 0], spacing and spacing[:2]
    affine = None if spacing is None else image.meta["original_affine"]
    p_values = study["region_p_values"]
    regions = []
    for region in measure_regions(labels, spacing, affine):
        x, y, z = (*region.centre, None, None)[:3]
        index = region.number - 1
        regions.append(
            RegionResult(
                study=study["case"],
                region=region.number,
                size=region.size,
                unit=region.unit,
                x=x,
                y=y,
                z=z,
                position_unit="px" if affine is None else "mm",
                # of the network's own map: interpolated ones lose the peaks of small regions
                peak=float(study["pred"][study["regions"] == region.number].max()),
                mass=study["region_masses"][index],
                p_value=None if p_values is None else p_values[index],
            )
        )
    return regions
