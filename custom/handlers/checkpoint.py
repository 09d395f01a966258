"""Checkpoints: the whole training state to resume from, and the best network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer

from custom.detector.weights import read_tensors, save_tensors
from custom.errors import NomalyError
from custom.processes import is_main_process

logger = logging.getLogger(__name__)


class TrainingCheckpoint:
    """Save all that training needs after each epoch, continue from it, and keep the best network as ``model.pt``.

    The best network is the one with the highest key metric of ``validator``, healthy error deciding between equals.
    Random state and learning rates are not stored: they follow from the epoch (custom.handlers.schedule). Files are
    written whole or not at all. Under torch.distributed all processes load, the first saves.

    Args:
        directory: for ``checkpoint.pt`` and ``model.pt``.
        network: whose state_dict is saved.
        optimizers: by name.
        validator: evaluator with ``key_metric`` and ``error_metric`` in its metrics; None keeps the latest network as
            the best.
        identity: what must agree for a run to be continued, e.g. {"datalist": hash}.
        key_metric: name of the metric, larger = better.
        error_metric: name of the healthy error, smaller = better.
        overwrite: start anew although the directory holds a network or an unfinished run.
        save: whether this process writes; None for the first process alone.

    Raises:
        NomalyError: when training starts, if ``directory`` holds a network without its run, or a run of another
            identity or architecture.
    """

    def __init__(
        self,
        directory: str,
        network: nn.Module,
        optimizers: dict[str, Optimizer],
        validator: Any = None,
        identity: dict[str, str] | None = None,
        key_metric: str = "synthetic_auroc",
        error_metric: str = "healthy_error",
        overwrite: bool = False,
        save: bool | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.network = network
        self.optimizers = optimizers
        self.validator = validator
        self.identity = identity or {}
        self.key_metric = key_metric
        self.error_metric = error_metric
        self.overwrite = overwrite
        self.save = is_main_process() if save is None else save
        self.best = {"epoch": 0, self.key_metric: float("-inf"), self.error_metric: float("inf")}

    @property
    def checkpoint(self) -> Path:
        """File of the training state."""
        return self.directory / "checkpoint.pt"

    @property
    def model(self) -> Path:
        """File of the best network."""
        return self.directory / "model.pt"

    def attach(self, engine: Engine) -> None:
        """Register on the trainer; attach after the handlers that check losses and validate."""
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.after_epoch)

    def resume(self, engine: Engine) -> None:
        """Continue from ``checkpoint.pt`` if it is there, unless this very run has trained already: what it has now may
        be newer, such as weights averaged over sites.
        """
        if self.overwrite or engine.state.epoch > 0:
            return
        if not self.checkpoint.exists():
            self._refuse_foreign_model()
            return
        state = read_tensors(self.checkpoint)
        self._check_identity(state.get("identity", {}))
        try:
            self.network.load_state_dict(state["network"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise NomalyError(
                f"{self.checkpoint} must be of this network, but is of another architecture: give the settings it was "
                f"trained with, or another ckpt_dir ({str(error).splitlines()[0]})."
            ) from error
        self.best = state["best"]
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        if state["epoch"] >= engine.state.max_epochs:
            logger.warning(
                "Nothing to train: %s has %d epochs; raise max_epochs to go on.", self.checkpoint, state["epoch"]
            )
        else:
            logger.warning("Continuing %s after epoch %d.", self.checkpoint, state["epoch"])

    def after_epoch(self, engine: Engine) -> None:
        """Keep the network if it is the best so far, then save the training state."""
        self._check_weights(engine.state.epoch)
        self._keep_best(engine.state.epoch)
        if self.save:
            if engine.state.epoch == engine.state.max_epochs and not self.best["epoch"]:
                save_tensors(self.network.state_dict(), self.model)
                logger.warning("No validation took place: %s is the latest network, not the best.", self.model)
            optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
            state = {
                "epoch": engine.state.epoch,
                "best": self.best,
                "identity": self.identity,
                "optimizers": optimizers,
            }
            save_tensors(state | {"network": self.network.state_dict()}, self.checkpoint)

    def _check_weights(self, epoch: int) -> None:
        """The losses were finite before the last step; the weights after it must be so, too, or they may not be
        kept.
        """
        bad = [name for name, value in self.network.named_parameters() if not torch.isfinite(value).all()]
        if bad:
            raise NomalyError(
                f"Training stopped: weight {bad[0]} must be finite, but is not after epoch {epoch}. The last "
                "good checkpoint is kept. Start again with a lower learning_rate, or with amp false."
            )

    def _keep_best(self, epoch: int) -> None:
        """Write ``model.pt`` if this epoch was validated and ranks above all earlier ones."""
        metrics = self._validated(epoch)
        if metrics is None:
            return
        if self._rank(metrics) > self._rank(self.best):
            self.best = {"epoch": epoch, **metrics}
            if self.save:
                save_tensors(self.network.state_dict(), self.model)
                logger.info("Epoch %d is the best so far: %s", epoch, self.model)

    def _validated(self, epoch: int) -> dict[str, float] | None:
        """Metrics of this epoch's validation; None if there was none."""
        if self.validator is None:
            return {self.key_metric: float(epoch), self.error_metric: 0.0}
        # MONAI's ValidationHandler gives the evaluator the trainer's epoch.
        if self.validator.state.epoch != epoch or self.key_metric not in self.validator.state.metrics:
            return None
        return {name: float(self.validator.state.metrics[name]) for name in (self.key_metric, self.error_metric)}

    def _rank(self, metrics: dict[str, float]) -> tuple[float, float]:
        """Sort key of a validation, larger = better."""
        return metrics[self.key_metric], -metrics[self.error_metric]

    def _refuse_foreign_model(self) -> None:
        if self.model.exists():
            raise NomalyError(
                f"ckpt_dir {self.directory} must not hold another run's network, but {self.model.name} is there "
                "without checkpoint.pt: give another ckpt_dir, or overwrite true to replace it."
            )

    def _check_identity(self, stored: dict[str, str]) -> None:
        for name, value in self.identity.items():
            if stored.get(name) != value:
                raise NomalyError(
                    f"{self.checkpoint} was trained with {name} {stored.get(name)}, not {value}: give the same {name}, "
                    "another ckpt_dir, or overwrite true to start anew."
                )
