"""Random seeds and learning rates of the epochs.

Both are pure functions of the epoch's number, so a resumed run gives exactly the same result as an uninterrupted one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.optim import Optimizer


class EpochSeed:
    """Seed all random number generators from (seed, epoch) at the start of each epoch, alike in every process.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Register on the engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        seed = int(np.random.SeedSequence([self.seed, engine.state.epoch]).generate_state(1)[0])
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)


class PhasedLearningRate:
    """Learning rate of the warm-up and the adversarial phase.

    The warm-up goes from ``warmup_learning_rate`` to ``learning_rate`` by half a cosine, the adversarial phase from
    ``learning_rate`` to ``final_learning_rate`` likewise (constant in the paper).

    Args:
        optimizers: optimisers whose learning rate is set.
        warmup_epochs: number of warm-up epochs.
        max_epochs: total number of epochs.
        warmup_learning_rate: rate at the first epoch of the warm-up.
        learning_rate: rate at the start of the adversarial phase.
        final_learning_rate: rate at the last epoch; None = ``learning_rate``.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        warmup_epochs: int,
        max_epochs: int,
        warmup_learning_rate: float,
        learning_rate: float,
        final_learning_rate: float | None = None,
    ) -> None:
        self.optimizers = optimizers
        self.warmup_epochs = warmup_epochs
        self.max_epochs = max_epochs
        self.warmup_learning_rate = warmup_learning_rate
        self.learning_rate = learning_rate
        self.final_learning_rate = learning_rate if final_learning_rate is None else final_learning_rate

    def attach(self, engine: Engine) -> None:
        """Register on the engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        rate = self.rate(engine.state.epoch)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(rate)  # a recorded step reads it there, see custom.engines.recorded_step
                else:
                    group["lr"] = rate

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 1."""
        if epoch <= self.warmup_epochs:
            return half_cosine(self.warmup_learning_rate, self.learning_rate, epoch - 1, self.warmup_epochs)
        last = self.max_epochs - self.warmup_epochs - 1
        return half_cosine(self.learning_rate, self.final_learning_rate, epoch - self.warmup_epochs - 1, last)


def half_cosine(start: float, end: float, step: int, last: int) -> float:
    """``start`` at step 0, ``end`` at step ``last``, half a cosine in between."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(step, last) / max(last, 1)))
