"""A bundle's detector for one study at a time, as an annotation server needs it; independent of the server."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from custom import __version__
from custom.detection.bundle_detector import BundleDetector, note_of
from custom.errors import NomalyError
from custom.runs.notes import data_notes
from custom.runs.regions import body_regions, findings_of, only, study_regions
from custom.runs.source_geometry import source_arrays, write_images
from custom.runs.tables import RegionResult
from custom.scoring.regions import label_regions
from custom.studies.items import Study

OPTIONS = ("threshold", "output")
OUTPUTS = ("mask", "bands", "map")
CALIBRATED = "calibrated"
LABELS = {"anomaly": 1}
BANDS = {"over half the threshold": 0.5, "over the threshold": 1, "over twice the threshold": 2, "over four times": 4}
REPORTED = ("score", "p_value", "decision", "calibration_group", "note", "seconds")


class StudyDetector(BundleDetector):
    """A bundle's detector, which writes the one image that a viewer asked for, with the results as plain values."""

    def __call__(
        self,
        image: str | Sequence[str],
        folder: str | PathLike,
        threshold: str | float | None = None,
        output: str = "mask",
    ) -> tuple[Path, dict[str, Any]]:
        """Score one study.

        Args:
            image: a file, the folder of one DICOM series, or the files of one.
            folder: where the result image is written.
            threshold: map value above which a pixel is abnormal; "calibrated", "" or None = as calibrated.
            output: "mask" (1 = anomaly), "bands" (1 to 4, see BANDS) or "map" (float32; as PNG 16 bit with its scale).

        Returns:
            File on the grid of the study, and the results as plain values.

        Raises:
            NomalyError: if the study failed or was rejected by the input check, or an option is wrong.
        """
        if output not in OUTPUTS:
            raise NomalyError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}. Use one of these words.")
        threshold = read_threshold(threshold)
        # the user knows which study was requested
        study = self.score_study({"image": image, "case": "of this request", "private": True})
        study["note"] = note_of(study)
        own, threshold = threshold, self._threshold(threshold, output, study)
        if own is not None:
            self._find_regions(own, study)
        volumes, labelled = {"map": study["pred"]}, body_regions(study)
        if threshold is not None and labelled is not None:
            volumes["labels"] = labelled
        arrays = source_arrays(study["image"], volumes)
        regions = study_regions(study, arrays["labels"]) if "labels" in arrays else []
        findings = self._findings(study, regions, own)
        if findings is not None and "labels" in arrays:
            arrays["mask"] = (only(arrays["labels"], findings) > 0).astype(np.uint8)
        labels = {name: number for number, name in enumerate(BANDS, 1)} if output == "bands" else LABELS
        if output == "bands" and threshold is not None:
            edges = [threshold * factor for factor in BANDS.values()]
            arrays["mask"] = np.digitize(arrays["map"], edges, right=True).astype(np.uint8)
        file = write_result(folder, study["image"], "map" if output == "map" else "mask", arrays)
        warnings = list(dict.fromkeys([*self.warnings, *data_notes(None, [{"image": image, "case": study["case"]}])]))
        answer = {"label_names": labels, "output": output, "warnings": warnings}
        return file, answer | self._results(study, threshold, regions, findings)

    def _threshold(self, own: float | None, output: str, study: Study) -> float | None:
        """The user's threshold, else the calibrated one; None if there is neither, and the map was requested.

        Raises:
            NomalyError: if a mask would be empty because nothing was decided, which would look like a normal result.
        """
        if own is not None:
            return own
        if not self.calibration.is_calibrated and output != "map":
            raise NomalyError(
                f"threshold must be given for output {output}, as this detector is not calibrated: give one, "
                "request the output map, or run nomaly calibrate."
            )
        needed = {"mask": study["region_p_values"], "bands": study["pixel_threshold"]}
        if output in needed and needed[output] is None:
            raise NomalyError(
                f"threshold must be given for output {output}, as this study has no p-value and therefore no findings "
                f"({study['note'].rstrip('.')}): give one, or request the output map."
            )
        return study["pixel_threshold"]

    def _findings(self, study: Study, regions: list[RegionResult], own: float | None) -> list[RegionResult] | None:
        """The regions that are counted and marked: the significant ones, or all above the user's threshold; None where
        nothing was decided.
        """
        return regions if own is not None else findings_of(study, regions, self.alpha)

    def _find_regions(self, threshold: float, study: Study) -> None:
        """Replace the regions of a study by those above the user's threshold, which have no p-values."""
        least = int(self.calibration.of(study["image"].shape).minimum_region)
        labels, masses, _ = label_regions(study["pred"], threshold, least)
        note = "The regions are above your own threshold, not the calibrated one, and therefore have no p-values."
        study["regions"] = torch.from_numpy(labels)
        study["region_masses"] = masses.tolist()
        study["region_p_values"] = None
        study["note"] = f"{study['note']} {note}".strip()

    def _results(
        self,
        study: Study,
        threshold: float | None,
        regions: list[RegionResult],
        findings: list[RegionResult] | None,
    ) -> dict[str, Any]:
        """The results of a study as plain values."""
        rows = [{name: value for name, value in asdict(region).items() if name != "study"} for region in regions]
        values: Mapping[str, object] = study
        results = {
            **{name: values[name] for name in REPORTED},
            "threshold": threshold,
            "region_count": None if findings is None else len(findings),
            "region_size": None if findings is None else sum(region.size for region in findings),
            "region_unit": regions[0].unit if regions and findings is not None else None,
            "regions": rows,
            "bundle": self.bundle,
            "model_hash": self.model_hash,
            "nomaly": __version__,
        }
        return json.loads(json.dumps(results, default=float))  # NumPy numbers become Python numbers


def check_options(request: Iterable[str]) -> None:
    """Refuse misspelt options among the names in a request; viewers add many names of their own, which are kept.

    Raises:
        NomalyError: with the option that was meant.
    """
    for name in request:
        meant = get_close_matches(str(name).lower(), OPTIONS, n=1, cutoff=0.8)
        if meant and name not in OPTIONS:
            raise NomalyError(f"{name} is not an option: did you mean {meant[0]}?")


def read_threshold(threshold: str | float | None) -> float | None:
    """A threshold from a viewer's text field; None = as calibrated.

    Raises:
        NomalyError: if it is neither a positive number nor "calibrated".
    """
    if threshold is None or str(threshold).strip().lower() in ("", CALIBRATED):
        return None
    try:
        value = float(threshold)
    except (TypeError, ValueError):
        value = math.nan
    if isinstance(threshold, bool) or not 0 < value < math.inf:
        raise NomalyError(f'threshold must be a number above 0 or "{CALIBRATED}", got {threshold!r}. Correct it.')
    return value


def write_result(folder: str | PathLike, image: Any, name: str, arrays: dict[str, np.ndarray]) -> Path:
    """Write the map, or a mask whose values are label numbers: viewers do not read 255 as label 1."""
    file = write_images(folder, image, {name: arrays[name]})[name]
    if name == "mask" and file.suffix == ".png":
        Image.fromarray(np.ascontiguousarray(arrays["mask"].swapaxes(0, 1))).save(file)
    return file
