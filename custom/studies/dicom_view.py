"""How a film was stored, by PatientOrientation: the affine that turns or mirrors it upright (PS3.3 C.7.6.1.1.1)."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from custom.studies.dicom_headers import RADIOGRAPHS

# Direction of each letter on the display, (right, down): the patient's left is at the right, the feet are below.
ON_DISPLAY = {"L": (1, 0), "R": (-1, 0), "F": (0, 1), "H": (0, -1)}


def film_affine(header: Dataset, spacing: np.ndarray | None) -> np.ndarray:
    """Return the affine (4 x 4) of (column, row, 1) of an image without a position.

    A film as displayed has diag(-1, -1, 1, 1) times its spacing. One that PatientOrientation states to be turned or
    mirrored has the affine that `Orientation(axcodes="LPS")` brings to that; results return to the stored pixels by
    its inverse.

    Args:
        header: header of the file.
        spacing: between rows, then between columns, mm; None if unknown, read as 1 mm.
    """
    rows, columns = (1.0, 1.0) if spacing is None else spacing
    affine = np.eye(4)
    affine[:2, :2] = -_directions(header) @ np.diag([columns, rows])
    return affine


def turn_note(header: Dataset) -> str:
    """Return how a film was brought upright, for the note of its row; "" if it is stored upright or states nothing."""
    turn = _directions(header)
    if np.array_equal(turn, np.eye(2)):
        return ""
    how = "mirrored" if np.linalg.det(turn) < 0 else "rotated"
    stored = "\\".join(str(word) for word in header.PatientOrientation)
    return f"The film is stored {how} (PatientOrientation {stored}) and was brought upright for the analysis"


def _directions(header: Dataset) -> np.ndarray:
    """Return the directions on the display of rising column and rising row, as columns (2 x 2).

    A lateral film, on which only head and feet are stated, is turned but not mirrored. The identity for other images,
    and where the orientation is missing or oblique.
    """
    words = header.get("PatientOrientation") or ()
    if header.get("Modality") not in RADIOGRAPHS or isinstance(words, str) or len(words) != 2:
        return np.eye(2)
    column, row = (np.array(ON_DISPLAY.get(str(word)[:1].upper(), (0, 0))) for word in words)
    if column[1] and not row.any():
        row = np.array([-column[1], 0])
    elif row[1] and not column.any():
        column = np.array([row[1], 0])
    return np.stack([column, row], axis=1) if abs(column @ row) == 0 and column.any() and row.any() else np.eye(2)
