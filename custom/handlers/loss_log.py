"""Checks and logs every loss term without waiting for the device at each step."""

from __future__ import annotations

import logging
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from custom.errors import NomalyError
from custom.handlers.engine_output import step_of

logger = logging.getLogger(__name__)


class LossLog:
    """Check that all loss terms are finite; log their means over each epoch.

    Terms stay on the device and are checked every ``check_every`` steps and at the end of the epoch. Attach this
    handler before those that save, so that only checked states are saved.

    Args:
        check_every: steps between two checks; None for 1 on a CPU and 50 on other devices.
        writer: TensorBoard ``SummaryWriter``; None = no TensorBoard.

    Raises:
        NomalyError: during training, if a term is not finite; the text gives term and step.
    """

    def __init__(self, check_every: int | None = None, writer: Any = None) -> None:
        self.check_every = check_every
        self.writer = writer
        self._names: tuple[str, ...] = ()
        self._logged: set[str] = set()
        self._recent: list[torch.Tensor] = []
        self._sum = torch.zeros(())
        self._steps = 0

    def attach(self, engine: Engine) -> None:
        """Register on the engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)

    def start_epoch(self, engine: Engine) -> None:
        """Begin a new epoch."""
        self._recent, self._sum, self._steps = [], torch.zeros(()), 0

    def add_step(self, engine: Engine) -> None:
        """Add the terms of one step."""
        terms = step_of(engine)["terms"]
        self._names = tuple(terms)
        self._recent.append(torch.stack([term.float() for term in terms.values()]))
        every = self.check_every or (1 if self._recent[-1].device.type == "cpu" else 50)
        if len(self._recent) >= every:
            self._check(engine)

    def end_epoch(self, engine: SupervisedTrainer) -> None:
        """Log the means of the epoch, also in ``engine.state.metrics``, without terms that it does not have."""
        self._check(engine)
        means = dict(zip(self._names, (self._sum / self._steps).tolist()))
        for name in self._logged - means.keys():  # of an earlier phase
            engine.state.metrics.pop(name, None)
        self._logged = set(means)
        engine.state.metrics.update(means)
        logger.info("Epoch %d: %s", engine.state.epoch, ", ".join(f"{k} {v:.4g}" for k, v in means.items()))
        if self.writer is not None:
            for name, value in means.items():
                self.writer.add_scalar(f"loss/{name}", value, engine.state.epoch)
            self.writer.add_scalar("learning_rate", engine.optimizer.param_groups[0]["lr"], engine.state.epoch)
            self.writer.flush()  # nothing closes the writer: unwritten events would be lost

    def _check(self, engine: Engine) -> None:
        """Add the recent steps to the epoch's sum; the only place that waits for the device."""
        if not self._recent:
            return
        steps = torch.stack(self._recent)
        self._recent = []
        self._sum = self._sum.to(steps.device) + steps.sum(0)
        self._steps += len(steps)
        bad = (~torch.isfinite(steps)).nonzero()
        if len(bad):
            step, term = bad[0].tolist()
            raise NomalyError(
                f"Training stopped: loss term '{self._names[term]}' is {steps[step, term].item()} at step "
                f"{engine.state.iteration - len(steps) + 1 + step} (epoch {engine.state.epoch}). The last good "
                "checkpoint is kept. Start again with a lower learning_rate, or with amp false."
            )
