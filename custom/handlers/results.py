"""The output folder of a run over studies: records, tables, maps, report."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from custom import __version__
from custom.calibration.decision import DecisionRule
from custom.detector.anomaly_detector import AnomalyDetector
from custom.errors import NomalyError
from custom.files import atomic_write
from custom.handlers.engine_output import studies_of
from custom.metrics.records import Evaluation
from custom.metrics.study_evaluation import StudyEvaluation
from custom.metrics.table import table_markdown
from custom.metrics.verdicts import baseline_sentence, false_alarm_sentence
from custom.processes import is_main_process, wait_for_all
from custom.reporting.report import write_report
from custom.reporting.worklist import worklist_key
from custom.runs.background import Background
from custom.runs.folder import RunFolder
from custom.runs.info import Evaluator, fingerprint, run_info
from custom.runs.notes import WEIGHTS
from custom.runs.records import StudyRecord, source_digest
from custom.runs.regions import significant
from custom.runs.study_outputs import StudyOutputs, failed_row
from custom.runs.tables import StudyResult, write_regions_csv, write_results_csv, write_run_info
from custom.studies.items import Study, StudyItem

logger = logging.getLogger(__name__)

MOST_VIEWS = 1000  # images of more cases would not fit into the report, whatever their size


class ResultsFolder:
    """Write ``results.csv``, ``regions.csv``, ``run.json``, ``report.html`` and, for each study, map, mask and
    pseudo-healthy image; for DICOM studies also DICOM objects.

    Maps are on the grid of the source file: a NIfTI volume gives NIfTI of equal affine and shape, a 2-D image one of
    equal size. With ``evaluation`` also ``metrics.json`` and ``metrics.md``. The results of a study are written in the
    background while the next ones are scored, each completely or not at all, so that a stopped run can be resumed.
    Several processes that share the folder may each process a part of the studies; the first one then writes the tables
    of all.

    Args:
        output_dir: output folder of the run.
        network: the detector.
        title: title of the report.
        items: all studies of the run, in the order of the table, including those that are already done.
        notes: warnings for log and report, such as that the data are synthetic; empty ones are ignored.
        alpha: target false-alarm rate of the decisions; None = as calibrated.
        info: further entries of ``run.json``.
        evaluation: accumulates the metrics; such a run cannot be resumed. None if the truth is unknown.
        write_images: whether maps are written.
        write_dicom: whether DICOM studies get DICOM objects.
        slicer: whether studies with geometry get a scene for 3D Slicer.
        overwrite: whether existing results may be replaced.
        resume: whether the run of existing results is continued.
        private_words: studies as the user named them, which ``run.json`` must not show in the command.

    Raises:
        NomalyError: if ``slicer`` is set without ``write_images``; when the run starts, if the folder contains results
            and neither ``overwrite`` nor ``resume`` is set, or the results to resume are from a different run; if the
            disk is full.
    """

    def __init__(
        self,
        output_dir: str,
        network: AnomalyDetector,
        title: str,
        items: Sequence[StudyItem],
        notes: Sequence[str | None] = (),
        alpha: float | None = None,
        info: dict[str, Any] | None = None,
        evaluation: StudyEvaluation | None = None,
        write_images: bool = True,
        write_dicom: bool = True,
        slicer: bool = False,
        overwrite: bool = False,
        resume: bool = False,
        private_words: str | Sequence[str] | None = None,
    ) -> None:
        if slicer and not write_images:
            raise NomalyError(
                "slicer needs write_images true, of which it shows the files: give true, or slicer false."
            )
        self.run = RunFolder(output_dir, items, overwrite, resume, evaluation is None, write_images)
        self.network = network
        self.title = title
        self.notes = [note for note in notes if note]
        self.alpha = alpha
        self.info = info or {}
        self.evaluation = evaluation
        self.write_images = write_images
        self.write_dicom = write_dicom
        self.slicer = slicer
        self.private_words = private_words

    def elsewhere(
        self, output_dir: str, items: Sequence[StudyItem], notes: Sequence[str], overwrite: bool, slicer: bool
    ) -> ResultsFolder:
        """A folder with otherwise the same settings for the results of other studies."""
        other = copy(self)
        other.slicer = slicer
        other.run = RunFolder(output_dir, items, overwrite, images=self.write_images)
        other.notes = list(notes)
        return other

    @property
    def folder(self) -> Path:
        """Output folder."""
        return self.run.folder

    @property
    def rule(self) -> DecisionRule:
        """How p-values become decisions in this run."""
        return self.network.calibration.decision_rule.at(self.alpha)

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.stop)

    def start(self, engine: Evaluator) -> None:
        """Check that the folder may be used, and prepare it."""
        run = run_info(self.network, self.rule, self.info, self.notes, self.private_words)
        outputs = {"images": self.write_images, "dicom": self.write_dicom, "names": not self.run.private}
        outputs |= {"slicer": True} if self.slicer else {}
        run["fingerprint"] = {**fingerprint(engine, self.network, self.rule), "outputs": outputs}
        run["files"] = self.run.files
        run["study_names"] = self.run.names
        self.run.check(run["fingerprint"])
        wait_for_all()
        if is_main_process():
            # Written now and again at the end: a folder without write permission is reported before the work.
            self.run.begin(run)
        wait_for_all()
        self.information = run
        maker = {"nomaly": __version__, "bundle": run.get("bundle", "detector"), "alpha": self.rule.alpha}
        maker["model_hash"] = run["model_hash"]
        remark = WEIGHTS if WEIGHTS in self.notes else ""
        self.writer = Background()
        self.outputs = StudyOutputs(self.folder, self.write_images, self.write_dicom, maker, remark, self.slicer)
        for note in self.notes if is_main_process() else ():
            logger.warning(note)
        if self.evaluation is not None:
            self.evaluation.start()
        if not self.network.calibration.is_calibrated and is_main_process():
            logger.warning(
                "The detector is not calibrated: no p-values, decisions or masks. Run nomaly calibrate first."
            )

    def add(self, engine: Engine) -> None:
        """Write the results of the studies of an iteration."""
        for study in studies_of(engine):
            self.writer.add(self.write, study)

    def write(self, study: Study) -> None:
        """Write the results of a study."""
        record = self.outputs.make(study)
        if self.evaluation is not None:
            record = _evaluated(self.evaluation, study, record)
        record.source = source_digest(study["source"])
        self.run.records.write(record)

    def finish(self, engine: Engine) -> None:
        """Write tables, run information, metrics and report of all studies."""
        self.writer.finish()
        wait_for_all()
        if is_main_process():
            self._finish()
        wait_for_all()

    def stop(self, engine: Engine, error: BaseException) -> None:
        """Unlock the folder after an error, once nothing is written any more."""
        if hasattr(self, "writer"):
            self.writer.stop()
        self.run.release()
        raise error

    def _finish(self) -> None:
        """Write the files about all studies."""
        rows, regions = self.run.gather()
        write_results_csv(rows, self.folder / "results.csv")
        if self.network.calibration.is_calibrated:
            write_regions_csv([row for found in regions.values() for row in found], self.folder / "regions.csv")
        run = write_run_info(self.folder / "run.json", self.information)
        scored = any(row.status == "ok" for row in rows)
        evaluation = self.evaluation.result() if self.evaluation is not None and scored else None
        if evaluation is not None:
            self._write_metrics(evaluation)
        calibrated = self.network.calibration.calibrated
        write_report(
            self.folder / "report.html",
            self.title,
            self.notes,
            run,
            rows,
            self.run.views([row.study for row in sorted(rows, key=worklist_key)][:MOST_VIEWS]),
            evaluation,
            regions={case: significant(found, self.rule.alpha) for case, found in regions.items()},
            alpha=self.rule.alpha,
            healthy_scores={kind: state.healthy_scores.tolist() for kind, state in calibrated.items()},
        )
        self.run.end()
        logger.info("%s: %s", outcome(rows), self.folder / "report.html")

    def _write_metrics(self, evaluation: Evaluation) -> None:
        with atomic_write(self.folder / "metrics.json") as file:
            json.dump(evaluation, file, indent=2)
        text = table_markdown(evaluation)
        with atomic_write(self.folder / "metrics.md") as file:
            file.write(text + "\n")
        logger.info("%s\n%s", baseline_sentence(evaluation), text)
        if sentence := false_alarm_sentence(evaluation):
            logger.warning(sentence)


def _evaluated(evaluation: StudyEvaluation, study: Study, record: StudyRecord) -> StudyRecord:
    """The record of a study after it was added to the metrics; a failed one if that is not possible."""
    try:
        if record.result.status == "ok":
            evaluation.add(study)
    except NomalyError as error:
        record = StudyRecord(failed_row({**study, "error": str(error)}), [])
    if record.result.status != "ok":
        evaluation.fail(study)
    return record


def outcome(rows: Sequence[StudyResult]) -> str:
    """Number of studies, in total and by decision or status, in words."""
    states = [row.decision or "no decision" if row.status == "ok" else row.status for row in rows]
    counts = [f"{states.count(state)} {state.replace('_', ' ')}" for state in dict.fromkeys(states)]
    return f"{len(rows)} {'study' if len(rows) == 1 else 'studies'} ({', '.join(counts)})" if rows else "No studies"
