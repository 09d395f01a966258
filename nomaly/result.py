"""The result of one image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from custom.detection.bundle_detector import BundleDetector, note_of
from custom.errors import NomalyError
from custom.rendering.panels import panels
from custom.runs.regions import body_regions, findings_of, only, study_regions
from custom.runs.source_geometry import source_arrays
from custom.runs.study_outputs import place_of
from custom.runs.tables import RegionResult
from custom.studies.items import Study


class Result:
    """The result of one image, with the columns of results.csv and regions.csv as attributes.

    Arrays lie on the grid of the image and have its axes without channels: (rows, columns) of a 2-D image, (X, Y, Z) of
    a volume as in nibabel; of an image of SimpleITK as its GetArrayFromImage. They are float32 unless stated otherwise,
    larger = more abnormal.

    Args:
        study: output of the evaluator.
        scorer: the detector that made it.
    """

    def __init__(self, study: Study, scorer: BundleDetector) -> None:
        self._study = study
        self._scorer = scorer

    def __repr__(self) -> str:
        if self.status != "ok":
            return f"Result({self.name!r}, {self.status}: {self.error or self.note})"
        p_value = "none" if self.p_value is None else f"{self.p_value:.3g}"
        return f"Result({self.name!r}, score={self.score:.4g}, p_value={p_value}, decision={self.decision!r})"

    @property
    def name(self) -> str:
        """Name in the tables: that of its file, as of ``nomaly detect``."""
        return self._study["case"]

    @property
    def status(self) -> str:
        """ "ok", "failed" (reason in `error`) or "not_assessable" (reason in `note`)."""
        return "failed" if "error" in self._study else "ok" if "score" in self._study else "not_assessable"

    @property
    def error(self) -> str:
        """Why the study failed; empty otherwise."""
        return self._study.get("error", "")

    @property
    def note(self) -> str:
        """Remarks, such as why there is no p-value; may be empty."""
        return note_of(self._study, *self._scorer.warnings) if self.status == "ok" else self._study.get("note", "")

    @property
    def score(self) -> float | None:
        """Study score, larger = more abnormal; None unless `status` is "ok"."""
        return self._study.get("score")

    @property
    def parts(self) -> dict[str, float]:
        """Parts of a fused score, "map", "structure" and "code", in standard deviations above the mean of healthy
        studies; their sum is the score. Empty for other scores.
        """
        return dict(self._study.get("score_parts", {}))

    @property
    def p_value(self) -> float | None:
        """Share of healthy calibration studies that are at least as unusual, in (0, 1]; None without a calibration."""
        return self._study.get("p_value")

    @property
    def decision(self) -> str | None:
        """ "flag", "uncertain" or "likely_normal"; None without a p-value."""
        return self._study.get("decision")

    @property
    def group(self) -> str | None:
        """Calibration group that the p-value refers to; None without groups."""
        return self._study.get("calibration_group")

    @property
    def seconds(self) -> float:
        """Processing time."""
        return self._study["seconds"]

    @cached_property
    def map(self) -> NDArray[np.float32] | None:
        """Anomaly map; None unless `status` is "ok"."""
        return self._array("map")

    @cached_property
    def reconstruction(self) -> NDArray[np.float32] | None:
        """Pseudo-healthy image in the intensities of the image, with a last axis for colours; None unless "ok"."""
        return self._array("pseudo_healthy")

    @cached_property
    def deviation(self) -> NDArray[np.float32] | None:
        """Standard deviation of the reconstructions of an ensemble; None for other detectors."""
        return self._array("deviation")

    @cached_property
    def labels(self) -> NDArray[np.int32] | None:
        """Number of the finding in each pixel, int32, 0 = none; None without a p-value."""
        labels = None if self._findings is None else self._array("labels")
        return None if labels is None else only(labels, self.regions)

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """Pixels of all findings, bool; None without a p-value."""
        return None if self.labels is None else self.labels > 0

    @property
    def regions(self) -> list[RegionResult]:
        """Findings, the most massive first, with the columns of regions.csv: the regions above the calibrated threshold
        whose own p-value is at or below the alpha of the detector. Empty without a p-value, where nothing is decided.
        """
        return self._findings or []

    @property
    def affine(self) -> NDArray[np.float64] | None:
        """(4, 4) from voxel (X, Y, Z) to millimetres in RAS; None if the image has no geometry, as PNG."""
        if "image" not in self._study or not self._study["image"].meta["spacing_known"]:
            return None
        return np.asarray(self._study["image"].meta["original_affine"], np.float64)

    def plot(self, height: int = 320) -> Image.Image:
        """Draw the image, the pseudo-healthy image and the map over the image with outlined findings, side by side.

        Args:
            height: of the picture in pixels. Of a volume, the slice with the strongest finding (or map) is shown.

        Returns:
            A picture, which a notebook displays; `plot().save("result.png")` writes it.

        Raises:
            NomalyError: if the study was not scored.
        """
        if self.status != "ok":
            raise NomalyError(f"only a scored study can be drawn, but {self.name} {self.status}: {self._reason()}")
        study = self._study
        vmax = None if study["pixel_threshold"] is None else 3 * study["pixel_threshold"]
        spacing = place_of(study["image"])["spacing"]
        labels = body_regions(study)
        outlined = None if labels is None else only(labels.numpy(), self.regions)
        parts = (study["image"], study["reconstruction"], study["pred"], outlined)
        return Image.fromarray(panels(*parts, vmax=vmax, spacing=spacing, height=height))

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False, slicer: bool = False) -> None:
        """Write the results folder that ``nomaly detect`` writes: tables, report.html, map, mask, pseudo-healthy image.

        Args:
            folder: to write to.
            overwrite: whether earlier results in it may be replaced.
            slicer: whether the folder of the study also gets a scene for 3D Slicer.

        Raises:
            NomalyError: if the folder already contains results or cannot be written, or as `nomaly.save`.
        """
        save([self], folder, overwrite=overwrite, slicer=slicer)

    @cached_property
    def _findings(self) -> list[RegionResult] | None:
        """The findings; None where nothing was decided."""
        labels = self._source.get("labels")
        regions = [] if labels is None else study_regions(self._study, labels)
        return findings_of(self._study, regions, self._scorer.alpha)

    @cached_property
    def _source(self) -> dict[str, NDArray]:
        """Arrays on the grid of the image with the axes (X, Y) or (X, Y, Z)."""
        if self.status != "ok":
            return {}
        study = self._study
        volumes = {"map": study["pred"], "pseudo_healthy": study["reconstruction"]}
        if "deviation" in study:
            volumes["deviation"] = study["deviation"]
        labels = body_regions(study)
        if labels is not None:
            volumes["labels"] = labels
        return source_arrays(study["image"], volumes)

    def _array(self, name: str) -> NDArray | None:
        """An array with the axes of the image."""
        array = self._source.get(name)
        if array is None or not self._study["image"].meta["rows_first"]:
            return array
        space = len(self._study["image"].meta["spatial_shape"])
        if self._study["image"].meta["dicom"] and space == 3:  # a film: its one slice is no axis
            array, space = array[:, :, 0], 2
        return np.ascontiguousarray(array.transpose(*reversed(range(space)), *range(space, array.ndim)))

    def _reason(self) -> str:
        return self.error or self.note


def save(
    results: Sequence[Result], folder: str | PathLike[str], *, overwrite: bool = False, slicer: bool = False
) -> None:
    """Write the results of several images of one detector into one results folder, as ``nomaly detect`` does.

    Args:
        results: of one detector, each under a name of its own, such as those of a list.
        folder: to write to.
        overwrite: whether earlier results in it may be replaced.
        slicer: whether the folder of each study that was scored also gets a scene for 3D Slicer, slicer.mrml, with a
            copy of the image.

    Raises:
        NomalyError: if there are no results, they are of several detectors, two have one name, or the folder already
            contains results or cannot be written; with ``slicer``, if an image has no geometry.
    """
    names = [result.name for result in results]
    if not names:
        raise NomalyError("results must hold at least one result, got none: call a detector first.")
    if len({id(result._scorer) for result in results}) > 1:
        raise NomalyError("results must be of one detector, got those of several: save each detector's in its folder.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise NomalyError(
            f"each result must have a name of its own, but two are called {twice}: score the images in one call, as a "
            "list."
        )
    scored = [result for result in results if result.status == "ok"] if slicer else []
    if flat := next((result.name for result in scored if result.affine is None), None):
        raise NomalyError(f"slicer must be false for images without geometry, as PNG, got true for {flat}: give false.")
    results[0]._scorer.write([result._study for result in results], folder, overwrite, slicer)
