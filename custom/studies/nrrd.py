"""Facts in the text headers of NRRD and MetaImage files that ITK does not report, or not correctly."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_IMAGE_SUFFIXES = (".mha", ".mhd")
# Keywords of the spacing; ITK assumes 1 mm if it is missing.
SPACING_WORDS = {
    **dict.fromkeys(META_IMAGE_SUFFIXES, ("elementspacing", "elementsize")),
    **dict.fromkeys(NRRD_SUFFIXES, ("spacings:", "space directions:")),
}
LEFT_ANTERIOR_SUPERIOR = ("left-anterior-superior", "las", "left-anterior-superior-time", "last")
HEADER_BYTES = 2**16


def states_spacing(path: Path) -> bool:
    """Whether a NRRD or MetaImage file specifies the size of its voxels."""
    header = _header(path)
    return any(word in header for word in SPACING_WORDS[path.suffix.lower()])


def left_anterior_superior(path: Path) -> np.ndarray | None:
    """Return the affine (4, 4), RAS, in mm, of a NRRD file in the space left-anterior-superior, else None.

    ITK turns this space by 180 degrees in the axial plane: it negates x instead of y.
    """
    if path.suffix.lower() not in NRRD_SUFFIXES:
        return None
    fields = dict(re.findall(r"^([a-z ]+):=?[ \t]*(.*?)[ \t\r]*$", _header(path), flags=re.MULTILINE))
    if fields.get("space") not in LEFT_ANTERIOR_SUPERIOR:
        return None
    columns = [_vector(text) for text in re.findall(r"\(([^)]*)\)", fields.get("space directions", ""))]
    origin = _vector(fields.get("space origin", "(0,0,0)").strip("()"))
    affine = np.eye(4)
    affine[:3] = np.stack([*(column[:3] for column in columns[:3]), origin[:3]], axis=1)
    return np.diag([-1.0, 1.0, 1.0, 1.0]) @ affine


def _header(path: Path) -> str:
    """The text header in lower case: NRRD's ends with an empty line; what follows in other formats does no harm."""
    with path.open("rb") as stream:
        content = stream.read(HEADER_BYTES)
    end = re.search(rb"\r?\n\r?\n", content) if content.startswith(b"NRRD") else None
    return content[: end.start() if end else None].decode("latin-1").lower()


def _vector(text: str) -> np.ndarray:
    """The numbers of a vector, "1,0,0"."""
    return np.array([float(number) for number in text.split(",")])
