"""Whose weights a file holds; standard library alone, so that it can be asked before anything is installed."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

from custom.errors import NomalyError


def check_owner(bundle: Path, weights: str | PathLike) -> None:
    """Refuse weights that lie in another bundle: networks of two bundles may be alike, and then they would load.

    Args:
        bundle: folder of the bundle that is run.
        weights: file; one that lies in no bundle may belong to any.

    Raises:
        NomalyError: with the names of both.
    """
    own, owner = bundle_name(bundle), bundle_name(Path(weights).resolve().parent.parent)
    if None not in (own, owner) and own != owner:
        raise NomalyError(
            f'weights must be those of "{own}", but {weights} are those of "{owner}": leave them out, or use the '
            "bundle that they belong to."
        )


def bundle_name(folder: Path) -> str | None:
    """Name in the metadata of a bundle; None if the folder is none."""
    try:
        return json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
