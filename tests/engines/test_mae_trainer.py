"""The training step of the masked autoencoder against a plain reference; tiny trainings: amp, seeds, processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ignite.engine import Events
from torch.nn.parallel import DistributedDataParallel

from custom.data.augmentation import BatchAugmentation
from custom.data.batches import BatchLoader
from custom.data.slices import SliceDataset
from custom.data.study_loader import StudyDataset, StudyLoader
from custom.data.volumes import VolumeDataset
from custom.detector.anomaly_detector import AnomalyDetector
from custom.engines.detection_evaluator import DetectionEvaluator
from custom.engines.mae_trainer import MaskedAutoencoderTrainer
from custom.handlers.checkpoint import TrainingCheckpoint
from custom.handlers.loss_log import LossLog
from custom.handlers.schedule import EpochSeed, PhasedLearningRate
from custom.inferers.volumes import VolumeInferer
from custom.losses.masked_autoencoder import MaskedPatchLoss
from custom.networks.memmc_mae import MemMCMaskedAutoencoder
from custom.networks.patches import patchify
from custom.scoring.score import StudyScore
from custom.scoring.structural_similarity import StructuralSimilarityMap

CPU = torch.device("cpu")
# A GPU takes recorded steps.
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")),
]


def make_network() -> MemMCMaskedAutoencoder:
    """A tiny network; its initial weights are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MemMCMaskedAutoencoder(
            spatial_dims=2,
            in_channels=1,
            image_size=16,
            patch_size=4,
            hidden_size=8,
            depth=2,
            num_heads=2,
            decoder_hidden_size=8,
            decoder_depth=1,
            decoder_num_heads=2,
            memory_slots=3,
        )


def make_trainer(
    batches: Any = None,
    rate: float = 0.1,
    max_gradient_norm: float | None = None,
    optimizer: Callable = torch.optim.SGD,
    wrap: Callable = lambda network: network,
    **settings: Any,
) -> MaskedAutoencoderTrainer:
    """Trainer of the tiny network."""
    network = make_network()
    return MaskedAutoencoderTrainer(
        **{"device": CPU, "max_epochs": 1, "train_data_loader": batches or [{"image": images()}]} | settings,
        network=wrap(network.to(settings.get("device", CPU))),
        optimizer=optimizer(network.parameters(), rate),
        loss_function=MaskedPatchLoss(),
        max_gradient_norm=max_gradient_norm,
    )


