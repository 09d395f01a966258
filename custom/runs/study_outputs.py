"""The results of one study: its table rows, its image files and its layers for the report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
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
from custom.runs.regions import body_regions, only, significant, study_regions
from custom.runs.slicer import write_scene
from custom.runs.source_geometry import source_arrays, to_source, write_images
from custom.runs.tables import RegionResult, StudyResult
from custom.studies.items import Study
from custom.studies.kinds import kind_of
from custom.studies.own_files import remove_own, writing
from custom.studies.privacy import failure
from custom.transforms.head import cut_remark

logger = logging.getLogger(__name__)

OPPOSITE = dict(zip("LRAPSI", "RLPAIS"))


class StudyOutputs:
    """Make the record of a study and write its images.

    Args:
        folder: output folder of the run; each study has a subfolder.
        images: whether map, mask and pseudo-healthy image are written.
        dicom: whether a DICOM study also gets DICOM objects; only with ``images``.
        run: version, bundle, model and alpha, for the DICOM objects.
        remark: added to the note of every study.
        slicer: whether a study with geometry also gets a scene for 3D Slicer; only with ``images``.
    """

    def __init__(
        self,
        folder: Path,
        images: bool,
        dicom: bool,
        run: Mapping[str, Any],
        remark: str = "",
        slicer: bool = False,
    ) -> None:
        self.folder = folder
        self.images = images
        self.dicom = dicom
        self.run = run
        self.remark = remark
        self.slicer = slicer

    def make(self, study: Study) -> StudyRecord:
        """The record of a study from a DetectionEvaluator; its images are written, too.

        Raises:
            WriteError: if the disk is full or not available. Any other error only fails this study.
        """
        folder = self.folder / study["case"]
        remove_own(folder)  # of an earlier run, or of one that was killed while writing
        if "error" in study:
            return StudyRecord(failed_row(study), [])
        try:
            with writing(folder) if self.images else nullcontext():
                return self._rejected(study) if "score" not in study else self._scored(study)
        except Exception as error:
            if isinstance(error, WriteError) and error.disk_gone:
                raise
            logger.debug("Study %s failed", study["case"], exc_info=True)
            failed = failed_row({**study, "error": failure(error, study)})
        logger.error("Study %s failed: %s", failed.study, failed.error)
        return StudyRecord(failed, [])

    def _rejected(self, study: Study) -> StudyRecord:
        """The record of a study that the input check rejected."""
        note = f"Not assessable: {'; '.join(study['refusals'])}."
        row = StudyResult(study["case"], "not_assessable", seconds=study["seconds"], note=note)
        view = input_view(study["image"], **place_of(study["image"]))
        return self._recorded(study, {}, row, [], view)

    def _scored(self, study: Study) -> StudyRecord:
        """The record of a study that was scored."""
        arrays = source_arrays(study["image"], self._volumes(study))
        regions = study_regions(study, arrays["labels"]) if "labels" in arrays else []
        findings = significant(regions, self.run["alpha"])
        if "labels" in arrays:
            arrays["labels"] = only(arrays["labels"], findings)
            arrays["mask"] = (arrays["labels"] > 0).astype(np.uint8)
        row = self._row(study)
        row.note = joined(self.remark, row.note, *remarks(study))
        if study.get("region_p_values") is None:  # a mask without findings would look like a normal result
            arrays.pop("mask", None)
        else:
            row.region_count = len(findings)
            row.region_size = sum(region.size for region in findings)
            row.region_unit = regions[0].unit if regions else None
        if self.images:
            write_images(self.folder / row.study, study["image"], arrays)
            row.note = joined(row.note, self._write_scene(study))
        return self._recorded(study, arrays, row, regions, self._view(study, findings))

    def _write_scene(self, study: Study) -> str:
        """Write the scene for 3D Slicer, if it was asked for; if the image has no geometry, as PNG, return that."""
        if not self.slicer:
            return ""
        if not study["image"].meta["spacing_known"]:
            return "No scene for 3D Slicer: the image has no geometry."
        write_scene(self.folder / study["case"], study["source"], study["pixel_threshold"])
        return ""

    def _volumes(self, study: Study) -> dict[str, torch.Tensor]:
        """The results of a study that go into files or the table, on the network's grid."""
        volumes: dict[str, torch.Tensor] = {}
        if self.images:
            volumes |= {"map": study["pred"], "pseudo_healthy": study["reconstruction"]}
            if "deviation" in study:
                volumes["deviation"] = study["deviation"]
        labels = body_regions(study)
        if labels is not None:
            volumes["labels"] = labels
        return volumes

    @staticmethod
    def _row(study: Study) -> StudyResult:
        """Row of a study that was scored, without its regions."""
        parts = study.get("score_parts", {})
        return StudyResult(
            study=study["case"],
            score=study["score"],
            p_value=study["p_value"],
            decision=study["decision"],
            group=study["calibration_group"],
            kind=kind_of(study["image"].shape),
            healthy_studies=study["healthy_studies"],
            score_map=parts.get("map"),
            score_structure=parts.get("structure"),
            score_code=parts.get("code"),
            score_patches=parts.get("patches"),
            seconds=study["seconds"],
            note=study["note"],
        )

    def _recorded(
        self,
        study: Study,
        arrays: Mapping[str, np.ndarray],
        row: StudyResult,
        regions: list[RegionResult],
        view: CaseView | None = None,
    ) -> StudyRecord:
        """The record; DICOM objects are written first, if they were asked for."""
        if self.images and self.dicom and study["image"].meta.get("dicom"):
            row.note = joined(row.note, self._write_dicom(study, arrays, row, regions))
        return StudyRecord(row, regions, view)

    def _write_dicom(
        self, study: Study, arrays: Mapping[str, np.ndarray], row: StudyResult, regions: list[RegionResult]
    ) -> str:
        """Write the DICOM objects; if that is not possible, return the reason."""
        from custom.runs.dicom.objects import write_dicom_objects  # highdicom is slow to import, and few runs need it

        chosen = {name: arrays[name] for name in ("map", "labels") if name in arrays}
        try:
            files = study["image"].meta["source_files"]
            findings = significant(regions, self.run["alpha"])
            write_dicom_objects(self.folder / row.study, files, chosen, row, findings, self.run)
        except WriteError:
            raise
        except NomalyError as error:
            logger.warning("Study %s: no DICOM objects were written: %s", row.study, error)
            return f"No DICOM objects were written: {error}"
        return ""

    def _view(self, study: Study, findings: list[RegionResult]) -> CaseView:
        """Layers of the study for the report with outlines of its findings, and with the truth where it is known."""
        # With a calibrated detector all maps of one kind of study have the same colour scale, so that they can be
        # compared; strong ones saturate.
        threshold = study.get("pixel_threshold")
        vmax = None if threshold is None else 3 * threshold
        truth = study["mask"] if study.get("label") and "mask" in study else None
        parts = (study["image"], study["reconstruction"], study["pred"])
        # The network's grid may be stretched; the displayed image must not be.
        labels = body_regions(study)
        outlined = None if labels is None else only(labels.numpy(), findings)
        return case_view(*parts, outlined, truth, vmax, **place_of(study["image"]))


