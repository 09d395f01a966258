"""The bundles that a server serves, with their weights; standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom.commands.bundle import BUNDLES, find_bundle
from custom.commands.steps import calibration_file
from custom.detection.sources import check_release, check_weights
from custom.errors import NomalyError


@dataclass(frozen=True)
class Model:
    """A bundle that is served.

    Args:
        bundle: its folder.
        weights: its model.pt.
        calibration: calibration.json made for these weights; None = the calibration in the weights.
    """

    bundle: Path
    weights: Path
    calibration: Path | None = None

    def settings(self) -> dict[str, str | None]:
        """The arguments of its StudyDetector, as plain values."""
        calibration = None if self.calibration is None else str(self.calibration)
        return {"bundle": str(self.bundle), "weights": str(self.weights), "calibration_file": calibration}


def read_models(bundles: Sequence[str], weights: str | None, calibration: str | None = None) -> dict[str, Model]:
    """The models by the names of their folders; without any name, all bundles that have weights.

    Raises:
        NomalyError: if a bundle, its weights or the calibration were not found, bundle and weights do not belong
            together, or a bundle is given twice.
    """
    if calibration is not None and len(bundles) != 1:
        raise NomalyError(
            "--calibration needs exactly one --bundle: start one server for each calibration, with its own --port."
        )
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
        found = check_weights(folder, own or weights, "--weights")
        models[folder.name] = Model(folder, found, check_calibration(calibration))
    return models


def check_calibration(calibration: str | None) -> Path | None:
    """Path of the given calibration, a file or a folder with calibration.json.

    Raises:
        NomalyError: if it was not found.
    """
    if calibration is None:
        return None
    path = Path(calibration_file(calibration))
    if not path.is_file():
        raise NomalyError(f"--calibration: file not found: {path}. Make it with nomaly calibrate --output FOLDER.")
    return path.resolve()
