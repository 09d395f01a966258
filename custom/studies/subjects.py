"""The patient of a study: by a pattern of the user, BIDS, or DICOM."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from custom.errors import NomalyError
from custom.studies.dicom_headers import read_header, scan_file
from custom.studies.formats import is_dicom

BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")


def compiled(pattern: str | None) -> re.Pattern[str] | None:
    """The user's pattern for subjects; None without one.

    Raises:
        NomalyError: if it is no regular expression.
    """
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise NomalyError(f"--subject must be a regular expression, got {pattern} ({error}): correct it.") from None


def subject_of(files: Sequence[str], place: PurePosixPath, pattern: re.Pattern[str] | None) -> str | None:
    """The patient of a study; None if nothing states it.

    Args:
        files: of the study.
        place: of the study within the folder that the user named.
        pattern: finds the subject in this place, in its first group if it has one.

    Returns:
        What the pattern finds, else the BIDS label such as sub-01, else a hash of PatientID, which is not written.

    Raises:
        NomalyError: if the pattern does not match.
    """
    if pattern is not None:
        found = pattern.search(place.as_posix())
        if found is None:
            raise NomalyError(
                f"--subject must match every study, but {pattern.pattern} does not match {place}: correct it."
            )
        return found[1] if pattern.groups else found[0]
    for part in place.parts:
        if label := BIDS_SUBJECT.match(part):
            return label[0]
    return _dicom_patient(Path(files[0]))


def _dicom_patient(file: Path) -> str | None:
    """Hash of the PatientID of a DICOM file; None for other files and an empty PatientID."""
    try:
        if not file.is_file() or not is_dicom(file) or scan_file(file) is None:
            return None
        patient = str(read_header(file)[0].get("PatientID") or "").strip()
    except Exception:  # pydicom raises any exception on a damaged file, which is reported when the study is used
        return None
    return f"patient-{hashlib.sha256(patient.encode()).hexdigest()[:12]}" if patient else None