def place_of(image: MetaTensor) -> dict[str, Any]:
    """Pixel spacing of a displayed slice, and the patient's sides at its left, right, top and bottom."""
    right, bottom, _ = nib.aff2axcodes(np.asarray(image.affine))
    sides = OPPOSITE[right] + right + OPPOSITE[bottom] + bottom if image.meta.get("sides_known") else ""
    return {"spacing": image.pixdim[:2].tolist(), "sides": sides}


def remarks(study: Study) -> Iterator[str]:
    """What a reader of a study's results must know: that it is rejected, cut off, or analysed in part."""
    if study.get("refusals"):
        yield f"Scored although the input check rejects it: {'; '.join(study['refusals'])}."
    if study["image"].meta.get("stored"):
        yield f"{study['image'].meta['stored']}."
    yield cut_remark(study["image"])
    if study["image"].shape[-1] > 1:
        seen = to_source(torch.ones(1, *study["image"].shape[1:]), study["image"], "nearest") > 0.5
        spans = [np.flatnonzero(seen.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        axis = min(range(3), key=lambda axis: len(spans[axis]) / seen.shape[axis])
        if len(spans[axis]) < seen.shape[axis]:
            first, last = spans[axis][[0, -1]] + 1
            yield f"Only slices {first} to {last} of {seen.shape[axis]} along axis {axis + 1} were analysed."


def joined(*sentences: str) -> str:
    """One text of the sentences that are not empty."""
    return " ".join(filter(None, sentences))


def failed_row(study: Study) -> StudyResult:
    """Row of a study that failed."""
    return StudyResult(study=study["case"], status="failed", seconds=study.get("seconds"), error=study["error"])
