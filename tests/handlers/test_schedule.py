"""Learning rates by hand; random numbers that follow from the epoch alone."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from torch.optim import SGD

from custom.data.batches import BatchLoader
from custom.data.slices import SliceDataset
from custom.handlers.schedule import EpochSeed, PhasedLearningRate, half_cosine


def schedule(**settings) -> PhasedLearningRate:
    optimizers = [SGD([torch.nn.Parameter(torch.zeros(1))], lr=9.0) for _ in range(2)]
    defaults = {"warmup_epochs": 4, "max_epochs": 9, "warmup_learning_rate": 1.0, "learning_rate": 0.2}
    return PhasedLearningRate(optimizers, **defaults | settings)


def test_half_cosine_passes_through_its_end_and_middle_points() -> None:
    assert [half_cosine(1.0, 0.0, step, 4) for step in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    assert half_cosine(1.0, 0.0, 1, 4) == pytest.approx(0.5 + math.sqrt(2) / 4)
    assert half_cosine(1.0, 0.0, 7, 4) == 0
    assert half_cosine(1.0, 0.0, 0, 0) == 1


def test_warmup_falls_by_half_a_cosine_and_the_game_is_constant() -> None:
    quarter = 0.4 * math.sqrt(2) / 2  # of the cosine between 0.2 and 1.0, whose middle is 0.6
    expected = [1.0, 0.6 + quarter, 0.6, 0.6 - quarter] + 5 * [0.2]
    assert [schedule().rate(epoch) for epoch in range(1, 10)] == pytest.approx(expected)


def test_game_falls_to_the_final_rate_at_the_last_epoch() -> None:
    rates = [schedule(final_learning_rate=0.0).rate(epoch) for epoch in (5, 7, 9)]
    assert rates == pytest.approx([0.2, 0.1, 0.0])


def test_without_warmup_the_game_starts_at_its_own_rate() -> None:
    assert schedule(warmup_epochs=0).rate(1) == 0.2


def test_warmup_alone_never_reaches_the_rate_of_the_game() -> None:
    assert schedule(max_epochs=4).rate(4) > 0.2


def test_every_optimizer_gets_the_rate_as_an_epoch_starts() -> None:
    handler, rates = schedule(), []
    engine = Engine(lambda *_: rates.append([optimizer.param_groups[0]["lr"] for optimizer in handler.optimizers]))
    handler.attach(engine)
    engine.run([0, 0], max_epochs=5)
    assert rates == [[handler.rate(epoch)] * 2 for epoch in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)]


def draws() -> tuple:
    return torch.rand(1).item(), random.random(), np.random.rand()


def test_random_numbers_follow_from_seed_and_epoch_alone() -> None:
    def start(seed: int, epoch: int, before: int) -> tuple:
        for _ in range(before):
            draws()
        EpochSeed(seed)(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))
        return draws()

    assert start(0, 3, before=0) == start(0, 3, before=5)
    for other in (start(0, 4, before=0), start(1, 3, before=0)):
        assert all(a != b for a, b in zip(start(0, 3, before=0), other))


def test_shuffling_repeats_for_an_epoch_that_is_run_again() -> None:
    studies = [{"image": torch.arange(8.0).expand(1, 1, 1, 8)}]
    loader = BatchLoader(SliceDataset(studies, lambda item: item, progress=False), batch_size=8)

    def orders(max_epochs: int, already: int = 0) -> list[list[float]]:
        seen = []
        engine = Engine(lambda _, batch: seen.append(batch["image"].flatten().tolist()))
        EpochSeed(0).attach(engine)
        state = {"epoch": already, "max_epochs": max_epochs, "epoch_length": 1}
        if already:
            engine.load_state_dict(state)
        engine.run(loader, max_epochs=max_epochs)
        return seen

    whole = orders(4)
    assert len({tuple(order) for order in whole}) == 4
    assert orders(4, already=2) == whole[2:]


def test_rate_that_lies_on_the_device_is_changed_there() -> None:
    handler = schedule()
    rate = torch.tensor(0.0)
    handler.optimizers[0].param_groups[0]["lr"] = rate
    handler(SimpleNamespace(state=SimpleNamespace(epoch=2)))
    assert handler.optimizers[0].param_groups[0]["lr"] is rate and rate.item() == pytest.approx(handler.rate(2))
