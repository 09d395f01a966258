"""Steps that a GPU records; on a CPU every step runs directly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from custom.engines.recorded_step import RecordedStep, set_capturable

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


class Toy:
    """Noisy gradient descent of a small network, counted in Python."""

    def __init__(self, device: str, enabled: bool = True) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.1, fused=True)
        self.calls = 0
        self.run = RecordedStep(self.step, [self.optimizer], torch.device(device), enabled)

    def step(self, x: torch.Tensor) -> dict[str, Any]:
        self.calls += 1
        loss = (self.network(x + torch.randn_like(x)) - 1).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def train(self, steps: int, phase: str = "") -> list[float]:
        """Losses of steps on other images each."""
        device = next(self.network.parameters()).device
        images = torch.rand(steps, 6, 4, generator=torch.Generator().manual_seed(1)).to(device)
        return [self.run(x, phase)["loss"].item() for x in images]


def test_cpu_runs_every_step_directly() -> None:
    toy = Toy("cpu")
    losses = toy.train(30)
    assert toy.calls == 30 and losses[-1] < losses[0]
    assert toy.optimizer.param_groups[0]["lr"] == 0.1 and toy.optimizer.param_groups[0]["capturable"] is False


@needs_gpu
def test_recorded_steps_give_the_numbers_of_direct_ones() -> None:
    recorded, direct = Toy("cuda"), Toy("cuda", enabled=False)
    results = []
    for toy in (recorded, direct):
        torch.manual_seed(3)
        results.append((toy.train(20, "a") + toy.train(20, "b"), toy.network.state_dict()))
    assert recorded.calls == 2 * 5 and direct.calls == 40
    assert results[0][0] == results[1][0]
    assert all(torch.equal(value, results[1][1][name]) for name, value in results[0][1].items())


@needs_gpu
def test_recorded_steps_follow_a_rate_and_a_seed_that_change() -> None:
    toys = [Toy("cuda"), Toy("cuda", enabled=False)]
    losses = []
    for toy in toys:
        torch.manual_seed(3)
        toy.train(10)
        for group in toy.optimizer.param_groups:
            group["lr"] = group["lr"].fill_(0.01) if isinstance(group["lr"], torch.Tensor) else 0.01
        torch.manual_seed(4)
        losses.append(toy.train(10))
    assert losses[0] == losses[1]


@needs_gpu
def test_batches_of_another_shape_are_recorded_anew() -> None:
    toy = Toy("cuda")
    toy.train(8)
    calls = toy.calls
    loss = toy.run(torch.rand(3, 4, device="cuda"))["loss"]
    assert torch.isfinite(loss) and toy.calls == calls + 1


def test_optimiser_from_a_gpu_is_made_ready_for_a_cpu() -> None:
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters(), 0.1)
    optimizer.param_groups[0] |= {"capturable": True, "lr": torch.tensor(0.25)}
    set_capturable(optimizer, False, torch.device("cpu"))
    assert optimizer.param_groups[0]["capturable"] is False and optimizer.param_groups[0]["lr"] == 0.25
    set_capturable(torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1), False, torch.device("cpu"))  # has no such switch
