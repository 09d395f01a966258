"""Every loss term, watched and logged without making the device wait at each step."""

from __future__ import annotations

import logging
from typing import Any

import torch
from ignite.engine import Engine, Events

from custom.errors import NomalyError

logger = logging.getLogger(__name__)


class LossLog:
    """Check that all loss terms are finite; log their means over each epoch.

    Terms stay on the device and are looked at every ``check_every`` steps and at the epoch's end, so it must be
    attached before handlers that save: what they save has been checked.

    Args:
        check_every: steps between two checks; None for 1 on a CPU and 50 on other devices.
        writer: TensorBoard ``SummaryWriter``; None for none.

    Raises:
        NomalyError: in training, if a term is not finite; names the term and the step.
    """

    def __init__(self, check_every: int | None = None, writer: Any = None) -> None:
        self.check_every = check_every
        self.writer = writer
        self._names: tuple[str, ...] = ()
        self._recent: list[torch.Tensor] = []
        self._sum: torch.Tensor | float = 0.0
        self._steps = 0

    def attach(self, engine: Engine) -> None:
        """Register on the engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)

    def start_epoch(self, engine: Engine) -> None:
        """Forget the last epoch."""
        self._recent, self._sum, self._steps = [], 0.0, 0

    def add_step(self, engine: Engine) -> None:
        """Take in the terms of one step."""
        terms = engine.state.output[0]["terms"]
        self._names = tuple(terms)
        self._recent.append(torch.stack([term.float() for term in terms.values()]))
        every = self.check_every or (1 if self._recent[-1].device.type == "cpu" else 50)
        if len(self._recent) >= every:
            self._check(engine)

    def end_epoch(self, engine: Engine) -> None:
        """Log the means of the epoch, also as ``engine.state.metrics``."""
        self._check(engine)
        means = dict(zip(self._names, (self._sum / self._steps).tolist()))
        engine.state.metrics.update(means)
        logger.info("Epoch %d: %s", engine.state.epoch, ", ".join(f"{k} {v:.4g}" for k, v in means.items()))
        if self.writer is not None:
            for name, value in means.items():
                self.writer.add_scalar(f"loss/{name}", value, engine.state.epoch)
            self.writer.add_scalar("learning_rate", engine.optimizer.param_groups[0]["lr"], engine.state.epoch)
            self.writer.flush()  # nothing closes the writer: what is not on the disk at the end is lost

    def _check(self, engine: Engine) -> None:
        """Add the recent steps to the epoch's sum; the one place where the device is waited for."""
        if not self._recent:
            return
        steps = torch.stack(self._recent)
        self._recent = []
        self._sum = self._sum + steps.sum(0)
        self._steps += len(steps)
        bad = (~torch.isfinite(steps)).nonzero()
        if len(bad):
            step, term = bad[0].tolist()
            raise NomalyError(
                f"Training stopped: loss term '{self._names[term]}' must be finite, but is "
                f"{steps[step, term].item()} at step {engine.state.iteration - len(steps) + 1 + step} "
                f"(epoch {engine.state.epoch}). The last good checkpoint is kept. Start again with a lower "
                "learning_rate, or with amp false."
            )
