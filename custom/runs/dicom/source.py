"""The DICOM files of a study, as far as the DICOM objects of its results refer to them."""

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
from custom.studies.dicom_geometry import ROUNDED

UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# The identifiers of patient and study in a PACS; the new objects must carry them to be filed with the source.
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


@dataclass(frozen=True)
class DicomSource:
    """Headers of a study's files, in the order of the third axis of its arrays.

    Args:
        headers: one per file, with only the tags in WANTED; those that DICOM requires are present, empty if unknown.
        character_set: character set of the names; None if not specified.
        frames: total number of frames.
        placed: whether the frames have positions in the patient; radiographs do not.
        parallel: whether all frames have the same orientation.
    """

    headers: list[Dataset]
    character_set: Any
    frames: int
    placed: bool
    parallel: bool

    def as_frames(self, array: np.ndarray) -> np.ndarray:
        """An array (X, Y) or (X, Y, Z) as (frames, rows, columns), the order of DICOM.

        Raises:
            NomalyError: the array is not on the grid of the files, or DICOM cannot describe that grid.
        """
        volume = np.atleast_3d(array)
        grid = (int(self.headers[0].Columns), int(self.headers[0].Rows), self.frames)
        if volume.shape != grid:
            raise NomalyError(
                f"The result must be on the grid {grid} (columns, rows, frames) of its DICOM files, got "
                f"{volume.shape}. They cannot refer to the tiles of a mosaic: use its results as NIfTI. Read any other "
                "study again."
            )
        if self.frames > 1 and not self.placed:
            raise NomalyError(
                f"The {self.frames} frames of a study must have positions in one frame of reference for DICOM objects, "
                "but FrameOfReferenceUID or ImagePositionPatient is missing. Use the results as NIfTI, or export again."
            )
        if not self.parallel:
            raise NomalyError(
                "For DICOM objects, all frames of a study must have the same orientation (ImageOrientationPatient), "
                "but they differ. Export the parallel frames as a separate series."
            )
        return np.ascontiguousarray(volume.transpose(2, 1, 0))


def read_source(files: Sequence[str | os.PathLike[str]]) -> DicomSource:
    """Read the headers of a study's files; the pixel data are not read.

    Args:
        files: in the order of the third axis of the study's arrays.

    Raises:
        NomalyError: a file cannot be read, or lacks an attribute that a reference to it needs.
    """
    if not files:
        raise NomalyError("files must name at least one DICOM file, got none. Give the source files of the study.")
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
    """Read the WANTED tags of a file, decoded; errors mention `name`, as a path may identify the patient."""
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(WANTED), force=True)
        if not any(tag in header for tag in UIDS):
            raise pydicom.errors.InvalidDicomError("it has no identifiers")
        header.decode()
    except (OSError, pydicom.errors.InvalidDicomError, ValueError, LookupError) as error:
        reason = type(error).__name__
        raise NomalyError(f"{name} cannot be read ({reason}). Copy or export it again.") from error
    missing = [tag for tag in (*UIDS, "Rows", "Columns") if not header.get(tag)]
    if missing:
        raise NomalyError(f"{name} lacks {', '.join(missing)}. Export it again.")
    return header


def _complete(header: Dataset) -> None:
    """Add the tags that DICOM requires even if unknown, and clear those with invalid values."""
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
    if "SpecificCharacterSet" in header:  # added to the objects at the end, as highdicom rejects some character sets
        del header["SpecificCharacterSet"]


def _parsed(kind: type, value: Any) -> str:
    """A date or time unchanged; empty if it is not valid."""
    try:
        kind(value or "")
    except ValueError:
        return ""
    return str(value or "")


def _unite_orientations(headers: list[Dataset]) -> bool:
    """Give all frames the orientation of the first, unless they differ by more than rounding; return whether this was
    possible.

    An enhanced file may repeat shared attributes in each frame; highdicom looks for them in the shared groups.
    """
    groups: list[Dataset] = [*headers[0].get("SharedFunctionalGroupsSequence", [])]
    shared = groups[0] if groups else None
    groups += headers[0].get("PerFrameFunctionalGroupsSequence", [])
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        present = [group[name] for group in groups if group.get(name)]
        if shared is not None and present and name not in shared:
            shared[name] = present[0]
    planes = [plane for group in groups for plane in group.get("PlaneOrientationSequence", [])]
    planes = planes or [header for header in headers if header.get("ImageOrientationPatient")]
    cosines = [np.array(plane.ImageOrientationPatient, float) for plane in planes]
    if any(not np.allclose(angles, cosines[0], rtol=0, atol=ROUNDED) for angles in cosines):
        return False
    for plane in planes[1:]:
        plane.ImageOrientationPatient = planes[0].ImageOrientationPatient
    return True
