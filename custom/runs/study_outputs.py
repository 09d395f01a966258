"""What is kept of one study: its row, its regions, its images and its layers for the report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from custom.errors import NomalyError
from custom.files import WriteError
from custom.rendering.case_view import CaseView, case_view, input_view
from custom.runs.records import StudyRecord
from custom.runs.regions import study_regions
from custom.runs.source_geometry import remove_images, source_arrays, to_source, write_images
from custom.runs.tables import RegionResult, StudyResult
from custom.studies.privacy import failure

logger = logging.getLogger(__name__)

OPPOSITE = dict(zip("LRAPSI", "RLPAIS"))
DICOM_FILES = ("segmentation.dcm", "map.dcm", "report.dcm")


class StudyOutputs:
    """Make the record of a study and write its images.

    Args:
        folder: of the run; each study has a folder of its own there.
        threshold: map value over which a pixel belongs to a region; None if the detector is not calibrated.
        images: whether map, mask and pseudo-healthy image are written.
        dicom: whether a DICOM study gets DICOM objects as well; only with ``images``.
        run: what made the results, for the DICOM objects.
        remark: what each study's row is to say.
    """

    def __init__(
        self,
        folder: Path,
        threshold: float | None,
        images: bool,
        dicom: bool,
        run: Mapping[str, Any],
        remark: str = "",
    ) -> None:
        self.folder = folder
        self.threshold = threshold
        self.images = images
        self.dicom = dicom
        self.run = run
        self.remark = remark

    def make(self, study: dict[str, Any]) -> StudyRecord:
        """The record of what a DetectionEvaluator says of a study, whose images are written on the way.

        Raises:
            WriteError: if the disk is full or gone. Whatever else goes wrong is the failure of this study.
        """
        remove_outputs(self.folder / study["case"])  # of an earlier run, or one that was killed in their midst
        if "error" in study:
            return StudyRecord(failed_row(study), [])
        try:
            return self._refused(study) if "score" not in study else self._assessed(study)
        except Exception as error:
            if isinstance(error, WriteError) and error.disk_gone:
                raise
            logger.debug("Study %s failed", study["case"], exc_info=True)
            failed = failed_row({**study, "error": failure(error, study)})
        logger.error("Study %s failed: %s", failed.study, failed.error)
        return StudyRecord(failed, [])

    def _refused(self, study: dict[str, Any]) -> StudyRecord:
        """The record of a study that the input check refused."""
        note = f"Not assessable: {'; '.join(study['refusals'])}."
        row = StudyResult(study["case"], "not_assessable", seconds=study["seconds"], note=note)
        view = input_view(study["image"], **place_of(study["image"]))
        return self._recorded(study, {}, row, [], view)

    def _assessed(self, study: dict[str, Any]) -> StudyRecord:
        """The record of a study that was scored."""
        wanted = {"map": "pred", "pseudo_healthy": "reconstruction", "deviation": "deviation"} if self.images else {}
        volumes = {name: study[key] for name, key in wanted.items() if key in study}
        if self.threshold is not None:
            volumes["labels"] = study["regions"]
        arrays = source_arrays(study["image"], volumes)
        regions = study_regions(study, arrays["labels"]) if "labels" in arrays else []
        row = self._row(study)
        row.note = " ".join(filter(None, (self.remark, row.note, *remarks(study))))
        if self.threshold is not None:
            row.region_count = len(regions)
            row.region_size = sum(region.size for region in regions)
            row.region_unit = regions[0].unit if regions else None
        if self.images:
            write_images(self.folder / row.study, study["image"], arrays)
        return self._recorded(study, arrays, row, regions, self._view(study))

    @staticmethod
    def _row(study: dict[str, Any]) -> StudyResult:
        """Row of a study that was scored, without its regions."""
        return StudyResult(
            study=study["case"],
            score=study["score"],
            p_value=study["p_value"],
            decision=study["decision"],
            group=study["calibration_group"],
            seconds=study["seconds"],
            note=study["note"],
        )

    def _recorded(
        self,
        study: dict[str, Any],
        arrays: Mapping[str, np.ndarray],
        row: StudyResult,
        regions: list[RegionResult],
        view: CaseView | None = None,
    ) -> StudyRecord:
        """The record, after DICOM objects are written where they are wanted."""
        if self.images and self.dicom and study["image"].meta.get("dicom"):
            row.note = " ".join(filter(None, (row.note, self._write_dicom(study, arrays, row, regions))))
        return StudyRecord(row, regions, view)

    def _write_dicom(
        self, study: dict[str, Any], arrays: Mapping[str, np.ndarray], row: StudyResult, regions: list[RegionResult]
    ) -> str:
        """Write the DICOM objects; why there are none, if so."""
        from custom.runs.dicom.objects import write_dicom_objects  # highdicom takes its time, and few need it

        chosen = {name: arrays[name] for name in ("map", "labels") if name in arrays}
        try:
            files = study["image"].meta["source_files"]
            write_dicom_objects(self.folder / row.study, files, chosen, row, regions, self.run)
        except WriteError:
            raise
        except NomalyError as error:
            logger.warning("Study %s has no DICOM objects: %s", row.study, error)
            return f"No DICOM objects: {error}"
        return ""

    def _view(self, study: dict[str, Any]) -> CaseView:
        """Layers of the study for the report, with the truth where it is known."""
        # Of a calibrated detector all pictures have one scale, so that they can be compared; strong maps saturate.
        vmax = None if self.threshold is None else 3 * self.threshold
        truth = study["mask"] if study.get("label") and "mask" in study else None
        parts = (study["image"], study["reconstruction"], study["pred"])
        # The network's grid may be stretched; the picture shall not be.
        return case_view(*parts, study.get("regions"), truth, vmax, **place_of(study["image"]))


def place_of(image: MetaTensor) -> dict[str, Any]:
    """Spacing of a picture's pixels, and the patient's sides at its left, right, top and bottom."""
    right, bottom, _ = nib.aff2axcodes(np.asarray(image.affine))
    sides = OPPOSITE[right] + right + OPPOSITE[bottom] + bottom if image.meta.get("sides_known") else ""
    return {"spacing": image.pixdim[:2].tolist(), "sides": sides}


def remarks(study: dict[str, Any]) -> Iterator[str]:
    """What a reader of a study's results must know: that the input check would have refused it, that a part was not
    seen.
    """
    if study.get("refusals"):
        yield f"Assessed in spite of the input check: {'; '.join(study['refusals'])}."
    if study["image"].shape[-1] > 1:
        seen = to_source(torch.ones(1, *study["image"].shape[1:]), study["image"], "nearest") > 0.5
        spans = [np.flatnonzero(seen.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        axis = min(range(3), key=lambda axis: len(spans[axis]) / seen.shape[axis])
        if len(spans[axis]) < seen.shape[axis]:
            first, last = spans[axis][[0, -1]] + 1
            yield f"Assessed were slices {first} to {last} of {seen.shape[axis]} along axis {axis + 1} alone."


def remove_outputs(folder: Path) -> None:
    """Remove the images and DICOM objects of a study's folder, and nothing else."""
    remove_images(folder)
    for name in DICOM_FILES:
        with suppress(OSError):
            (folder / name).unlink()


def failed_row(study: dict[str, Any]) -> StudyResult:
    """Row of a study that could not be done."""
    return StudyResult(study=study["case"], status="failed", seconds=study.get("seconds"), error=study["error"])