def images(count: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def train(seed: int = 5, **settings: Any) -> MaskedAutoencoderTrainer:
    """A trainer after its run."""
    trainer = make_trainer(**settings)
    torch.manual_seed(seed)
    trainer.run()
    return trainer


def weights(network: MemMCMaskedAutoencoder) -> torch.Tensor:
    """All weights in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


# (1) The step ---------------------------------------------------------------------------------------------------------


def test_step_is_plain_descent_of_the_squared_error_of_hidden_patches() -> None:
    batches = [{"image": images()}, {"image": images(seed=2)}]
    trainer, network = train(batches=batches, rate=0.5), make_network()
    start = weights(network)
    torch.manual_seed(5)
    for batch in batches:
        visible = torch.rand(4, 16).argsort(1)[:, :4]
        patches, errors = patchify(batch["image"], (4, 4)), []
        for image, predicted, seen in zip(patches, network(batch["image"], visible), visible.tolist()):
            errors += [(predicted[n] - image[n]).square().mean() for n in range(16) if n not in seen]
        network.zero_grad()
        torch.stack(errors).mean().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.5 * parameter.grad
    assert (weights(network) - start).abs().max() > 0.01  # else the comparison would say nothing
    torch.testing.assert_close(weights(trainer.model), weights(network), rtol=0, atol=1e-6)


def test_output_of_a_step_holds_images_reconstructed_patches_and_detached_terms() -> None:
    x = images()
    (output,) = train(batches=[{"image": x}]).state.output
    assert torch.equal(output["image"], x) and output["pred"].shape == (4, 16, 16)
    assert torch.equal(output["pred"], make_network()(x, output["visible"]))
    assert set(output["terms"]) == {"reconstruction"}
    assert torch.equal(output["loss"], output["terms"]["reconstruction"])
    assert not any(value.requires_grad for value in (output["pred"], output["loss"], *output["terms"].values()))


def test_each_step_hides_other_patches() -> None:
    trainer, seen = make_trainer([{"image": images()}] * 2), []
    trainer.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    trainer.run()
    assert len(seen) == 2 and not torch.equal(*seen)


def test_network_trains_in_train_mode() -> None:
    trainer, modes = make_trainer(), []
    trainer.model.register_forward_pre_hook(lambda network, _: modes.append(network.training))
    trainer.model.eval()
    trainer.run()
    assert modes == [True]


def gradient_norm(max_gradient_norm: float | None) -> float:
    """Norm of the gradient of a step, as the change of the weights at rate 1 tells."""
    trainer = make_trainer(rate=1.0, max_gradient_norm=max_gradient_norm)
    torch.manual_seed(5)
    trainer.run()
    return (weights(trainer.model) - weights(make_network())).norm().item()


def test_gradients_are_scaled_down_to_their_largest_norm() -> None:
    free = gradient_norm(None)
    assert free > 0.2
    assert gradient_norm(0.1) == pytest.approx(0.1, rel=1e-4)
    assert gradient_norm(2 * free) == pytest.approx(free, rel=1e-4)


# (2) Tiny trainings ---------------------------------------------------------------------------------------------------


def test_loss_falls_to_the_error_of_a_known_image() -> None:
    stripes = torch.arange(16.0).div(15).expand(4, 1, 16, 16)
    losses = []
    trainer = make_trainer([{"image": stripes}] * 80, rate=1e-2, optimizer=torch.optim.Adam, max_gradient_norm=1.0)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: losses.append(trainer.state.output[0]["loss"].item()))
    torch.manual_seed(5)
    trainer.run()
    # The variance of the stripes, 0.094, is the error of a network that knows only their mean.
    assert np.mean(losses[:3]) > 0.3
    assert np.mean(losses[-10:]) < 0.01
    assert (trainer.model.reconstruct(stripes) - stripes).abs().mean() < 0.1


def test_trainings_of_one_seed_are_equal_bit_for_bit() -> None:
    first, second, other = (train(seed, batches=[{"image": images()}] * 3) for seed in (5, 5, 6))
    assert torch.equal(weights(first.model), weights(second.model))
    assert not torch.equal(weights(first.model), weights(other.model))


def assemble_training(directory: Path, device: str) -> tuple[MaskedAutoencoderTrainer, TrainingCheckpoint]:
    """A training as the bundle puts it together: shuffling, augmentation, fused AdamW, schedule, checkpoints."""
    studies = [{"image": images(3, seed).permute(1, 2, 3, 0)} for seed in range(2)]
    trainer = make_trainer(
        BatchLoader(SliceDataset(studies, lambda study: study, progress=False), 1, device),
        max_epochs=4,
        device=torch.device(device),
        augmentation=BatchAugmentation(shift_share=0.1, padding="border"),
        optimizer=lambda parameters, rate: torch.optim.AdamW(parameters, rate, fused=True),
        rate=1e-3,
    )
    checkpoint = TrainingCheckpoint(
        str(directory), trainer.model, {"model": trainer.optimizer}, None, {"datalist": "abc"}
    )
    schedule = PhasedLearningRate([trainer.optimizer], 1, 4, 1e-5, 1e-2, 1e-5)
    for handler in (EpochSeed(0), schedule, LossLog(), checkpoint):
        handler.attach(trainer)
    return trainer, checkpoint


@pytest.mark.parametrize("device", DEVICES)
def test_killed_training_resumes_bit_for_bit(tmp_path: Path, device: str) -> None:
    torch.manual_seed(11)
    uninterrupted, expected = assemble_training(tmp_path / "a", device)
    uninterrupted.run()

    torch.manual_seed(22)
    killed, _ = assemble_training(tmp_path / "b", device)

    @killed.on(Events.ITERATION_COMPLETED(once=14))  # the second of six steps of epoch 3
    def kill() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.run()

    torch.manual_seed(33)
    resumed, checkpoint = assemble_training(tmp_path / "b", device)
    steps = []
    resumed.add_event_handler(Events.ITERATION_COMPLETED, lambda: steps.append(resumed.state.iteration))
    resumed.run()
    assert steps == list(range(13, 25))
    assert torch.equal(weights(resumed.model), weights(uninterrupted.model))
    ours, theirs = (torch.load(run.checkpoint, weights_only=True) for run in (checkpoint, expected))
    assert ours.keys() == theirs.keys() and ours["epoch"] == theirs["epoch"] == 4
    for step, expected_step in zip(*(state["optimizers"]["model"]["state"].values() for state in (ours, theirs))):
        assert all(torch.equal(step[name], expected_step[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_bfloat16_training_stays_near_float32() -> None:
    batches = [{"image": images(seed=seed)} for seed in range(3)]
    full, low = (train(batches=batches, amp=amp) for amp in (False, True))
    assert low.state.output[0]["pred"].dtype == torch.bfloat16
    assert low.state.output[0]["loss"].dtype == weights(low.model).dtype == torch.float32
    assert not torch.equal(low.state.output[0]["loss"], full.state.output[0]["loss"])
    assert low.state.output[0]["loss"].item() == pytest.approx(full.state.output[0]["loss"].item(), rel=0.02)
    change = weights(full.model) - weights(make_network())
    assert (weights(low.model) - weights(full.model)).norm() < 0.05 * change.norm()


# (3) Two processes ----------------------------------------------------------------------------------------------------


def train_two_steps(part: slice, **settings: Any) -> dict[str, torch.Tensor]:
    """Weights after two steps, with gradients scaled down, on this process's part of two batches of eight."""
    batches = [{"image": images(8, seed)[part]} for seed in (1, 2)]
    return train(batches=batches, rate=1.0, max_gradient_norm=0.2, **settings).model.state_dict()


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_the_whole_batch(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]

    start, expected = make_network().state_dict(), train_two_steps(slice(None))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in expected.items():
        assert torch.equal(first[name], second[name]), name
        assert (value - start[name]).abs().max() > 1e-5, name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-6, msg=name)


