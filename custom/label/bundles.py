"""Which bundles a server serves, with which weights: standard library alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom import __version__
from custom.detector.ownership import check_owner
from custom.errors import NomalyError

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
CONFIGS = ("inference.json", "metadata.json")


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
    """The models by the names of their folders; without any, all bundles that have weights.

    Raises:
        NomalyError: if a bundle or its weights are not there or not of one kind, or one is given twice.
    """
    if weights is not None and (len(bundles) != 1 or "=" in bundles[0]):
        raise NomalyError("--weights must go with one --bundle: of several write each as --bundle BUNDLE=WEIGHTS.")
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
        folder = find_bundle(bundle)
        if folder.name in models:
            raise NomalyError(f"--bundle must name each bundle once, but {folder.name} is named twice: leave one out.")
        check_release(folder)
        models[folder.name] = Model(folder, check_weights(folder, own or weights))
    return models


def find_bundle(name: str) -> Path:
    """Folder of a bundle by name or path.

    Raises:
        NomalyError: if there is none.
    """
    for folder in (Path(name), BUNDLES / name):
        if all((folder / "configs" / config).is_file() for config in CONFIGS):
            return folder.resolve()
    known = ", ".join(sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/inference.json")))
    raise NomalyError(f"--bundle must be a bundle's name or path, got {name}: choose one of {known}.")


def check_release(folder: Path) -> None:
    """Refuse a packed bundle whose own copy of custom/ is of another release: a process has one package custom.

    Raises:
        NomalyError: with the two releases.
    """
    try:
        text = (folder / "custom" / "__init__.py").read_text(encoding="utf-8")
    except OSError:
        return
    found = re.search(r'__version__ = "(.*)"', text)
    release = found[1] if found else "an unknown release"
    if release != __version__:
        raise NomalyError(
            f"--bundle {folder.name} must be of Nomaly {__version__}, which this server runs, but its custom/ is of "
            f"{release}: start a server of its own from its folder (docs/howto/monai_label.md), or take the bundle of "
            f"{__version__}."
        )


def check_weights(folder: Path, weights: str | None) -> Path:
    """Weights of a bundle, as given or its own.

    Raises:
        NomalyError: if there are none, or they are those of a bundle of another name, whose network may be alike.
    """
    path = Path(weights) if weights else folder / "models" / "model.pt"
    if not path.is_file():
        raise NomalyError(
            f"weights of {folder.name} must be a file, but there is none at {path}: train the bundle (nomaly train), "
            "or give --weights."
        )
    check_owner(folder, path)
    return path.resolve()
