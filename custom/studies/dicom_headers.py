"""Headers of DICOM files: which objects are images, and which images are slices of a series."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from custom.studies.formats import is_dicom, load_error

SCAN_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "Manufacturer",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "NumberOfFrames",
    "Rows",
    "Columns",
]
# DICOM PS3.3 C.7.3.1.1.1: a file of these is an image of its own, even if it contains a position.
PROJECTIONS = frozenset("CR DX MG RG RF XA US IVUS ES XC GM SM OP OPT IO PX DG TG EM".split())
RADIOGRAPHS = frozenset({"CR", "DX", "RG", "RF", "PX"})  # whose PatientOrientation states how they are displayed
# Their images are slices, also where the position is lost or in functional groups; others without it are 2-D images.
CROSS_SECTIONAL = frozenset({"CT", "MR", "PT"})
# Objects with rows and columns that are results, not images of the patient.
RESULTS = {"SEG": "SEG", "RTDOSE": "RT", "RTPLAN": "RT", "RTSTRUCT": "RT", "SR": "SR", "PR": "PR", "KO": "KO"}
RESULT_CLASSES = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT",
}

RESULT_MAKER = "Nomaly"  # Manufacturer of our own objects; by class, the map of a film would be an image


@dataclass(frozen=True)
class DicomFile:
    """Type and identifiers of a DICOM file, from its header.

    Attributes:
        path: path of the file.
        kind: "slice" (one of a cross-sectional series), "image" (a film, another 2-D image or several frames),
            or "" for an object that is not an image.
        name: name of an object that is not an image, such as "SR".
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID.
    """

    path: Path
    kind: str
    name: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""

    @property
    def group(self) -> tuple[str, ...]:
        """What the slices of one series have in common: its UIDs, or their folder where it lost its own."""
        return (self.study, self.series) if self.series else (self.study, "", str(self.path.parent.resolve()))


@contextmanager
def quiet_dicom() -> Iterator[None]:
    """Silence the messages of pydicom and highdicom about odd values of a file, which may name the patient."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom.base")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(pydicom|highdicom)\b")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)


def read_header(path: Path, tags: list[str] | None = None) -> tuple[FileDataset, int]:
    """Read a header without pixels; the file may lack the "DICM" prefix.

    Returns:
        The header and the number of bytes after it.

    Raises:
        Exception: of any kind, if the file is broken.
    """
    with path.open("rb") as stream:
        header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=tags, force=True)
        rest = path.stat().st_size - stream.tell()
    if not header.get("SOPClassUID") and not header.get("Rows") and "MediaStorageSOPClassUID" not in header.file_meta:
        raise InvalidDicomError("the header specifies neither an object class nor an image")
    return header, rest


@quiet_dicom()
def scan_file(path: Path) -> DicomFile | None:
    """Return type and identifiers of a DICOM file; None if its header is broken."""
    try:
        header, _ = read_header(path, SCAN_TAGS)
        uids = [str(header.get(tag) or "") for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        name, frames = object_name(header), int(header.get("NumberOfFrames") or 1)
        modality = str(header.get("Modality") or "")
        positioned = bool(header.get("ImagePositionPatient")) and modality not in PROJECTIONS
    except Exception:  # pydicom raises anything on a broken file; reading the study reports the reason
        return None
    is_slice = frames == 1 and (positioned or modality in CROSS_SECTIONAL)
    kind = "" if name else "slice" if is_slice else "image"
    return DicomFile(path, kind, name, *uids)


def object_name(header: FileDataset) -> str:
    """Return the name of an object that is not an image of a patient, such as "SR"; "" for an image."""
    if header.get("Manufacturer") == RESULT_MAKER:
        return f"{RESULT_MAKER} result"
    sop_class = str(header.get("SOPClassUID") or getattr(header.file_meta, "MediaStorageSOPClassUID", ""))
    modality = str(header.get("Modality") or "")
    name = RESULT_CLASSES.get(sop_class) or RESULTS.get(modality, "")
    # An image class without rows means a truncated header: it must not be skipped as a non-image.
    if name or (header.get("Rows") and header.get("Columns")) or UID(sop_class).name.endswith("Image Storage"):
        return name
    return modality or "object without an image"


def series_of_folder(folder: Path) -> list[Path]:
    """Return the files of the one DICOM series, or the one DICOM image, directly in a folder.

    A broken file is included, so that reading it reports the reason: without it, slices would be missing.

    Raises:
        NomalyError: if it contains none, or several.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    scans = {path: scan_file(path) for path in files if is_dicom(path)}
    broken = [path for path, scan in scans.items() if scan is None]
    groups = list(group_files(filter(None, scans.values())).values())
    if not groups and not broken:
        raise load_error(
            folder,
            f"a folder must contain images or one DICOM series, but none of its {len(files)} files is an image",
            "Use the folder that contains the images.",
        )
    if len(groups) > 1:
        sizes = ", ".join(str(len(group)) for group in groups[:10])
        raise load_error(
            folder,
            f"the folder of one study must contain one DICOM series, but contains {len(groups)} (of {sizes} files)",
            "Put each series into a folder of its own.",
        )
    return broken + [file.path for file in groups[0]] if groups else broken


def group_files(files: Iterable[DicomFile]) -> dict[tuple[str, ...], list[DicomFile]]:
    """Group the slices of each series; every other image is its own group, and non-images are omitted."""
    groups: dict[tuple[str, ...], list[DicomFile]] = {}
    for file in files:
        if file.kind:
            key = file.group if file.kind == "slice" else (str(file.path),)
            groups.setdefault(key, []).append(file)
    return groups
