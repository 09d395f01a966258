"""The regions of a study above the pixel threshold, measured on the grid of the study's own file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from custom.runs.region_measures import Region, measure_regions
from custom.runs.source_geometry import source_spacing
from custom.runs.tables import RegionResult
from custom.studies.items import Study


def body_regions(study: Study) -> torch.Tensor | None:
    """(1, X, Y, Z) numbered regions of a study on the network's grid, 0 outside of the body; None if not calibrated."""
    regions = study.get("regions")
    return None if regions is None else torch.where(study["foreground"], regions, 0)


def study_regions(study: Study, labels: NDArray[np.int32]) -> list[RegionResult]:
    """Regions of a study, the most massive first.

    Args:
        study: output of a DetectionEvaluator with a calibrated detector.
        labels: (X, Y) or (X, Y, Z) numbered regions on the grid of the study's file, as they are written, so that table
            and file agree.
    """
    image = study["image"]
    spacing = source_spacing(image)
    if labels.ndim == 3 and labels.shape[2] == 1:  # a 2-D image stored as a volume of one slice has areas, not volumes
        labels, spacing = labels[..., 0], spacing and spacing[:2]
    affine = None if spacing is None else image.meta["original_affine"]
    unit = "px" if affine is None else "mm"
    return [_region_result(study, region, unit) for region in measure_regions(labels, spacing, affine)]


def significant(regions: Iterable[RegionResult], alpha: float) -> list[RegionResult]:
    """Findings: the regions whose own p-value is at or below alpha; none without p-values."""
    return [region for region in regions if region.p_value is not None and region.p_value <= alpha]


def findings_of(study: Study, regions: Iterable[RegionResult], alpha: float) -> list[RegionResult] | None:
    """Findings among the regions of a study; None where nothing was decided, as it has no p-values."""
    return None if study.get("region_p_values") is None else significant(regions, alpha)


def only(labels: NDArray[np.int32], regions: Iterable[RegionResult]) -> NDArray[np.int32]:
    """Labels of any shape with 0 in place of all other regions."""
    return np.where(np.isin(labels, [region.region for region in regions]), labels, 0).astype(np.int32)


def _region_result(study: Study, region: Region, position_unit: str) -> RegionResult:
    """Row of one region of a study."""
    regions, p_values = study["regions"], study["region_p_values"]
    assert regions is not None  # the detector is calibrated
    index = region.number - 1
    x, y, *z = region.centre
    return RegionResult(
        study=study["case"],
        region=region.number,
        size=region.size,
        unit=region.unit,
        x=x,
        y=y,
        z=z[0] if z else None,
        position_unit=position_unit,
        # of the network's own map: resampling lowers the peaks of small regions
        peak=float(study["pred"][regions == region.number].max()),
        mass=study["region_masses"][index],
        p_value=None if p_values is None else p_values[index],
    )
