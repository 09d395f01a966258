"""A bundle's detector kept in memory: what the Python package and the MONAI Label server score studies with."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from custom import __version__
from custom.calibration.by_kind import Calibrations
from custom.commands.bundle import check_overrides, path_of
from custom.commands.from_weights import parameters_from_weights
from custom.data.study_loader import StudyDataset
from custom.detector.weights import model_hash
from custom.engines.detection_evaluator import DetectionEvaluator
from custom.errors import NomalyError, find_mistake, root_cause
from custom.handlers.engine_output import studies_of
from custom.handlers.results import ResultsFolder
from custom.runs.notes import data_notes
from custom.runs.study_outputs import joined, remarks
from custom.studies.items import Study, StudyItem

# The evaluator is given one study at a time and writes nothing; with one study per batch, scores are those of nomaly
# detect, bit for bit.
FIXED: dict[str, Any] = {
    "studies": [],
    "items": [],
    "pending": [{"image": ""}],
    "evaluator#val_handlers": [],
    "num_workers": 0,
    "studies_per_batch": 1,
}


class BundleDetector:
    """Score studies with a bundle's ``inference.json``: the same parts as ``nomaly detect``, built once.

    Args:
        bundle: folder of the bundle.
        weights: its model.pt.
        overlays: names of configs merged over ``inference.json``, such as inference_3d.
        parameters: other parameters of the config; those that the weights were made with need not be given.

    Raises:
        NomalyError: if the weights are missing, broken or for another network, a parameter is unknown or has the wrong
            type, or the configs belong to another release.
    """

    def __init__(
        self, bundle: str | PathLike, weights: str | PathLike, overlays: Sequence[str] = (), **parameters: Any
    ) -> None:
        folder = Path(bundle)
        self.bundle = folder.name
        self.weights = str(weights)
        self.parser = ConfigParser()
        try:
            self.metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
            files = [str(path_of(folder, name)) for name in ("inference", *overlays)]
            config = ConfigParser.load_config_files(files)
            check_overrides(config, parameters)
            own = {**parameters, "bundle_root": str(folder), "weights": self.weights, **FIXED}
            self.parser.read_config(config)
            self.parser.update({**parameters_from_weights(folder, files, own), **own})
            with own_random_state():
                self.parser.get_parsed_content("initialize")
                self.evaluator: DetectionEvaluator = self.parser.get_parsed_content("evaluator")
                self.dataset: StudyDataset = self.parser.get_parsed_content("dataset")
        except Exception as error:  # MONAI wraps a component's error in its own
            if mistake := find_mistake(error):
                raise mistake from error
            raise NomalyError(
                f"bundle {folder} must be for Nomaly {__version__}, but its configs cannot be used "
                f"({root_cause(error)}): download it again, or use it with the release it was made with."
            ) from error
        self.names = frozenset(config)
        self.dimension = 3 if "axcodes" in config else 2  # only volumes are reoriented before scoring
        self.warnings = data_notes(None, [], self.weights)
        self.model_hash = model_hash(self.evaluator.network)
        self._one_at_a_time = threading.Lock()

    def parameter(self, name: str, default: Any = None) -> Any:
        """Value of a parameter of the config; the default where the config has no such parameter."""
        return self.parser.get_parsed_content(name) if name in self.names else default

    @property
    def calibration(self) -> Calibrations:
        """Its calibrations, one for each kind of study."""
        return self.evaluator.detector.calibration

    @property
    def alpha(self) -> float:
        """False-alarm rate of its decisions: regions with a p-value at or below it are findings."""
        return self.evaluator.decision_rule.alpha

    def process(self, item: StudyItem) -> Study:
        """Score a study as ``nomaly detect`` does; a study that failed has ``error``, a rejected one no ``score``."""
        with self._one_at_a_time:
            # The evaluator keeps the results of the last run only.
            self.dataset.data = [item]
            self.evaluator.run()
            [study] = studies_of(self.evaluator)
            self.evaluator.state.output = None
        return study

    def score_study(self, item: StudyItem) -> Study:
        """Score a study as ``nomaly detect`` does.

        Raises:
            NomalyError: if it failed or was rejected by the input check.
        """
        study = self.process(item)
        if "error" in study:
            raise NomalyError(study["error"])
        if "score" not in study:
            raise NomalyError(rejection(study))
        return study

    def write(
        self, studies: Sequence[Study], folder: str | PathLike, overwrite: bool = False, slicer: bool = False
    ) -> None:
        """Write the results of studies as ``nomaly detect`` writes its results folder.

        Args:
            studies: from `process`, of this detector.
            folder: for tables, report and one folder per study.
            overwrite: whether earlier results in it may be replaced.
            slicer: whether studies with geometry get a scene for 3D Slicer.

        Raises:
            NomalyError: if the folder contains results, or cannot be written.
        """
        items = [item_of(study) for study in studies]
        notes = data_notes(None, items, self.weights)
        results = self._results_folder().elsewhere(str(folder), items, notes, overwrite, slicer)
        with self._one_at_a_time, self._stopping(results):
            engine: Any = self.evaluator  # ignite declares its output as a number
            results.start(engine)
            for study in studies:
                engine.state.output = [study]
                results.add(engine)
            results.finish(engine)
            engine.state.output = None

    def _results_folder(self) -> ResultsFolder:
        """The results folder that the config describes."""
        for index, handler in enumerate(self.parser["handlers"]):
            if handler["_target_"].endswith(ResultsFolder.__name__):
                return self.parser.get_parsed_content(f"handlers#{index}")
        raise NomalyError(f"bundle {self.bundle} must have a ResultsFolder among its handlers, but has none: add it.")

    @staticmethod
    @contextmanager
    def _stopping(results: ResultsFolder) -> Iterator[None]:
        """Unlock the folder after an error."""
        try:
            yield
        finally:
            results.run.release()


def item_of(study: Study) -> StudyItem:
    """The listed study behind a processed one."""
    item: StudyItem = {"image": study["source"], "case": study["case"], "private": study.get("private", False)}
    return item


def rejection(study: Study) -> str:
    """Why the input check rejected a study, in one sentence."""
    return f"Not assessable: {'; '.join(study['refusals'])}."


def note_of(study: Study, *first: str) -> str:
    """The remarks on a study that was scored, as in the table of ``nomaly detect``, after those given."""
    return joined(*first, study["note"], *remarks(study))


@contextmanager
def own_random_state() -> Iterator[None]:
    """Leave the caller's random numbers as they were: building a network and the seed of the config change them."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
