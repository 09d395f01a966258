"""The results of one study as DICOM objects of the same study: segmentation, map and structured report."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from custom.errors import NomalyError
from custom.files import atomic_write
from custom.runs.dicom.findings import number_findings
from custom.runs.dicom.identity import KINDS, Identity
from custom.runs.dicom.images import make_map, make_segmentation
from custom.runs.dicom.report import make_report
from custom.runs.dicom.source import read_source
from custom.runs.tables import RegionResult, StudyResult
from custom.studies.dicom_headers import quiet_dicom

logger = logging.getLogger(__name__)


def write_dicom_objects(
    folder: str | os.PathLike[str],
    files: Sequence[str | os.PathLike[str]],
    arrays: Mapping[str, np.ndarray],
    result: StudyResult,
    regions: Sequence[RegionResult],
    run: Mapping[str, Any],
) -> dict[str, Path]:
    """Write ``segmentation.dcm`` (if there are regions), ``map.dcm`` (if there is a map) and ``report.dcm``.

    The objects belong to the study of the files and form new series. They carry the patient's name, id, birth date and
    sex, so that a PACS can file them with the images; no other text entered by a person is copied. All UIDs are derived
    from the content, see `Identity`.

    Args:
        folder: folder of the study; created if it does not exist. Other objects of an earlier run are removed.
        files: the study's DICOM files in the order of the third axis; one for a radiograph or a multi-frame file.
        arrays: "map" float32, larger = more abnormal, and "labels" of integers (0 = background, n = region number),
            each (X, Y) or (X, Y, Z) on the grid of the files: X = column, Y = row, Z = file or frame. Either may be
            absent.
        result: the study's numbers.
        regions: the regions in "labels".
        run: at least "nomaly" (version), "bundle", "model_hash" and "alpha".

    Returns:
        The path of each object that was written, by kind: "segmentation", "map", "report".

    Raises:
        NomalyError: DICOM objects that refer to the files cannot be made or written.
    """
    folder = Path(folder)
    for kind in KINDS:
        with suppress(OSError):  # it does not exist, or writing will fail and report it
            (folder / f"{kind}.dcm").unlink()
    with quiet_dicom():
        try:
            objects = _make_objects(files, arrays, result, regions, run)
        except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
            if isinstance(error, NomalyError):
                raise
            logger.debug("No DICOM objects", exc_info=True)  # its text may name the patient
            raise NomalyError(
                f"The DICOM files of study {result.study} lack required attributes or contain invalid values "
                f"({type(error).__name__}). All other results are complete; check the files with dciodvfy."
            ) from error
        paths = {kind: folder / f"{kind}.dcm" for kind in objects}
        for kind, path in paths.items():
            with atomic_write(path, "wb") as stream:
                # Packed in memory first: pydicom puts a traceback into the error of a full disk, and drops its number.
                packed = io.BytesIO()
                pydicom.dcmwrite(packed, objects[kind], enforce_file_format=True)
                stream.write(packed.getbuffer())
    return paths


def _make_objects(
    files: Sequence[str | os.PathLike[str]],
    arrays: Mapping[str, np.ndarray],
    result: StudyResult,
    regions: Sequence[RegionResult],
    run: Mapping[str, Any],
) -> dict[str, Dataset]:
    """All objects of a study, by kind."""
    source = read_source(files)
    identity = Identity(source, arrays, result, regions, run)
    findings = number_findings(regions)
    images: dict[str, Dataset] = {}
    if findings:
        images["segmentation"] = make_segmentation(source, arrays["labels"], findings, identity)
    if "map" in arrays:
        images["map"] = make_map(source, arrays["map"], identity)
    return {**images, "report": make_report(source, result, findings, images, identity)}