def be_one_of_two_processes(folder: str, rank: int) -> None:
    """Train on every second image and save the weights."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(train_two_steps(slice(rank, None, 2), wrap=DistributedDataParallel), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    be_one_of_two_processes(sys.argv[1], int(sys.argv[2]))


# (4) Three axes -------------------------------------------------------------------------------------------------------


def volumes(count: int, seed: int) -> list[dict[str, Any]]:
    """Healthy volumes (1, 32, 32, 40): the same slopes along the axes, some brighter than others."""
    x, y, z = torch.meshgrid(torch.arange(32) / 32, torch.arange(32) / 32, torch.arange(40) / 40, indexing="ij")
    bright = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    images = [(0.1 + 0.1 * part + 0.2 * (x + y + z))[None] for part in bright]
    return [{"image": image, "case": str(n), "label": 0} for n, image in enumerate(images)]


def test_network_of_volumes_learns_from_windows_and_finds_what_is_odd() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MemMCMaskedAutoencoder(
            spatial_dims=3,
            in_channels=1,
            image_size=32,
            patch_size=8,
            hidden_size=24,
            depth=1,
            num_heads=2,
            decoder_hidden_size=24,
            decoder_num_heads=2,
            memory_slots=2,
            masks=4,
        )
        dataset = VolumeDataset(volumes(2, seed=1), lambda item: item, window=32, progress=False)
        trainer = MaskedAutoencoderTrainer(
            device=CPU,
            max_epochs=6,
            train_data_loader=BatchLoader(dataset, batch_size=2),
            network=network,
            optimizer=torch.optim.AdamW(network.parameters(), 3e-3),
            loss_function=MaskedPatchLoss(),
        )
        losses: list[float] = []
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda: losses.append(float(trainer.state.output[0]["loss"]))
        )
        trainer.run()
    assert len(dataset) == 4 and losses[-1] < 0.25 * losses[0]

    detector = AnomalyDetector(network, StructuralSimilarityMap())
    evaluator = DetectionEvaluator(
        device=CPU,
        val_data_loader=StudyLoader(StudyDataset(volumes(1, seed=2), odd_corner)),
        network=detector,
        inferer=VolumeInferer(32, overlap=0.5),
        score=StudyScore("ms_ssim", similarity=detector.map_head),
        val_handlers=[],
    )
    evaluator.run()
    (study,) = evaluator.state.output
    assert {study[key].shape for key in ("pred", "reconstruction", "deviation")} == {(1, 32, 32, 40)}
    assert 0 < study["score"] < 1
    odd = torch.zeros(1, 32, 32, 40, dtype=torch.bool)
    odd[:, 4:12, 4:12, 28:36] = True
    assert study["pred"][odd].mean() > study["pred"][~odd].mean() + 0.1


def odd_corner(item: dict[str, Any]) -> dict[str, Any]:
    """The study with a bright block."""
    image = item["image"].clone()
    image[:, 4:12, 4:12, 28:36] = 1.0
    return {**item, "image": image}
