"""The operators of the MONAI Deploy application: find the series of a folder, select and score them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from pydicom.dataset import FileDataset

from custom.commands.bundle import run_bundle
from custom.deploy.options import Options
from custom.errors import NomalyError
from custom.studies.dicom_headers import quiet_dicom, read_header, scan_file
from custom.studies.discovery import find_studies
from custom.studies.formats import is_dicom
from custom.studies.privacy import files_of

logger = logging.getLogger(__name__)

STUDIES, SELECTED, UNREADABLE = "dicom_study_list", "study_selected_series_list", "unreadable_files"


class SeriesFinder(DICOMDataLoaderOperator):
    """Find the DICOM images of a folder in the same way as `nomaly detect`.

    MONAI Deploy's own loader reads all pixels into memory, drops files at the same position, and stops at a damaged
    file. This operator reads only headers and passes on all files of a series, and damaged files to report as failed.

    Named outputs:
        dicom_study_list: studies with their series, for MONAI Deploy's selector.
        unreadable_files: paths of DICOM files with an unreadable header.
    """

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the outputs."""
        super().setup(spec)
        spec.output(UNREADABLE)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Search the folder.

        Raises:
            NomalyError: if it contains no DICOM image.
        """
        self.unreadable: list[str] = []
        super().compute(op_input, op_output, context)
        op_output.emit(self.unreadable, UNREADABLE)

    @quiet_dicom()
    def load_data_to_studies(self, input_path: Path) -> list[DICOMStudy]:
        """Studies of the readable files."""
        studies: dict[str, DICOMStudy] = {}
        all_series: dict[tuple[str, str], DICOMSeries] = {}
        for file in dicom_files(input_path):
            header = header_of(file)
            if header is None:
                self.unreadable.append(str(file))
                continue
            study_uid, series_uid = (str(header.get(tag) or "") for tag in ("StudyInstanceUID", "SeriesInstanceUID"))
            study = studies.setdefault(study_uid, DICOMStudy(study_uid))
            if (study_uid, series_uid) not in all_series:
                all_series[study_uid, series_uid] = series = DICOMSeries(series_uid)
                # The only tag that the selector does not read from the headers, needed for ImageOrientationPatient.
                series.PatientPosition = header.get("PatientPosition")
                study.add_series(series)
            all_series[study_uid, series_uid].add_sop_instance(header)
        return list(studies.values())


class SeriesSelector(DICOMSeriesSelectorOperator):
    """MONAI Deploy's selector, which reports conditions that it cannot match as user errors."""

    @quiet_dicom()
    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Select the series that meet all conditions.

        Raises:
            NomalyError: if a condition uses a tag of an unsupported type.
        """
        try:
            super().compute(op_input, op_output, context)
        except (NotImplementedError, ValueError) as error:
            raise NomalyError(
                f"--series must use tags that MONAI Deploy can compare ({error}): choose others."
            ) from error


class NomalyOperator(Operator):
    """Score series with a bundle as `nomaly detect` does, which also writes the DICOM objects.

    Named inputs:
        study_selected_series_list: series to score.
        unreadable_files: files to report as failed.
        dicom_study_list: all series found, to list those that were not selected.

    Args:
        fragment: the application.
        wanted: options of the run.
    """

    def __init__(self, fragment: Fragment, wanted: Options, **kwargs: Any) -> None:
        self.wanted = wanted
        super().__init__(fragment, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the inputs."""
        for name in (STUDIES, SELECTED, UNREADABLE):
            spec.input(name)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Run the bundle on the files of the selected series.

        Raises:
            NomalyError: if no series was selected, or the bundle cannot be run.
        """
        studies, selected, unreadable = (op_input.receive(name) for name in (STUDIES, SELECTED, UNREADABLE))
        series = [one for study in studies for one in study.get_all_series()]
        chosen = [one.series for study in selected for one in study.selected_series]
        files = files_of_series(chosen) + unreadable
        if not files:
            wanted = " and ".join(f"{keyword} {pattern}" for keyword, pattern in self.wanted.series.items())
            raise NomalyError(
                f"the input must contain a series with {wanted}, got {counted(series)}: use another bundle, or select "
                "series with --series."
            )
        if left := [one for one in series if not any(one is other for other in chosen)]:
            logger.warning("Not selected, so not scored: %s. Use --series to select others.", counted(left))
        parameters = {
            "pseudonymise": True,
            **self.wanted.parameters,
            "studies": files,
            "output_dir": str(self.wanted.output),
        }
        run_bundle(str(self.wanted.bundle), ["inference"], parameters)


def dicom_files(folder: Path) -> list[Path]:
    """DICOM images in a folder and its subfolders, including unreadable files.

    Raises:
        NomalyError: no DICOM image was found.
    """
    try:
        files = [Path(file) for item in find_studies(folder) for file in files_of(item)]
    except NomalyError:  # its text also mentions PNG and NIfTI
        files = []
    files = [file for file in files if may_be_dicom(file)]
    if not files:
        raise NomalyError(f"no DICOM images found in {folder}: give the folder of a study.")
    return files


def may_be_dicom(file: Path) -> bool:
    """Whether a file is DICOM or cannot be read, which is then reported in its row."""
    try:
        return is_dicom(file)
    except OSError:
        return True


def header_of(file: Path) -> FileDataset | None:
    """Header of a DICOM file; None if it cannot be read."""
    try:
        return read_header(file)[0] if scan_file(file) else None
    except Exception:  # pydicom raises any exception on a damaged file
        return None


def files_of_series(series: Sequence[DICOMSeries]) -> list[str]:
    """Paths of the files of series."""
    return [str(file.get_native_sop_instance().filename) for one in series for file in one.get_sop_instances()]


def counted(every_series: Sequence[DICOMSeries]) -> str:
    """Number of series of each modality."""
    headers = [one.get_sop_instances()[0].get_native_sop_instance() for one in every_series]
    counts = Counter(str(header.get("Modality") or "no modality") for header in headers)
    return ", ".join(f"{count} of {modality}" for modality, count in sorted(counts.items()))
