"""Frames of DICOM files: how many, what each contains, and its functional groups (PS3.3 C.7.6.16)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from custom.studies.dicom_geometry import Plane, numbers, plane_of

GROUPS = ("PlanePosition", "PlaneOrientation", "PixelMeasures")


def count_frames(header: Dataset) -> int:
    """Return the number of frames of a file."""
    return int(header.get("NumberOfFrames") or 1)


def count_channels(header: Dataset) -> int:
    """Return the number of values per pixel; a palette is expanded to 3."""
    return 3 if header.get("PhotometricInterpretation") == "PALETTE COLOR" else int(header.get("SamplesPerPixel") or 1)


def group_of(header: Dataset, number: int, name: str) -> Dataset | None:
    """Return a functional group of frame `number`, its own or the shared one; None if the file has none."""
    for sequence, index in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        groups = header.get(sequence) or []
        found = groups[index].get(f"{name}Sequence") if index < len(groups) else None
        if found:
            return found[0]
    return None


def plane_sources(header: Dataset, number: int = 0) -> tuple[Dataset | None, ...]:
    """Return what contains the position, the orientation and the pixel spacing of a frame.

    They are its functional groups; of a file with one frame, the header where it has no such group.
    """
    outside = header if count_frames(header) == 1 else None
    return tuple(group_of(header, number, name) or outside for name in GROUPS)


def plane_of_frame(header: Dataset, number: int = 0) -> Plane | None:
    """Return the plane of a frame; None if a value is missing or invalid."""
    position, orientation, measures = plane_sources(header, number)
    return plane_of(position, orientation, measures, (int(header.Columns), int(header.Rows)))


def rescale_of(header: Dataset, number: int) -> tuple[float, float]:
    """Return slope and intercept of a frame, 1 and 0 where they are missing."""
    group = group_of(header, number, "PixelValueTransformation") or header
    slope, intercept = (numbers(group, f"Rescale{name}", 1) for name in ("Slope", "Intercept"))
    return float(slope[0]) if slope is not None and slope[0] != 0 else 1.0, (
        0.0 if intercept is None else float(intercept[0])
    )
