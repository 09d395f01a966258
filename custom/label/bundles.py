"""The bundles that a server serves, with their weights; standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom.commands.bundle import BUNDLES, find_bundle
from custom.detection.sources import check_release, check_weights
from custom.errors import NomalyError


@dataclass(frozen=True)
class Model:
    """A bundle that is served.

    Args:
        bundle: its folder.
        weights: its model.pt.
    """

    bundle: Path
    weights: Path


def read_models(bundles: Sequence[str], weights: str | None) -> dict[str, Model]:
    """The models by the names of their folders; without any name, all bundles that have weights.

    Raises:
        NomalyError: if a bundle or its weights were not found or do not belong together, or a bundle is given twice.
    """
    if weights is not None and (len(bundles) != 1 or "=" in bundles[0]):
        raise NomalyError("--weights needs exactly one --bundle: for several, write each as --bundle BUNDLE=WEIGHTS.")
    if not bundles:
        folders = sorted(path.parents[1] for path in BUNDLES.glob("*/models/model.pt"))
        if not folders:
            raise NomalyError(
                f"at least one bundle in {BUNDLES} must have weights (models/model.pt), but none has: train one "
                "(nomaly train), or give --bundle and --weights."
            )
        return {folder.name: Model(folder, folder / "models" / "model.pt") for folder in folders}
    models: dict[str, Model] = {}
    for entry in bundles:
        bundle, _, own = entry.partition("=")
        folder = find_bundle(bundle, "--bundle").resolve()
        if folder.name in models:
            raise NomalyError(f"--bundle must name each bundle once, but {folder.name} is given twice: remove one.")
        check_release(folder, "--bundle")
        models[folder.name] = Model(folder, check_weights(folder, own or weights, "--weights"))
    return models
