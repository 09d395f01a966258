"""A bundle's detector for one study at a time, as an annotation server needs it; independent of the server."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image

from custom import __version__
from custom.commands.from_weights import parameters_from_weights
from custom.detector.weights import model_hash
from custom.errors import NomalyError, find_mistake, root_cause
from custom.runs.notes import data_notes
from custom.runs.regions import only, significant, study_regions
from custom.runs.source_geometry import source_arrays, write_images
from custom.runs.study_outputs import remarks
from custom.runs.tables import RegionResult
from custom.scoring.regions import label_regions
from custom.studies.items import Study, StudyItem

OPTIONS = ("threshold", "output")
OUTPUTS = ("mask", "bands", "map")
CALIBRATED = "calibrated"
LABELS = {"anomaly": 1}
BANDS = {"over half the threshold": 0.5, "over the threshold": 1, "over twice the threshold": 2, "over four times": 4}
REPORTED = ("score", "p_value", "decision", "calibration_group", "note", "seconds")


class StudyDetector:
    """Run a bundle's ``inference.json`` on single studies: the same parts as ``nomaly detect``, built once.

    Args:
        bundle: folder of the bundle.
        weights: its model.pt.
        overrides: other parameters of its config.

    Raises:
        NomalyError: if the weights are missing, broken or for another network, or the configs of another release.
    """

    def __init__(self, bundle: str | PathLike, weights: str | PathLike, **overrides: Any) -> None:
        folder = Path(bundle)
        self.bundle = folder.name
        fixed = {"studies": [], "pending": [{}], "handlers": [], "num_workers": 0, "studies_per_batch": 1}
        own = {"bundle_root": str(folder), "weights": str(weights), **fixed, **overrides}
        try:
            self.metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
            file = str(folder / "configs" / "inference.json")
            config = ConfigParser.load_config_file(file)
            parser = ConfigParser({**config, **parameters_from_weights(folder, [file], own), **own})
            parser.get_parsed_content("initialize")
            self.evaluator = parser.get_parsed_content("evaluator")
        except Exception as error:  # MONAI wraps a component's error in its own
            if find_mistake(error):
                raise
            raise NomalyError(
                f"bundle {folder} must be for Nomaly {__version__}, but its configs cannot be used "
                f"({root_cause(error)}): download it again, or use it with the release it was made with."
            ) from error
        self.dimension = 3 if "axcodes" in config else 2  # only volumes are reoriented before scoring
        self.warnings = data_notes(None, [], str(weights))
        self.model_hash = model_hash(self.evaluator.network)
        self._one_at_a_time = threading.Lock()

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
        study = self.score_study(image)
        study["note"] = " ".join(filter(None, (study["note"], *remarks(study))))
        own, threshold = threshold, self._threshold(threshold, output, study)
        if own is not None:
            self._find_regions(own, study)
        volumes = {"map": study["pred"]}
        if threshold is not None and study["regions"] is not None:
            volumes["labels"] = torch.where(study["foreground"], study["regions"], 0)
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

    def score_study(self, image: str | Sequence[str]) -> Study:
        """Score a study as `nomaly detect` does.

        Raises:
            NomalyError: if it failed or was rejected by the input check.
        """
        with self._one_at_a_time:
            # The evaluator keeps the results of the last run only; the user knows which study was requested.
            item: StudyItem = {"image": image, "case": "of this request", "private": True}
            self.evaluator.data_loader.dataset.data = [item]
            self.evaluator.run()
            study: Study
            [study] = self.evaluator.state.output
            self.evaluator.state.output = None
        if "error" in study:
            raise NomalyError(study["error"])
        if "score" not in study:
            raise NomalyError(f"Not assessable: {'; '.join(study['refusals'])}.")
        return study

    def _threshold(self, own: float | None, output: str, study: Study) -> float | None:
        """The user's threshold, else the calibrated one; None if there is neither, and the map was requested.

        Raises:
            NomalyError: if a mask would be empty because nothing was decided, which would look like a normal result.
        """
        calibration = self.evaluator.network.calibration
        if own is not None:
            return own
        if not calibration.is_calibrated and output != "map":
            raise NomalyError(
                f"threshold must be given for output {output}, as this detector is not calibrated: give one, "
                "request the output map, or run nomaly calibrate."
            )
        if output == "mask" and study["region_p_values"] is None:
            raise NomalyError(
                f"threshold must be given for output mask, as this study has no p-value and therefore no findings "
                f"({study['note'].rstrip('.')}): give one, or request the output map."
            )
        return float(calibration.pixel_threshold) if calibration.is_calibrated else None

    def _findings(self, study: Study, regions: list[RegionResult], own: float | None) -> list[RegionResult] | None:
        """The regions that are counted and marked: the significant ones, or all above the user's threshold; None where
        nothing was decided.
        """
        if own is not None:
            return regions
        if study.get("region_p_values") is None:
            return None
        return significant(regions, self.evaluator.decision_rule.alpha)

    def _find_regions(self, threshold: float, study: Study) -> None:
        """Replace the regions of a study by those above the user's threshold, which have no p-values."""
        calibration = self.evaluator.network.calibration
        labels, masses, _ = label_regions(study["pred"], threshold, int(calibration.minimum_region))
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
