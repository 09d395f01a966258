"""The results folder of a run over studies: table, maps, report."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from custom.calibration.conformal import minimum_n
from custom.calibration.decision import DecisionRule
from custom.errors import NomalyError
from custom.metrics.study_evaluation import StudyEvaluation
from custom.metrics.table import table_markdown
from custom.metrics.verdicts import floor_sentence, promise_sentence
from custom.networks.weights import model_hash
from custom.reporting.case_view import CaseView, case_view
from custom.reporting.files import atomic_write
from custom.reporting.lesions import study_lesions
from custom.reporting.report import write_report
from custom.reporting.results import LesionResult, StudyResult, write_lesions_csv, write_results_csv, write_run_info
from custom.transforms.source_geometry import write_study_outputs

logger = logging.getLogger(__name__)

RUN_FILES = ("results.csv", "lesions.csv", "metrics.json", "metrics.md", "report.html")


class ResultsFolder:
    """Write ``results.csv``, ``lesions.csv``, ``run.json``, ``report.html`` and, for each study, map, mask and
    pseudo-healthy image.

    Maps lie on the source's own grid: a NIfTI volume gives NIfTI of equal affine and shape, a picture a picture of
    equal size. With ``evaluation`` also ``metrics.json`` and ``metrics.md``.

    Args:
        output_dir: folder of the run.
        network: the detector that is run.
        title: of the report.
        notes: what must be said loudly, such as that data are synthetic; empty ones are left out.
        alpha: false-alarm rate of the decisions; None = as calibrated.
        info: what else ``run.json`` shall tell.
        evaluation: accumulates the metrics; None if the truth is not known.
        write_images: whether maps are written.
        overwrite: whether results that are there may be replaced.

    Raises:
        NomalyError: when the run starts, if the folder has results and ``overwrite`` is false.
    """

    def __init__(
        self,
        output_dir: str,
        network: nn.Module,
        title: str,
        notes: Sequence[str | None] = (),
        alpha: float | None = None,
        info: dict[str, Any] | None = None,
        evaluation: StudyEvaluation | None = None,
        write_images: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(output_dir)
        self.network = network
        self.title = title
        self.notes = [note for note in notes if note]
        self.alpha = alpha
        self.info = info or {}
        self.evaluation = evaluation
        self.write_images = write_images
        self.overwrite = overwrite
        self.rows: list[StudyResult] = []
        self.lesions: dict[str, list[LesionResult]] = {}
        self.views: dict[str, CaseView] = {}

    @property
    def threshold(self) -> float | None:
        """Map value above which a pixel belongs to a lesion; None if not calibrated."""
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

    def start(self, engine: Engine) -> None:
        """Refuse to write over earlier results."""
        self.rows, self.lesions, self.views = [], {}, {}
        if (self.folder / "results.csv").exists() and not self.overwrite:
            raise NomalyError(
                f"output_dir {self.folder} must not hold results, but has results.csv: give another output_dir, "
                "or overwrite true."
            )
        if self.folder.is_dir():
            for name in RUN_FILES:  # nothing of an earlier run may stand beside this one
                (self.folder / name).unlink(missing_ok=True)
        # Written now and again at the end: a folder that cannot be written to shall be known before the work.
        write_run_info(self.folder / "run.json", self._run_info())
        if self.evaluation is not None:
            self.evaluation.start()
        if not self.network.calibration.is_calibrated:
            logger.warning("The detector is not calibrated: no p-values, decisions, masks. Run nomaly calibrate first.")

    def add(self, engine: Engine) -> None:
        """Take in one study."""
        for study in engine.state.output:
            lesions = [] if self.threshold is None or "error" in study else study_lesions(study)
            try:
                row = self._row(study, lesions)
                if self.evaluation is not None and row.status == "ok":
                    self.evaluation.add(study)
            except (NomalyError, OSError) as error:  # for example a full disk: the row tells it
                row = failed_row({**study, "error": str(error)})
            self.rows.append(row)
            if row.status == "failed" and self.evaluation is not None:
                self.evaluation.fail(study)
            if row.status == "ok":
                self.lesions[row.study] = lesions
                self.views[row.study] = self._view(study)

    def finish(self, engine: Engine) -> None:
        """Write table, run information, metrics and report."""
        write_results_csv(self.rows, self.folder / "results.csv")
        if self.threshold is not None:
            found = [lesion for lesions in self.lesions.values() for lesion in lesions]
            write_lesions_csv(found, self.folder / "lesions.csv")
        run = write_run_info(self.folder / "run.json", self._run_info())
        evaluation = self.evaluation.result() if self.evaluation is not None and self.views else None
        if evaluation is not None:
            self._write_metrics(evaluation)
        calibration = self.network.calibration
        write_report(
            self.folder / "report.html",
            self.title,
            self.notes,
            run,
            self.rows,
            self.views,
            evaluation,
            lesions=self.lesions,
            alpha=self.rule.alpha,
            healthy_scores=calibration.healthy_scores.tolist() if calibration.is_calibrated else None,
        )
        logger.info("%s: %s", outcome(self.rows), self.folder / "report.html")

    def _row(self, study: dict[str, Any], lesions: list[LesionResult]) -> StudyResult:
        """Row of a study, whose images are written on the way."""
        if "error" in study:
            return failed_row(study)
        row = StudyResult(
            study=study["case"],
            score=study["score"],
            p_value=study["p_value"],
            decision=study["decision"],
            group=study["calibration_group"],
            seconds=study["seconds"],
            note=study["note"],
        )
        if self.threshold is not None:
            row.lesion_count = len(lesions)
            row.lesion_volume = sum(lesion.size for lesion in lesions)
            row.lesion_unit = lesions[0].unit if lesions else None
        if self.write_images:
            write_study_outputs(self.folder / row.study, study["image"], self._volumes(study))
        return row

    def _volumes(self, study: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Images to write by name."""
        volumes = {"map": study["pred"], "pseudo_healthy": study["reconstruction"]}
        if "deviation" in study:
            volumes["deviation"] = study["deviation"]
        if self.threshold is not None:
            volumes["mask"] = (study["regions"] > 0).float()
        return volumes

    def _view(self, study: dict[str, Any]) -> CaseView:
        """Layers of the study for the report, with the truth where it is known."""
        # Of a calibrated detector all pictures have one scale, so that they can be compared; strong maps saturate.
        vmax = None if self.threshold is None else 3 * self.threshold
        truth = study["mask"] if study.get("label") and "mask" in study else None
        parts = (study["image"], study["reconstruction"], study["pred"])
        # The network's grid may be stretched; the picture shall not be.
        return case_view(*parts, study.get("regions"), truth, vmax, spacing=study["image"].pixdim[:2].tolist())

    def _run_info(self) -> dict[str, Any]:
        """What ``run.json`` and the report's end tell of the run."""
        calibration = self.network.calibration
        return {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": shlex.join(sys.argv),
            **self.info,
            "decision_rule": asdict(self.rule),
            "model_hash": model_hash(self.network),
            "calibration": {
                "healthy_studies": len(calibration.healthy_scores),
                "pixel_threshold": self.threshold,
                "pixel_false_positive_rate": float(calibration.pixel_false_positive_rate),
                "minimum_region": int(calibration.minimum_region),
                "false_regions_per_study": float(calibration.false_regions_per_study),
                "groups": {name: calibration.healthy_count(name) for name in calibration.group_names},
                "least_studies_for_alpha": minimum_n(self.rule.alpha, self.rule.confidence),
            },
            "notes": self.notes,
        }

    def _write_metrics(self, evaluation: dict[str, Any]) -> None:
        with atomic_write(self.folder / "metrics.json") as file:
            json.dump(evaluation, file, indent=2)
        text = table_markdown(evaluation)
        with atomic_write(self.folder / "metrics.md") as file:
            file.write(text + "\n")
        logger.info("%s\n%s", floor_sentence(evaluation), text)
        if promise := promise_sentence(evaluation):
            logger.warning(promise)


def outcome(rows: Sequence[StudyResult]) -> str:
    """How many studies came to which end."""
    states = ["failed" if row.status == "failed" else row.decision or "no decision" for row in rows]
    counts = [f"{states.count(state)} {state.replace('_', ' ')}" for state in dict.fromkeys(states)]
    return f"{len(rows)} {'study' if len(rows) == 1 else 'studies'} ({', '.join(counts)})" if rows else "No study"


def failed_row(study: dict[str, Any]) -> StudyResult:
    """Row of a study that could not be done."""
    return StudyResult(study=study["case"], status="failed", seconds=study.get("seconds"), error=study["error"])
