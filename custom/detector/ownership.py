"""The bundle that weights belong to; standard library only, so that it can be checked before anything is installed."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

from custom.errors import NomalyError


def check_owner(bundle: Path, weights: str | PathLike[str]) -> None:
    """Refuse weights from another bundle, which would load if both networks have the same architecture.

    Args:
        bundle: folder of the bundle that is run.
        weights: file of the weights; one outside of any bundle is accepted.

    Raises:
        NomalyError: with the names of both bundles.
    """
    own, owner = bundle_name(bundle), bundle_name(Path(weights).resolve().parent.parent)
    if None not in (own, owner) and own != owner:
        raise NomalyError(
            f'weights must belong to bundle "{own}", but {weights} belong to "{owner}": omit --weights, or use their '
            "own bundle."
        )


def bundle_name(folder: Path) -> str | None:
    """Name in the metadata of a bundle; None if the folder is not a bundle."""
    try:
        return json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
