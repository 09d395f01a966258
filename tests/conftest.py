"""Shared by all tests: the command line in this process, tiny phantoms, and bundles trained on them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from PIL import Image
from torch import nn

from custom import cli
from custom.calibration.by_kind import Calibrations
from custom.commands.bundle import BUNDLES
from custom.data.study_loader import StudyDataset, StudyLoader
from custom.detector.configuration import Configuration
from custom.engines.detection_evaluator import DetectionEvaluator
from custom.inferers.slices import SliceWiseInferer
from custom.scoring.score import StudyScore
from custom.synthetic.dataset import make_phantom
from tiny import ALPHA_OF_FINDINGS, TINY_NETWORK, TINY_TRAINING

pytest_plugins = ["study_files"]

# The five healthy validation studies of a tiny phantom are enough for this alpha; masks at these rates are never empty.
CALIBRATION = {"alpha": 0.2, "pixel_false_positive_rate": 0.2, "false_regions_per_study": 1000}
SECTIONS = {"num_training": 4, "num_validation": 5, "num_calibration": 0, "num_test_healthy": 4, "num_test_abnormal": 4}
TINY_GEOMETRY = {
    "head": {"shape": (30, 36, 28), "spacing": (6.0, 6.0, 6.0)},
    "colon": {"size": 32},
    "chest": {"size": 32},
    "wrist": {"size": 32},
}


@dataclass
class Outcome:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def untouched_process() -> Iterator[None]:
    """Undo what a workflow does to its process: handlers and levels of loggers, warnings, the import path."""
    loggers = [logging.getLogger(name) for name in (None, "ignite", "monai")]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    path = list(sys.path)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.captureWarnings(False)
        sys.path[:] = path
        for logger, (level, handlers, propagate) in zip(loggers, before):
            logger.level, logger.handlers, logger.propagate = level, handlers, propagate
            logger.manager._clear_cache()


def method_of(bundle: str) -> str:
    """Method of a bundle."""
    return json.loads((BUNDLES / bundle / "variant.json").read_text())["method"]


def anatomy_of(bundle: str) -> str:
    """What a bundle's images show."""
    return json.loads((BUNDLES / bundle / "configs" / "train.json").read_text())["anatomy"]


def words_of(parameters: dict) -> list[str]:
    """Parameters as a user writes them."""
    return [word for name, value in parameters.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def quiet_process() -> Iterator[None]:
    """For tests that make workflows themselves."""
    with untouched_process():
        yield


@pytest.fixture(scope="session")
def nomaly() -> Callable[..., Outcome]:
    """Run a command of the command line in this process: words, then parameters."""

    def run(*words: str | Path, **parameters) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with untouched_process(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main([*map(str, words), *words_of(parameters)])
        return Outcome(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A data set of seventeen coarse synthetic studies of a bundle's anatomy."""

    @functools.cache
    def folder(anatomy: str) -> Path:
        path = tmp_path_factory.mktemp("phantom") / anatomy
        return Path(make_phantom(path, anatomy, **SECTIONS, **TINY_GEOMETRY[anatomy]))

    return lambda bundle: folder(anatomy_of(bundle))


@pytest.fixture(scope="session")
def tiny_phantom(tiny_data) -> Path:
    """A data set of seventeen coarse synthetic heads."""
    return tiny_data("ra_brain")


@pytest.fixture(scope="session")
def tiny_images(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of PNG images: the middle slices of the tiny phantom's heads, 30 x 36 pixels."""
    folder = tmp_path_factory.mktemp("images")
    datalist = json.loads((tiny_phantom / "datalist.json").read_text())
    for item in (item for items in datalist.values() for item in items):
        volume = nib.load(tiny_phantom / item["image"]).get_fdata()
        name = Path(item["image"]).name.replace(".nii.gz", ".png")
        Image.fromarray((volume[..., volume.shape[2] // 2] / 4).astype(np.uint8).T).save(folder / name)
        item["image"] = name
        item.pop("mask", None)
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


@pytest.fixture(scope="session")
def tiny_network() -> Callable[[str], dict]:
    """Parameters of the smallest network of a bundle."""

    def parameters(bundle: str) -> dict:
        own_size = {"frame_size": None} if anatomy_of(bundle) == "colon" else {}
        return TINY_NETWORK[method_of(bundle)] | own_size

    return parameters


@pytest.fixture(scope="session")
def train_tiny(nomaly, tiny_network) -> Callable[..., Outcome]:
    """Train the smallest network of a bundle into a folder, which then holds models/ and train/."""

    def train(bundle: str, dataset_dir: Path, output: Path, **parameters) -> Outcome:
        parameters = tiny_network(bundle) | TINY_TRAINING | parameters
        return nomaly("train", bundle, "--dataset_dir", dataset_dir, "--output", output, **parameters)

    return train


@pytest.fixture(scope="session")
def trained(nomaly, train_tiny, tiny_network, tiny_data, tmp_path_factory) -> Callable[[str], Path]:
    """Folder of a bundle that is trained and calibrated on its tiny phantom; copy it before you change it."""

    @functools.cache
    def folder(bundle: str) -> Path:
        output = tmp_path_factory.mktemp(bundle)
        assert train_tiny(bundle, tiny_data(bundle), output).code == 0
        weights = output / "models" / "model.pt"
        source = weights.rename(weights.with_name("uncalibrated.pt"))
        words = ("--dataset_dir", tiny_data(bundle), "--weights", source, "--into_weights", weights)
        assert nomaly("calibrate", bundle, *words, **CALIBRATION, **tiny_network(bundle)).code == 0
        return output

    return folder


@pytest.fixture(scope="session")
def tiny_bundle(trained, tiny_network) -> Callable[[str, Path], Path]:
    """Copy a bundle to a folder, with its tiny network and the weights of that, its input check off and findings."""

    def copy(bundle: str, folder: Path) -> Path:
        shutil.copytree(BUNDLES / bundle / "configs", folder / "configs")
        inference = folder / "configs" / "inference.json"
        settings = {"input_check": False, "alpha": ALPHA_OF_FINDINGS}
        inference.write_text(json.dumps(json.loads(inference.read_text()) | tiny_network(bundle) | settings))
        shutil.copytree(trained(bundle) / "models", folder / "models")
        return folder

    return copy


class GreyDetector(nn.Module):
    """A detector whose answers are known by hand: health is mid grey, the map is |x - 0.5|."""

    outputs = ("map", "reconstruction")

    code_distance = None

    def __init__(self) -> None:
        super().__init__()
        self.calibration = Calibrations()
        self.configuration = Configuration()

    def predict(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (x - 0.5).abs().mean(1, keepdim=True), torch.full_like(x, 0.5)


@pytest.fixture
def grey_detector() -> GreyDetector:
    """A detector without calibration that finds mid grey healthy."""
    return GreyDetector()


@pytest.fixture
def run_grey(grey_detector: GreyDetector) -> Callable[..., tuple[DetectionEvaluator, list[dict]]]:
    """Run the grey detector on items, each with ``image`` (1, X, Y, Z): gives the evaluator and its output by study."""

    def run(items: list[dict], transform=lambda item: item, score=None, **settings):
        outputs: list[dict] = []
        parts = {"val_data_loader": StudyLoader(StudyDataset(items, transform)), "inferer": SliceWiseInferer()}
        settings = parts | {"network": grey_detector, "val_handlers": [], "alpha": 0.2} | settings
        score = score or StudyScore("mean")
        evaluator = DetectionEvaluator(torch.device("cpu"), score=score, **settings)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: outputs.extend(evaluator.state.output))
        evaluator.run(1)
        return evaluator, outputs

    return run
