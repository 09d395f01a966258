"""Weights files: whole or not at all, tensors only."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.weights import (
    check_device,
    halved,
    load_detector,
    model_hash,
    read_tensors,
    save_tensors,
    weight_hash,
)
from custom.errors import NomalyError
from custom.networks.reversed_autoencoder import ReversedAutoencoder


def tiny_detector(channels: tuple[int, ...] = (4, 8)) -> AnomalyDetector:
    return AnomalyDetector(ReversedAutoencoder(image_size=16, channels=channels, latent_size=8), nn.Identity())


class RunsCode:
    """Pickles as a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_tensors_and_plain_values_survive_the_round_trip(tmp_path: Path) -> None:
    state = {"weight": torch.rand(3, 2), "count": torch.tensor(7), "epoch": 3, "best": {"auroc": 0.5}, "name": "ra"}
    save_tensors(state, tmp_path / "new" / "model.pt")
    read = read_tensors(tmp_path / "new" / "model.pt")
    assert torch.equal(read.pop("weight"), state.pop("weight"))
    assert read == state


def test_loaded_detector_equals_the_saved_one_and_is_in_evaluation(tmp_path: Path) -> None:
    saved, fresh = tiny_detector().eval(), tiny_detector()
    save_tensors(saved.state_dict(), tmp_path / "model.pt")
    loaded = load_detector(fresh, tmp_path / "model.pt")
    x = torch.rand(1, 1, 16, 16)
    assert loaded is fresh and not loaded.training
    assert torch.equal(loaded.reconstruct(x), saved.reconstruct(x))


def test_calibrated_weights_load_into_a_detector_without_scores(tmp_path: Path) -> None:
    saved = tiny_detector()
    saved.calibration.image.fill(healthy_scores=[0.1, 0.2, 0.7], pixel_threshold=0.9, slices=[1, 1])
    save_tensors(saved.state_dict(), tmp_path / "model.pt")
    loaded = load_detector(tiny_detector(), tmp_path / "model.pt").calibration
    assert [*loaded.calibrated] == ["image"]
    assert loaded.image.healthy_scores.tolist() == [0.1, 0.2, 0.7]
    assert loaded.image.pixel_threshold.item() == 0.9


def test_uncalibrated_weights_load_into_a_calibrated_detector(tmp_path: Path) -> None:
    save_tensors(tiny_detector().state_dict(), tmp_path / "model.pt")
    calibrated = tiny_detector()
    calibrated.calibration.image.fill(healthy_scores=[0.1, 0.2])
    assert not load_detector(calibrated, tmp_path / "model.pt").calibration.is_calibrated


