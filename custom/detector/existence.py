"""Whether the files of a detector exist: standard library only, so that a mistyped path is reported at once."""

from __future__ import annotations

from pathlib import Path

from custom.errors import NomalyError


def check_weights(path: str | Path) -> None:
    """Refuse weights that do not exist.

    Raises:
        NomalyError: if there is no such file.
    """
    if not Path(path).is_file():
        raise NomalyError(
            f"weights file not found: {path}. Train the bundle first (nomaly train), or give the path of its weights."
        )


def check_calibration(path: str | Path) -> None:
    """Refuse a calibration that does not exist.

    Raises:
        NomalyError: if there is no such file.
    """
    if not Path(path).is_file():
        raise NomalyError(f"calibration file not found: {path}. Create it with nomaly calibrate.")
