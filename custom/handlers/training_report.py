"""The report of a training: training.html, and its data beside the checkpoint."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from custom.data.slices import SliceDataset
from custom.handlers.engine_output import step_of
from custom.handlers.fit_statistics import FitStatistics
from custom.handlers.validation_log import ValidationLog
from custom.processes import is_main_process, world_and_rank
from custom.rendering.training_pictures import StudyPicture, study_picture
from custom.reporting.training_history import Epoch, FittedStatistics, TrainingHistory, Validation, read_history
from custom.reporting.training_page import Training, write_training_page
from custom.runs.notes import data_notes
from custom.scoring.part_statistics import PARTS
from custom.studies.items import Study, StudyItem
from custom.studies.kinds import KINDS, PLURALS

logger = logging.getLogger(__name__)

HEALTHY_PICTURES, LESION_PICTURES = 2, 1


class TrainingReport:
    """Record each epoch, and write the page about the training after each validation and at the end.

    Each epoch is recorded before the checkpoint is saved, so that a resumed training knows all epochs of its
    checkpoint; those that an interrupted run recorded beyond it are replaced. Attach this handler after those that
    validate, and before the checkpoint. Only the first of several processes writes.

    Args:
        path: of the page.
        history: of the records, one JSON line per epoch.
        title: of the page.
        bundle_root: folder of the bundle, whose configs/train.json has the defaults.
        dataset_dir: folder of the data set as the user gave it; None = the phantom.
        data_dir: folder of the data set.
        datalist: studies by section.
        weights: file of the chosen network.
        training: training slices.
        validation: keeps the studies of a validation and the errors of simple models.
        validator: evaluator of the validations.
        settings: parameters of the training by name.
        configuration: parameters that are stored with the weights.
        facts: further entries of the technical section.
    """

    def __init__(
        self,
        path: str,
        history: str,
        title: str,
        bundle_root: str,
        dataset_dir: str | None,
        data_dir: str,
        datalist: Mapping[str, Sequence[StudyItem]],
        weights: str,
        training: SliceDataset,
        validation: ValidationLog,
        validator: Engine,
        settings: Mapping[str, Any],
        configuration: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.history_file = Path(history)
        self.title = title
        self.bundle_root = bundle_root
        self.dataset_dir = dataset_dir
        self.data_dir = data_dir
        self.datalist = datalist
        self.weights = weights
        self.training = training
        self.validation = validation
        self.validator = validator
        self.settings = {**settings, **configuration.get("network", {}), **configuration.get("adjustable", {})}
        self.facts = facts or {}
        self.history: TrainingHistory | None = None
        self._images = 0
        self._started = self._ended = 0.0

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        self.trainer = engine
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        engine.add_event_handler(Events.COMPLETED, self.end)

    def start_epoch(self, engine: Engine) -> None:
        """Begin an epoch."""
        self._images, self._started = 0, time.perf_counter()

    def count(self, engine: Engine) -> None:
        """Count the images of a step."""
        self._images += len(step_of(engine)["image"])

    def end_epoch(self, engine: Engine) -> None:
        """Record the epoch; if it was validated, write the page."""
        if not is_main_process():
            return
        taken, number = time.perf_counter() - self._started, engine.state.epoch
        found = self._validated(number)
        epoch = Epoch(
            epoch=number,
            losses={name: float(value) for name, value in engine.state.metrics.items()},
            learning_rate=float(getattr(engine, "optimizer").param_groups[0]["lr"]),
            images=self._images * world_and_rank()[0],
            seconds=taken - (found.seconds if found else 0.0),
            phase=getattr(engine, "phase", None),
            validation=found,
        )
        history = self._known()
        history.add(epoch)
        history.write(self.history_file)
        if found is not None:
            self.write(history, finished=False)

    def end(self, engine: Engine) -> None:
        """Note when the training ended, and the fit of the statistics began."""
        self._ended = time.perf_counter()

    def finish(self, fit: FitStatistics) -> None:
        """Write the page about the finished training, with the statistics of healthy studies.

        A training that had nothing to do keeps what an earlier call recorded.
        """
        if not is_main_process():
            return
        history = self._known()
        history.cut(self.trainer.state.epoch)
        if not history.epochs:
            return
        known = history.fitted
        if known is None or fit.fitted or (fit.missing and fit.missing != list(known.missing)):
            history.fitted = fitted_statistics(fit, time.perf_counter() - self._ended)
            history.write(self.history_file)
        self.write(history, finished=True)
        logger.info("Report of the training: %s", self.path)

    def write(self, history: TrainingHistory, finished: bool) -> None:
        """Write the page."""
        items = [item for section in self.datalist.values() for item in section]
        notes = data_notes(self.data_dir, items)
        if history.epochs[0].epoch > 1:
            notes.append(f"Epochs 1 to {history.epochs[0].epoch - 1} were not recorded: these curves begin later.")
        facts = {**self.facts, "processes": world_and_rank()[0], "data of this page": str(self.history_file)}
        training = Training(
            title=self.title,
            bundle=self.bundle_root,
            dataset_dir=self.dataset_dir,
            weights=self.weights,
            max_epochs=self.trainer.state.max_epochs or 0,
            settings=self.settings,
            defaults=self._defaults(),
            sections={
                name: (len(section), sum(not item.get("label") for item in section))
                for name, section in self.datalist.items()
            },
            slices=len(self.training),
            notes=notes,
            facts=facts,
        )
        write_training_page(self.path, training, history, finished)

    def _known(self) -> TrainingHistory:
        """The history, which an earlier run may have begun."""
        if self.history is None:
            self.history = read_history(self.history_file)
        return self.history

    def _validated(self, epoch: int) -> Validation | None:
        """The validation of this epoch; None if it was not validated."""
        state = self.validator.state
        if state.epoch != epoch or "synthetic_auroc" not in state.metrics:
            return None
        return Validation(
            auroc=float(state.metrics["synthetic_auroc"]),
            healthy_error=float(state.metrics["healthy_error"]),
            references=dict(self.validation.references),
            seconds=float(state.times[Events.COMPLETED.name] or 0),
            pictures=pictures(self.validation.shown),
        )

    def _defaults(self) -> Mapping[str, Any]:
        """Parameters of the bundle; those of this training if they are not known."""
        try:
            return json.loads((Path(self.bundle_root) / "configs" / "train.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return self.settings


def pictures(studies: Sequence[Study]) -> list[StudyPicture]:
    """Pictures of the first healthy studies and of the first ones with a lesion."""
    healthy = [study for study in studies if not study.get("label")][:HEALTHY_PICTURES]
    return [study_picture(study) for study in healthy + [s for s in studies if s.get("label")][:LESION_PICTURES]]


def fitted_statistics(fit: FitStatistics, seconds: float) -> FittedStatistics:
    """What was fitted to a network, from its buffers."""
    network = fit.network
    counts = [int(part.images) for part in network.fitted_parts]
    statistics = network.part_statistics
    optional = {"code": network.code_distance, "patches": network.patch_distance}
    used = [(column, name) for column, name in enumerate(PARTS) if optional.get(name, statistics) is not None]
    parts = {
        PLURALS[kind]: {
            "studies": int(statistics.studies[index]),
            "mean": {name: float(statistics.mean[index, column]) for column, name in used},
            "deviation": {name: float(statistics.std[index, column]) for column, name in used},
        }
        for index, kind in enumerate(KINDS)
        if int(statistics.studies[index])
    }
    return FittedStatistics(max(counts, default=0), parts, list(fit.missing), seconds)
