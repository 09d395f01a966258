"""Shared by all tests: the command line in this process, a tiny phantom, and bundles trained on it."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
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
from custom.calibration.state import CalibrationState
from custom.data.phantom import make_head_phantom
from custom.engines.detection_evaluator import DetectionEvaluator, StudyDataset, StudyLoader
from custom.inferers.slices import SliceWiseInferer
from custom.scoring.score import StudyScore

# Knobs that make a network of a bundle's base as small as its layers allow, and its training a matter of a second.
TINY_NETWORK = {"ra": {"image_size": 32, "channels": [4, 8], "latent_size": 8}}
TINY_TRAINING = {"ra": {"max_epochs": 2, "warmup_epochs": 1, "val_interval": 1, "batch_size": 4}}
# The five healthy validation heads of the tiny phantom are enough for this alpha; masks at this rate are never empty.
CALIBRATION = {"alpha": 0.2, "pixel_false_positive_rate": 0.2}
HEADS = {"num_training": 4, "num_validation": 5, "num_calibration": 0, "num_test_healthy": 4, "num_test_abnormal": 4}


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


def words_of(knobs: dict) -> list[str]:
    """Knobs as a user writes them."""
    return [word for name, value in knobs.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def quiet_process() -> Iterator[None]:
    """For tests that make workflows themselves."""
    with untouched_process():
        yield


@pytest.fixture(scope="session")
def nomaly() -> Callable[..., Outcome]:
    """Run a command of the command line in this process: words, then knobs."""

    def run(*words: str | Path, **knobs) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with untouched_process(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main([*map(str, words), *words_of(knobs)])
        return Outcome(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def tiny_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of seventeen coarse synthetic heads."""
    folder = tmp_path_factory.mktemp("phantom") / "heads"
    return Path(make_head_phantom(folder, **HEADS, shape=(30, 36, 28), spacing=(6.0, 6.0, 6.0)))


@pytest.fixture(scope="session")
def tiny_pictures(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of PNG pictures: the middle slices of the tiny phantom's heads, 30 x 36 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
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
    """Knobs of the smallest network of a bundle."""

    def knobs(bundle: str) -> dict:
        return TINY_NETWORK[json.loads((cli.BUNDLES / bundle / "variant.json").read_text())["base"]]

    return knobs


@pytest.fixture(scope="session")
def train_tiny(nomaly, tiny_network) -> Callable[..., Outcome]:
    """Train the smallest network of a bundle into a folder, which then holds models/ and train/."""

    def train(bundle: str, dataset_dir: Path, output: Path, **knobs) -> Outcome:
        base = json.loads((cli.BUNDLES / bundle / "variant.json").read_text())["base"]
        knobs = tiny_network(bundle) | TINY_TRAINING[base] | knobs
        return nomaly("train", bundle, "--dataset_dir", dataset_dir, "--output", output, **knobs)

    return train


@pytest.fixture(scope="session")
def trained(nomaly, train_tiny, tiny_network, tiny_phantom, tmp_path_factory) -> Callable[[str], Path]:
    """Folder of a bundle that is trained and calibrated on the tiny phantom; copy it before you change it."""

    @functools.cache
    def folder(bundle: str) -> Path:
        output = tmp_path_factory.mktemp(bundle)
        assert train_tiny(bundle, tiny_phantom, output).code == 0
        weights = output / "models" / "model.pt"
        knobs = {"dataset_dir": tiny_phantom, "weights": weights, **CALIBRATION, **tiny_network(bundle)}
        assert nomaly("calibrate", bundle, **knobs).code == 0
        return output

    return folder


class GreyDetector(nn.Module):
    """A detector whose answers are known by hand: health is mid grey, the map is |x - 0.5|."""

    def __init__(self) -> None:
        super().__init__()
        self.calibration = CalibrationState()

    def explain(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
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
        settings = {"val_handlers": [], "alpha": 0.2} | settings
        evaluator = DetectionEvaluator(
            device=torch.device("cpu"),
            val_data_loader=StudyLoader(StudyDataset(items, transform)),
            network=grey_detector,
            inferer=SliceWiseInferer(),
            score=score or StudyScore("mean"),
            **settings,
        )
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: outputs.extend(evaluator.state.output))
        evaluator.run(1)
        return evaluator, outputs

    return run
