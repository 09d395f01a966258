"""The results folder of a run over studies: records, tables, maps, report."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from custom import __version__
from custom.calibration.decision import DecisionRule
from custom.errors import NomalyError
from custom.files import atomic_write
from custom.metrics.records import Evaluation
from custom.metrics.study_evaluation import StudyEvaluation
from custom.metrics.table import table_markdown
from custom.metrics.verdicts import baseline_sentence, false_alarm_sentence
from custom.processes import is_main_process, wait_for_all
from custom.reporting.report import write_report
from custom.reporting.worklist import worklist_key
from custom.runs.folder import RunFolder
from custom.runs.info import fingerprint, run_info
from custom.runs.notes import WEIGHTS
from custom.runs.records import StudyRecord, source_digest
from custom.runs.study_outputs import StudyOutputs, failed_row
from custom.runs.tables import StudyResult, write_regions_csv, write_results_csv, write_run_info

logger = logging.getLogger(__name__)

MOST_VIEWS = 1000  # more cases than that would not fit into the report, whatever their size


class ResultsFolder:
    """Write ``results.csv``, ``regions.csv``, ``run.json``, ``report.html`` and, for each study, map, mask and
    pseudo-healthy image, for DICOM studies DICOM objects as well.

    Maps lie on the source's own grid: a NIfTI volume gives NIfTI of equal affine and shape, a picture a picture of
    equal size. With ``evaluation`` also ``metrics.json`` and ``metrics.md``. What was found in a study is on the disk
    before the next one is begun, so that a stopped run can go on (``resume``); several processes that share the folder
    may each do a part of the studies, the first one then makes the tables of all.

    Args:
        output_dir: folder of the run.
        network: the detector that is run.
        title: of the report.
        items: all studies of the run, in the order of the table, also those that an earlier process has done.
        notes: what must be said loudly, such as that data are synthetic; empty ones are left out.
        alpha: false-alarm rate of the decisions; None = as calibrated.
        info: what else ``run.json`` shall tell.
        evaluation: accumulates the metrics; None if the truth is not known. Such a run cannot be resumed.
        write_images: whether maps are written.
        write_dicom: whether DICOM studies get DICOM objects.
        overwrite: whether results that are there may be replaced.
        resume: whether results that are there are gone on with.
        private_words: what ``run.json`` must not tell of the command: the studies as the user named them.

    Raises:
        NomalyError: when the run starts, if the folder has results and neither ``overwrite`` nor ``resume`` is set, or
            those to be gone on with are of another run; when the disk is full.
    """

    def __init__(
        self,
        output_dir: str,
        network: nn.Module,
        title: str,
        items: Sequence[dict[str, Any]],
        notes: Sequence[str | None] = (),
        alpha: float | None = None,
        info: dict[str, Any] | None = None,
        evaluation: StudyEvaluation | None = None,
        write_images: bool = True,
        write_dicom: bool = True,
        overwrite: bool = False,
        resume: bool = False,
        private_words: str | Sequence[str] | None = None,
    ) -> None:
        self.run = RunFolder(output_dir, items, overwrite, resume, resumable=evaluation is None)
        self.network = network
        self.title = title
        self.notes = [note for note in notes if note]
        self.alpha = alpha
        self.info = info or {}
        self.evaluation = evaluation
        self.write_images = write_images
        self.write_dicom = write_dicom
        self.private_words = private_words

    @property
    def folder(self) -> Path:
        """Where the results are written."""
        return self.run.folder

    @property
    def threshold(self) -> float | None:
        """Map value above which a pixel belongs to a region; None if not calibrated."""
        calibration = self.network.calibration
        return float(calibration.pixel_threshold) if calibration.is_calibrated else None

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

    def start(self, engine: Engine) -> None:
        """Refuse to write over earlier results; begin the folder."""
        run = run_info(self.network, self.rule, self.info, self.notes, self.private_words)
        outputs = {"images": self.write_images, "dicom": self.write_dicom, "names": not self.run.private}
        run["fingerprint"] = {**fingerprint(engine, self.network, self.rule), "outputs": outputs}
        self.run.check(run["fingerprint"])
        wait_for_all()
        if is_main_process():
            # Written now and again at the end: a folder that cannot be written to shall be known before the work.
            self.run.begin(run)
        wait_for_all()
        self.information = run
        maker = {"nomaly": __version__, "bundle": run.get("bundle", "detector"), "alpha": self.rule.alpha}
        maker["model_hash"] = run["model_hash"]
        remark = WEIGHTS if WEIGHTS in self.notes else ""
        self.outputs = StudyOutputs(self.folder, self.threshold, self.write_images, self.write_dicom, maker, remark)
        for note in self.notes if is_main_process() else ():
            logger.warning(note)
        if self.evaluation is not None:
            self.evaluation.start()
        if not self.network.calibration.is_calibrated and is_main_process():
            logger.warning("The detector is not calibrated: no p-values, decisions, masks. Run nomaly calibrate first.")

    def add(self, engine: Engine) -> None:
        """Take in some studies."""
        for study in engine.state.output:
            record = self.outputs.make(study)
            if self.evaluation is not None:
                record = self._evaluated(study, record)
            record.source = source_digest(study["source"])
            self.run.records.write(record)

    def finish(self, engine: Engine) -> None:
        """Write tables, run information, metrics and report of all studies."""
        wait_for_all()
        if is_main_process():
            self._finish()
        wait_for_all()

    def stop(self, engine: Engine, error: BaseException) -> None:
        """Let others go on."""
        self.run.release()
        raise error

    def _evaluated(self, study: dict[str, Any], record: StudyRecord) -> StudyRecord:
        """The record of a study after the metrics have taken it in."""
        try:
            if record.result.status == "ok":
                self.evaluation.add(study)
        except NomalyError as error:
            record = StudyRecord(failed_row({**study, "error": str(error)}), [])
        if record.result.status != "ok":
            self.evaluation.fail(study)
        return record

    def _finish(self) -> None:
        """Write what tells of all studies."""
        rows, regions = self.run.gather()
        write_results_csv(rows, self.folder / "results.csv")
        if self.threshold is not None:
            write_regions_csv([row for found in regions.values() for row in found], self.folder / "regions.csv")
        run = write_run_info(self.folder / "run.json", self.information)
        scored = any(row.status == "ok" for row in rows)
        evaluation = self.evaluation.result() if self.evaluation is not None and scored else None
        if evaluation is not None:
            self._write_metrics(evaluation)
        calibration = self.network.calibration
        write_report(
            self.folder / "report.html",
            self.title,
            self.notes,
            run,
            rows,
            self.run.views([row.study for row in sorted(rows, key=worklist_key)][:MOST_VIEWS]),
            evaluation,
            regions=regions,
            alpha=self.rule.alpha,
            healthy_scores=calibration.healthy_scores.tolist() if calibration.is_calibrated else None,
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
        if promise := false_alarm_sentence(evaluation):
            logger.warning(promise)


def outcome(rows: Sequence[StudyResult]) -> str:
    """How many studies came to which end."""
    states = [row.decision or "no decision" if row.status == "ok" else row.status for row in rows]
    counts = [f"{states.count(state)} {state.replace('_', ' ')}" for state in dict.fromkeys(states)]
    return f"{len(rows)} {'study' if len(rows) == 1 else 'studies'} ({', '.join(counts)})" if rows else "No study"
