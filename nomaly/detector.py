"""Load a detector and score images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from custom.commands.steps import calibration_file
from custom.detection.bundle_detector import BundleDetector, rejection
from custom.detection.sources import find_source
from custom.errors import NomalyError
from custom.runs.inputs import users_studies
from custom.studies.case_names import UniqueNames
from custom.studies.discovery import find_studies as find_items
from custom.studies.items import StudyItem
from custom.studies.memory import memory_image
from custom.studies.privacy import files_of
from nomaly.result import Result

logger = logging.getLogger(__name__)

Path = str | PathLike[str]


def load(
    source: Path,
    *,
    weights: Path | None = None,
    calibration: Path | None = None,
    device: str | None = None,
    overlays: Sequence[str] = (),
    **parameters: Any,
) -> Detector:
    """Load a detector.

    Args:
        source: name of a bundle such as "ra_chest", its folder, its zip, or the model.pt in its folder.
        weights: other weights of the bundle, such as runs/models/model.pt of your own training; None = its own.
        calibration: folder or file of a calibration for these weights; None = the one in the weights.
        device: such as "cpu" or "cuda:0"; None = a GPU if there is one, else the CPU.
        overlays: configs merged over the bundle's inference config, such as ["inference_3d"].
        parameters: any other parameter of this config, such as alpha=0.01 or input_check=False.

    Returns:
        The detector, ready for any number of images.

    Raises:
        NomalyError: if the bundle, weights, calibration, device or a parameter cannot be used.
    """
    found = find_source(source, weights)
    settings = dict(parameters)
    if calibration is not None:
        settings["calibration_file"] = calibration_file(fspath(calibration))
    if device is not None:
        settings["device"] = str(device)
    detector = BundleDetector(found.bundle, found.weights, overlays, **settings)
    for warning in detector.warnings:
        logger.warning(warning)
    return Detector(detector, found)


class Detector:
    """A loaded detector; `load` makes it. Call it with an image or with a list of images.

    Args:
        scorer: the bundle's parts, as all programs of Nomaly use them.
        source: what it was made from, kept as long as the detector.
    """

    def __init__(self, scorer: BundleDetector, source: object = None) -> None:
        self._scorer = scorer
        self._source = source

    def __repr__(self) -> str:
        calibrated = "calibrated" if self.is_calibrated else "not calibrated"
        return f"Detector({self.bundle!r}, device={self.device!r}, {calibrated})"

    @property
    def bundle(self) -> str:
        """Name of the bundle."""
        return self._scorer.bundle

    @property
    def device(self) -> str:
        """Device that it computes on."""
        return str(self._scorer.evaluator.state.device)

    @property
    def is_calibrated(self) -> bool:
        """Whether results have p-values, decisions and regions."""
        return bool(self._scorer.calibration.is_calibrated)

    @property
    def thresholds(self) -> dict[str, float]:
        """Map value above which a pixel belongs to a region, by kind of study for which the detector is calibrated:
        "image" (one slice), "volume" (several).
        """
        return {kind: float(state.pixel_threshold) for kind, state in self._scorer.calibration.calibrated.items()}

    @property
    def metadata(self) -> dict[str, Any]:
        """Content of the bundle's metadata.json: intended use, data, figures, changelog."""
        return dict(self._scorer.metadata)

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...], *, affine: None = None) -> list[Result]: ...

    @overload
    def __call__(self, image: Any, *, affine: ArrayLike | None = None) -> Result: ...

    def __call__(self, image: Any, *, affine: ArrayLike | None = None) -> Result | list[Result]:
        """Score an image, or each image of a list, exactly as ``nomaly detect`` does.

        Args:
            image: one of

                - the path of an image file or of the folder of one DICOM series,
                - a 2-D image as a NumPy array (rows, columns) or (rows, columns, 3), or as a tensor (rows, columns)
                  or (3, rows, columns), in display orientation,
                - a volume as an array or tensor (X, Y, Z) with its ``affine``,
                - an image of nibabel, SimpleITK or Pillow, or a MetaTensor of MONAI, (C, X, Y) or (C, X, Y, Z),
                - a list of these; a list of paths within it stands for the files of one series.
            affine: (4, 4) from voxel to millimetres in RAS, only for a volume given as array or tensor.

        Returns:
            The result; for a list one result per image, in which a study that failed or was rejected has its reason.

        Raises:
            NomalyError: if a single image cannot be read or scored, or the input check rejects it. With
                ``load(..., input_check=False)`` images are scored nevertheless.
        """
        if isinstance(image, (list, tuple)):
            names = UniqueNames()
            items = [self._item(one, f"image-{number}", None) for number, one in enumerate(image, 1)]
            return [self._result({**item, "case": names(item["case"])}) for item in items]
        result = self._result(self._item(image, "image", affine))
        if result.status != "ok":
            raise NomalyError(result.error or result.note)
        return result

    def _item(self, image: Any, name: str, affine: ArrayLike | None) -> StudyItem:
        """The listed study of an image."""
        is_series = isinstance(image, (list, tuple)) and all(isinstance(file, (str, PathLike)) for file in image)
        if not is_series and not isinstance(image, (str, PathLike)):
            self._check_scale(image)
            return {"image": memory_image(image, name, affine), "case": name, "private": False}
        if affine is not None:
            raise NomalyError("affine is for volumes given as arrays, but this is a path: omit affine.")
        paths = [fspath(file) for file in image] if is_series else fspath(image)
        items = users_studies(paths, bool(self._scorer.parameter("pseudonymise")))
        if len(items) != 1:
            raise NomalyError(
                f"an image must be one study, but {paths if isinstance(paths, str) else paths[0]} holds {len(items)}: "
                "call the detector with the list nomaly.find_studies(...)."
            )
        return items[0]

    def _check_scale(self, image: Any) -> None:
        """Refuse values from 0 to 1 where the bundle expects those of 8-bit images.

        Raises:
            NomalyError: with the expected range.
        """
        expected = self._scorer.parameter("source_range")
        if expected is None or not hasattr(image, "dtype") or not hasattr(image, "shape"):
            return
        values = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
        if values.dtype.kind == "f" and values.size and expected[1] > 1 >= np.nanmax(values):
            low, high = expected
            raise NomalyError(
                f"image must have values from {low:g} to {high:g}, as in the files of such images, got values up to "
                f"{np.nanmax(values):g}: multiply them by {high:g}."
            )

    def _result(self, item: StudyItem) -> Result:
        """The result of a listed study."""
        study = self._scorer.process(item)
        if "error" not in study and "score" not in study:
            study["note"] = rejection(study)
        return Result(study, self._scorer)


def find_studies(source: Path | Sequence[Path]) -> list[str | list[str]]:
    """The studies in files and folders, as ``nomaly detect`` finds them, for a call of the detector.

    Args:
        source: files, folders (searched at any depth), lists (.txt) or data sets (datalist.json), one or several.

    Returns:
        The path of each study; for a DICOM series the list of its files.

    Raises:
        NomalyError: if no study is found.
    """
    paths = [fspath(source)] if isinstance(source, (str, PathLike)) else [fspath(path) for path in source]
    found = (files_of(item) for item in find_items(paths))
    return [files[0] if len(files) == 1 else files for files in found]