def test_missing_file_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(
        NomalyError,
        match=r"weights file not found: .*model.pt. Train the bundle first \(nomaly train\), or give the path",
    ):
        load_detector(tiny_detector(), tmp_path / "model.pt")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_file_is_refused_and_not_half_read(tmp_path: Path, share: float) -> None:
    path = tmp_path / "model.pt"
    save_tensors(tiny_detector().state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(NomalyError, match="model.pt cannot be read as a weights file"):
        load_detector(tiny_detector(), path)


def test_file_that_holds_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "code_has_run"
    torch.save({"weight": torch.rand(1), "trap": RunsCode(trap)}, tmp_path / "model.pt")
    with pytest.raises(NomalyError, match=r"cannot be read as a weights file \(UnpicklingError\)"):
        read_tensors(tmp_path / "model.pt")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("foreign", "difference"),
    [
        (tiny_detector((4, 16)).state_dict(), r"tensors: \d+ with another shape, such as reconstructor\..*"),
        ({"epoch": 1}, r"tensors: \d+ missing, such as .*; 1 unknown, such as epoch"),
        ([torch.zeros(1)], "the file contains a list, not tensors by name"),
        ({"optimizers": {}, "network": {}}, "the file is a training checkpoint; the network is in model.pt beside it"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path: Path, foreign: object, difference: str) -> None:
    torch.save(foreign, tmp_path / "model.pt")
    advice = rf"use the bundle and overlays that they were trained with \({difference}\)\."
    expected = f"model.pt do not fit this network: {advice}"
    with pytest.raises(NomalyError, match=expected):
        load_detector(tiny_detector(), tmp_path / "model.pt")


def test_full_disk_keeps_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    save_tensors({"weight": torch.ones(2)}, path)

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(NomalyError, match="Cannot write .*model.pt: No space left .* free some space on that disk"):
        save_tensors({"weight": torch.zeros(2)}, path)
    assert read_tensors(path)["weight"].tolist() == [1, 1]
    assert os.listdir(tmp_path) == ["model.pt"]


def test_weight_hash_ignores_the_order_of_entries() -> None:
    a, b = torch.arange(3.0), torch.tensor(5)
    assert weight_hash({"a": a, "b": b}) == weight_hash({"b": b, "a": a})


def test_weight_hash_is_sha256_of_header_and_bytes() -> None:
    # sha256(b"w|torch.uint8|(2,)|" + bytes([1, 2])), from the sha256sum command
    assert weight_hash({"w": torch.tensor([1, 2], dtype=torch.uint8)}) == "2d7be7366a5ad2a5"


@pytest.mark.parametrize(
    "other",
    [
        {"w": torch.tensor([0.0, 1.0 + 2**-20])},
        {"v": torch.tensor([0.0, 1.0])},
        {"w": torch.tensor([[0.0, 1.0]])},
        {"w": torch.tensor([0.0, 1.0]).view(torch.int32)},
        {"w": torch.tensor([0.0, 1.0]), "x": torch.empty(0)},
    ],
    ids=["value", "name", "shape", "dtype", "entry"],
)
def test_weight_hash_changes_with_each_thing_it_covers(other) -> None:
    assert weight_hash(other) != weight_hash({"w": torch.tensor([0.0, 1.0])})


def test_weight_hash_reads_views_and_low_precision_tensors() -> None:
    table = torch.arange(6.0).reshape(2, 3)
    assert weight_hash({"w": table.t()}) == weight_hash({"w": table.t().contiguous()})
    assert len(weight_hash({"h": torch.ones(2, dtype=torch.bfloat16), "flag": torch.tensor(True)})) == 16


def test_weight_hash_refuses_an_entry_without_tensor() -> None:
    with pytest.raises(NomalyError, match=r"state_dict\['step'\] must be a tensor, got int"):
        weight_hash({"step": 3})


def test_model_hash_is_the_same_before_and_after_calibration_and_not_that_of_other_weights() -> None:
    detector = tiny_detector()
    before = model_hash(detector)
    detector.calibration.image.fill_healthy([0.1, 0.2], [0.0, 0.0])
    assert model_hash(detector) == before != weight_hash(detector.state_dict())
    with torch.no_grad():
        next(detector.parameters()).add_(1.0)
    assert model_hash(detector) != before


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_device_that_is_not_there_is_not_blamed_on_the_weights() -> None:
    with pytest.raises(NomalyError, match=r"device cuda:0 is not available \(.*\): give --device cpu\."):
        check_device("cuda:0")
    with pytest.raises(NomalyError, match=r"^device graphics is not available \(no such kind of device\): give --dev"):
        check_device("graphics")


def test_halved_weights_keep_the_calibration_exact(grey_detector) -> None:
    network = nn.Sequential(nn.Linear(3, 2), grey_detector)
    grey_detector.calibration.image.fill(pixel_threshold=0.123456789012345)
    state = halved(network)
    assert (
        state["0.weight"].dtype == torch.float16 and state["1.calibration.image.pixel_threshold"].dtype == torch.float64
    )
    assert float(state["1.calibration.image.pixel_threshold"]) == 0.123456789012345
    network.load_state_dict(state)
    assert torch.equal(network[0].weight, state["0.weight"].float())
