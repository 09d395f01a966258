"""The figures of a validation in the log and in TensorBoard, by hand."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from custom.data.slices import SliceDataset
from custom.data.volumes import VolumeDataset
from custom.errors import NomalyError
from custom.handlers.detection_metrics import HealthyError, StudyAUROC
from custom.handlers.validation_log import ValidationLog, middle_slice


class Writer:
    """What TensorBoard's writer is told."""

    def __init__(self) -> None:
        self.scalars: dict[str, tuple[float, int]] = {}
        self.images: dict[str, np.ndarray] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars[name] = (value, step)

    def add_image(self, name: str, image: np.ndarray, step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.images[name] = image

    def flush(self) -> None:
        """Nothing to do."""


def study(case: str, grey: float, label: int, slices: int = 2) -> dict[str, Any]:
    return {"image": torch.full((1, 16, 16, slices), grey), "case": case, "label": label}


@pytest.fixture
def training() -> SliceDataset:
    """Two slices, of grey 0.4 and 0.6: their mean is 0.5, and one component explains every even grey."""
    studies = [study(str(grey), grey, 0, slices=1) for grey in (0.4, 0.6)]
    return SliceDataset(studies, lambda item: item, progress=False)


METRICS = {
    "key_val_metric": {"synthetic_auroc": StudyAUROC()},
    "additional_metrics": {"healthy_error": HealthyError()},
}
STUDIES = [study("healthy", 0.75, 0), study("lesion", 1.0, 1)]


def test_log_tells_auroc_and_error_beside_those_of_linear_models(run_grey, training, caplog) -> None:
    writer = Writer()
    with caplog.at_level(logging.INFO, "custom.handlers.validation_log"):
        run_grey(STUDIES, **METRICS, val_handlers=[ValidationLog(training, writer)])
    # 256 pixels that are 0.25 from grey, for the detector as for the mean image
    assert [record.message for record in caplog.records] == [
        "Epoch 1: validation synthetic-lesion AUROC 1.000, healthy error 16.0 (mean_image 16.0, pca_8 0.0, pca_32 0.0)"
    ]
    values = {name: value for name, (value, step) in writer.scalars.items() if step == 1}
    expected = {
        "validation/synthetic_auroc": 1.0,
        "validation/healthy_error": 16.0,
        "validation/healthy_error_of_mean_image": 16.0,
        "validation/healthy_error_of_pca_8": 0.0,
        "validation/healthy_error_of_pca_32": 0.0,
    }
    assert values == pytest.approx(expected, abs=1e-4)


def test_picture_shows_the_first_studies_only(run_grey, training) -> None:
    shapes = []
    for max_studies in (1, 2):
        writer = Writer()
        run_grey(STUDIES, **METRICS, val_handlers=[ValidationLog(training, writer, max_studies)])
        shapes.append(writer.images["validation/input_healthy_map"].shape)
    (_, one, _), (_, two, _) = shapes
    assert two > one and all(channels == 3 for *_, channels in shapes)


def test_references_are_computed_once(run_grey, training, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ValidationLog(training)
    run_grey(STUDIES, **METRICS, val_handlers=[log])
    monkeypatch.setattr("custom.handlers.validation_log.reference_errors", None)  # calling it again would fail
    run_grey(STUDIES, **METRICS, val_handlers=[log])
    assert log._healthy == [] and len(log.shown) == 2


def test_linear_models_see_all_windows_of_a_larger_slice(run_grey, caplog) -> None:
    studies = [study(str(grey), grey, 0, slices=1) for grey in (0.4, 0.6)]
    training = SliceDataset(studies, lambda item: item, window=16, progress=False)
    large = {**STUDIES[0], "image": torch.full((1, 32, 48, 2), 0.75)}
    with caplog.at_level(logging.INFO, "custom.handlers.validation_log"):
        run_grey([large, STUDIES[1]], **METRICS, val_handlers=[ValidationLog(training)])
    # six windows of 256 pixels that are 0.25 from grey
    assert "healthy error 96.0 (mean_image 96.0, pca_8 0.0, pca_32 0.0)" in caplog.records[-1].message


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_linear_models_of_windows_of_a_volume_are_told_for_a_slice(run_grey, overlap: float, caplog) -> None:
    studies = [study(str(grey), grey, 0, slices=4) for grey in (0.4, 0.6)]
    training = VolumeDataset(studies, lambda item: item, window=(16, 16, 4), overlap=overlap, progress=False)
    healthy = {**STUDIES[0], "image": torch.full((1, 16, 16, 6), 0.75)}  # two windows, which overlap in any case
    with caplog.at_level(logging.INFO, "custom.handlers.validation_log"):
        run_grey([healthy, STUDIES[1]], **METRICS, val_handlers=[ValidationLog(training)])
    # a slice of 256 pixels that are 0.25 from grey
    assert "healthy error 16.0 (mean_image 16.0, " in caplog.records[-1].message


def test_picture_shows_studies_of_one_size_only(run_grey, training) -> None:
    shapes = []
    for side in (16, 32):
        writer = Writer()
        studies = [{**STUDIES[0], "image": torch.full((1, 16, 16, 2), 0.75)}]
        studies += [{**STUDIES[1], "image": torch.full((1, side, side, 2), 1.0)}]
        run_grey(studies, **METRICS, val_handlers=[ValidationLog(training, writer)])
        shapes.append(writer.images["validation/input_healthy_map"].shape)
    assert shapes[0][1] > shapes[1][1]


def test_failed_study_is_left_out(run_grey, training, caplog) -> None:
    broken = study("broken", float("nan"), 0)
    with caplog.at_level(logging.INFO, "custom.handlers.validation_log"):
        run_grey([broken, *STUDIES], **METRICS, val_handlers=[ValidationLog(training, Writer())])
    assert "healthy error 16.0 (mean_image 16.0" in caplog.records[-1].message


def test_validation_without_a_healthy_study_is_refused(run_grey, training) -> None:
    with pytest.raises(
        NomalyError, match="needs at least one healthy study that can be read, but found none: fix the validation"
    ):
        run_grey(STUDIES[1:], **METRICS, val_handlers=[ValidationLog(training)])


@pytest.mark.parametrize(("slices", "middle"), [(1, 0), (2, 1), (5, 2)])
def test_middle_slice_of_a_study(slices: int, middle: int) -> None:
    assert middle_slice(torch.arange(slices).expand(1, 2, 2, slices)).unique().tolist() == [middle]
