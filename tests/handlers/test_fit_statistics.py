"""Statistics of healthy studies are fitted to the trained network, which stays as it is."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from torch import nn

from custom.data.slices import SliceDataset
from custom.data.study_loader import StudyDataset, StudyLoader
from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.weights import read_tensors, save_tensors
from custom.engines.detection_evaluator import DetectionEvaluator
from custom.errors import NomalyError
from custom.handlers.fit_statistics import FitStatistics
from custom.inferers.slices import SliceWiseInferer
from custom.scoring.anomaly_map import SmoothResidualMap
from custom.scoring.code_distance import CodeDistance
from custom.scoring.expected_residual import ExpectedResidual
from custom.scoring.score import StudyScore
from custom.scoring.structural_similarity import StructuralSimilarityMap

SIZE = 32


class Blurred(nn.Module):
    """Health is the mean over blocks of eight pixels; the code is these means."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * nn.functional.avg_pool2d(x, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)

    def latent(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 8).flatten(1)


def detector() -> AnomalyDetector:
    return AnomalyDetector(Blurred(), SmoothResidualMap(0.5), ExpectedResidual(), CodeDistance(16))


def pictures(count: int, seed: int) -> list[dict]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, SIZE, SIZE, 1, generator=generator) * 0.9 + 0.1
    return [{"image": image, "case": f"s{number}"} for number, image in enumerate(images)]


def fit(
    network: AnomalyDetector, weights: Path, training: int = 24, validation: int = 12, studies=None, **settings
) -> Path:
    """Run the fit on random pictures, validated on these studies; gives the file that was written."""
    slices = SliceDataset(pictures(training, 0), lambda item: item, progress=False)
    score = StudyScore("fused", similarity=StructuralSimilarityMap(), statistics=network.part_statistics)
    handler = FitStatistics(network, str(weights), slices, steps=3, **settings)
    evaluator = DetectionEvaluator(
        torch.device("cpu"),
        StudyLoader(StudyDataset(studies or pictures(validation, 1), lambda item: item)),
        network,
        SliceWiseInferer(),
        score,
        val_handlers=[handler],
    )
    evaluator.run()
    return handler.output


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights without statistics."""
    save_tensors(detector().state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_all_statistics_are_fitted_and_the_network_stays(weights: Path, tmp_path: Path) -> None:
    before = read_tensors(weights)
    after = read_tensors(fit(detector(), weights, output=str(tmp_path / "fitted.pt")))
    assert int(after["normalisation.images"]) == int(after["code_distance.images"]) == 24
    assert after["part_statistics.studies"].tolist() == [12, 0]
    assert torch.equal(after["reconstructor.weight"], before["reconstructor.weight"])
    assert all(torch.equal(value, before[name]) for name, value in read_tensors(weights).items())


def test_healthy_studies_of_the_fit_have_mean_zero_and_deviation_one_in_each_part(weights: Path) -> None:
    network = detector()
    fit(network, weights)
    score = StudyScore("fused", similarity=StructuralSimilarityMap(), statistics=network.part_statistics)
    outputs: list[dict] = []
    loader = StudyLoader(StudyDataset(pictures(12, 1), lambda item: item))
    evaluator = DetectionEvaluator(torch.device("cpu"), loader, network, SliceWiseInferer(), score)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: outputs.extend(evaluator.state.output))
    evaluator.run()
    parts = torch.tensor([list(study["score_parts"].values()) for study in outputs])
    torch.testing.assert_close(parts.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(parts.std(0), torch.ones(3), atol=1e-4, rtol=0)
    assert [study["score"] for study in outputs] == pytest.approx(parts.sum(1).tolist(), abs=1e-5)


def test_each_kind_of_study_is_standardised_by_its_own_healthy_studies(weights: Path, caplog) -> None:
    def deep(count: int, seed: int) -> list[dict]:
        return [{**study, "image": study["image"].repeat(1, 1, 1, 3)} for study in pictures(count, seed)]

    for volumes, counts in (11, [12, 11]), (9, [12, 0]):
        network = detector()
        fit(network, weights, studies=[*pictures(12, 1), *deep(volumes, 2)])
        image, volume = network.part_statistics.mean
        assert network.part_statistics.studies.tolist() == counts
        assert torch.equal(image, volume) is (volumes == 9)
    assert "The parts of the score of volumes are standardised as those of the other kind of study" in caplog.text
    assert "at least 10 healthy validation studies are needed, got 9" in caplog.text


def test_fit_is_the_same_twice_and_whatever_was_fitted_before(weights: Path, tmp_path: Path) -> None:
    first = read_tensors(fit(detector(), weights, output=str(tmp_path / "first.pt")))
    again = read_tensors(fit(detector(), tmp_path / "first.pt", output=str(tmp_path / "again.pt")))
    assert first.keys() == again.keys() and all(torch.equal(value, again[name]) for name, value in first.items())


def test_earlier_calibration_is_removed(weights: Path) -> None:
    network = detector()
    network.calibration.image.fill_healthy([*range(20)], [0.0] * 20)
    save_tensors(network.state_dict(), weights)
    assert len(read_tensors(fit(network, weights))["calibration.image.healthy_scores"]) == 0


def test_training_that_had_nothing_to_do_keeps_its_statistics_and_its_calibration(weights: Path) -> None:
    network = detector()
    fit(network, weights, required=False)
    network.calibration.image.fill_healthy([*range(20)], [0.0] * 20)
    save_tensors(network.state_dict(), weights)
    before = weights.read_bytes()
    fit(detector(), weights, required=False)
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"training": 19}, "the expected residual needs at least 20 healthy training images, got 19: add healthy"),
        ({"validation": 9}, "the score needs at least 10 healthy validation studies to standardise its parts, got 9"),
    ],
)
def test_too_few_studies_are_refused_or_do_not_lose_a_training(
    weights: Path, caplog: pytest.LogCaptureFixture, counts: dict, message: str
) -> None:
    before = weights.read_bytes()
    with pytest.raises(NomalyError, match=message):
        fit(detector(), weights, **counts)
    assert weights.read_bytes() == before
    with caplog.at_level(logging.WARNING):
        fit(detector(), weights, **counts, required=False)
    assert f"Not fitted: {message}" in caplog.text and "Then run nomaly adapt." in caplog.text


def test_weights_of_an_earlier_release_load_without_statistics(tmp_path: Path) -> None:
    state = {n: v for n, v in detector().state_dict().items() if n.startswith(("reconstructor.", "calibration."))}
    state["normalisation.mean"] = torch.zeros(1, SIZE, SIZE)
    network = detector()
    fitted = detector()
    network.load_state_dict(state)
    assert not network.has_statistics
    fit_file = tmp_path / "model.pt"
    save_tensors(fitted.state_dict(), fit_file)
    fit(fitted, fit_file)
    plain = AnomalyDetector(Blurred(), SmoothResidualMap(0.5))
    plain.load_state_dict(fitted.state_dict())  # the published map has no use for the statistics
    assert plain.outputs == ("map", "reconstruction")
