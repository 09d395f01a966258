"""What a run might have found, for tests of the DICOM objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import dicom
from custom.runs.dicom.objects import write_dicom_objects
from custom.runs.tables import RegionResult, StudyResult

RUN = {"nomaly": "1.2.3", "bundle": "ra_brain", "model_hash": "ab" * 32, "alpha": 0.05}
SHAPE = (11, 9, 5)


def oblique_affine() -> np.ndarray:
    """RAS affine of turned axes, three spacings and one flip."""
    c, s = np.cos(np.radians(17)), np.sin(np.radians(17))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([0.7, -1.3, 2.9]), (-31.0, 12.5, 7.25)
    return affine


def labels() -> np.ndarray:
    """Region 1 of one voxel, region 3 of three in two slices; number 2 is missing."""
    array = np.zeros(SHAPE, np.int32)
    array[3, 7, 1] = 1
    array[8, 2, 3:5] = array[8, 3, 3] = 3
    return array


def anomaly_map() -> np.ndarray:
    """Values in the slices 1 to 4; slice 0 was not assessed."""
    array = np.random.default_rng(0).random(SHAPE, np.float32)
    array[..., 0] = 0
    return array


def regions(numbers=(1, 3), unit: str = "ml", p_value: float | None = 0.125) -> list[RegionResult]:
    """Lesions of size 0.5, 1.5, ... by number."""
    return [RegionResult("case-1", n, n - 0.5, unit, 1, 2, 3, "mm", n / 10, 4.0, p_value) for n in numbers]


def result(**fields) -> StudyResult:
    """A flagged study with two findings."""
    found = {"score": 1.25, "p_value": 0.03125, "decision": "flag", "region_count": 2, "seconds": 0.5}
    return StudyResult("case-1", **{**found, **fields})


def sources(kind: str, folder: Path, **tags) -> list[Path]:
    """Files of a study of one kind: "series", "multiframe", "slice" (a series of one) or "film"."""
    volume = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    if kind in ("series", "slice"):
        volume = volume if kind == "series" else volume[..., :1]
        return dicom.write_series(folder / "source", volume, oblique_affine(), **tags)
    if kind == "multiframe":
        return [dicom.write_multiframe(folder / "source.dcm", volume, oblique_affine(), **tags)]
    return [dicom.write_film(folder / "source.dcm", volume[..., 0], **tags)]


def write(kind: str, folder: Path, **changes) -> dict[str, Path]:
    """Write the objects of a study of one kind; `changes` replace what `write_dicom_objects` is given, or tags."""
    arrays, unit = {"map": anomaly_map(), "labels": labels()}, "ml"
    if kind in ("slice", "film"):
        arrays, unit = {"map": arrays["map"][..., 4], "labels": labels().max(axis=2)}, "mm2"
    given = {"arrays": arrays, "result": result(), "regions": regions(unit=unit), "run": RUN}
    tags = {name: value for name, value in changes.items() if name not in (*given, "files")}
    given |= {name: value for name, value in changes.items() if name in given}
    files = changes.get("files") or sources(kind, folder, **tags)
    return write_dicom_objects(folder / "results", files, **given)
