"""The DICOM files that a study came from, as far as the objects made of it refer to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from highdicom.spatial import get_image_coordinate_system
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from custom.errors import NomalyError

UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# What the patient and the study are called in a PACS; the new objects must say the same to be filed beside the source.
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
OPTIONAL = (
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
GEOMETRY = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "NumberOfFrames",
)
VIEW = ("Modality", "Laterality", "ImageLaterality", "PatientOrientation")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
COPIED = (*VIEW, *UIDS, *PATIENT, *STUDY, *OPTIONAL, *GEOMETRY)
WANTED = ("SpecificCharacterSet", *COPIED, *GROUPS)
ORIENTATION_TOLERANCE = 1e-4  # of direction cosines, as printed with few digits


@dataclass(frozen=True)
class DicomSource:
    """Headers of a study's files, in the order of the third axis of its arrays.

    Args:
        headers: one of each file, with the tags of WANTED alone; those that DICOM demands are there, empty if unknown.
        character_set: of the names; None where the files tell none.
        frames: number of frames of all files together.
        placed: whether the frames have positions in the patient; a film has none.
        parallel: whether they lie at one angle.
    """

    headers: list[Dataset]
    character_set: Any
    frames: int
    placed: bool
    parallel: bool

    def as_frames(self, array: np.ndarray) -> np.ndarray:
        """Bring an array (X, Y) or (X, Y, Z) to the (frames, rows, columns) of DICOM.

        Raises:
            NomalyError: the array is not on the grid of the files, or they have no grid that DICOM could tell.
        """
        volume = np.atleast_3d(array)
        grid = (int(self.headers[0].Columns), int(self.headers[0].Rows), self.frames)
        if volume.shape != grid:
            raise NomalyError(
                f"The result must be on the grid {grid} (columns, rows, frames) of its DICOM files, got "
                f"{volume.shape}. Read the study anew, or use its results as NIfTI or PNG."
            )
        if self.frames > 1 and not self.placed:
            raise NomalyError(
                f"The {self.frames} frames of a study must have positions in one frame of reference for DICOM objects, "
                "but FrameOfReferenceUID or ImagePositionPatient is missing. Use the results as NIfTI, or export again."
            )
        if not self.parallel:
            raise NomalyError(
                "The frames of a study must lie at one angle (ImageOrientationPatient) for DICOM objects, but differ. "
                "Export the parallel frames as a series of their own."
            )
        return np.ascontiguousarray(volume.transpose(2, 1, 0))


def read_source(files: Sequence[str | os.PathLike[str]]) -> DicomSource:
    """Read the headers of a study's files; their pixels are never touched, however compressed.

    Args:
        files: in the order of the third axis of the study's arrays.

    Raises:
        NomalyError: a file cannot be read, or lacks what a reference to it needs.
    """
    if not files:
        raise NomalyError("files must name at least one DICOM file, got none. Give those that the study came from.")
    headers = [_read_header(file, f"DICOM file {n} of {len(files)} of the study") for n, file in enumerate(files, 1)]
    character_set = headers[0].get("SpecificCharacterSet")
    for header in headers:
        _complete(header)
    return DicomSource(
        headers,
        character_set,
        frames=sum(int(header.get("NumberOfFrames") or 1) for header in headers),
        placed=get_image_coordinate_system(headers[0]) is not None,
        parallel=_unite_orientations(headers),
    )


def _read_header(file: str | os.PathLike[str], name: str) -> Dataset:
    """Read the wanted tags of a file, decoded; errors tell `name` for it, as a path may tell the patient."""
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(WANTED))
        header.decode()
    except (OSError, pydicom.errors.InvalidDicomError, ValueError, LookupError) as error:
        reason = type(error).__name__
        raise NomalyError(f"{name} must be readable, but is not ({reason}). Copy or export it again.") from error
    missing = [tag for tag in (*UIDS, "Rows", "Columns") if not header.get(tag)]
    if missing:
        raise NomalyError(f"{name} must have {', '.join(missing)}, but has not. Export it again.")
    return header


def _complete(header: Dataset) -> None:
    """Add the tags that DICOM demands even if unknown, and empty those whose values mean nothing."""
    for name in (*PATIENT, *STUDY):
        if name not in header:
            setattr(header, name, None)
    header.PatientSex = header.PatientSex if header.PatientSex in ("M", "F", "O") else ""
    header.PatientBirthDate = _parsed(DA, header.PatientBirthDate)
    header.StudyDate, header.StudyTime = _parsed(DA, header.StudyDate), _parsed(TM, header.StudyTime)
    spacing = header.get("PixelSpacing")
    if "PixelSpacing" in header and not (spacing and len(spacing) == 2 and min(spacing) > 0):
        del header.PixelSpacing
    for name in ("SliceThickness", "FrameOfReferenceUID", "SpacingBetweenSlices", "PositionReferenceIndicator"):
        if name in header and not header.get(name):
            delattr(header, name)
    if "ImagePositionPatient" in header and "SliceThickness" not in header:
        header.SliceThickness = None
    if "SpecificCharacterSet" in header:  # put into the objects at the end: highdicom refuses some that are in use
        del header["SpecificCharacterSet"]


def _parsed(kind: type, value: Any) -> str:
    """A date or time as it stands, or nothing if it is none."""
    try:
        kind(value or "")
    except ValueError:
        return ""
    return str(value or "")


def _unite_orientations(headers: list[Dataset]) -> bool:
    """Give all frames the orientation of the first, unless they differ by more than rounding; tell if they could.

    An enhanced file may repeat in each frame what all share; highdicom looks for it among what is shared.
    """
    groups: list[Dataset] = [*headers[0].get("SharedFunctionalGroupsSequence", [])]
    shared = groups[0] if groups else None
    groups += headers[0].get("PerFrameFunctionalGroupsSequence", [])
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        told = [group[name] for group in groups if group.get(name)]
        if shared is not None and told and name not in shared:
            shared[name] = told[0]
    planes = [plane for group in groups for plane in group.get("PlaneOrientationSequence", [])]
    planes = planes or [header for header in headers if header.get("ImageOrientationPatient")]
    cosines = [np.array(plane.ImageOrientationPatient, float) for plane in planes]
    if any(not np.allclose(angles, cosines[0], rtol=0, atol=ORIENTATION_TOLERANCE) for angles in cosines):
        return False
    for plane in planes[1:]:
        plane.ImageOrientationPatient = planes[0].ImageOrientationPatient
    return True
