"""Checkpoints: the complete training state to resume from, the best network, and early stopping."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer

from custom.detector.configuration import check_configuration
from custom.detector.weights import read_tensors, save_tensors
from custom.errors import NomalyError
from custom.locks import FolderLock
from custom.processes import is_main_process, of_the_main_process

logger = logging.getLogger(__name__)


class TrainingCheckpoint:
    """Save the training state after each epoch, resume from it, and keep the best network as ``model.pt``.

    The best network is the one with the lowest healthy error of ``validator``; ties are broken by its key metric.
    Random states and learning rates are not stored: they depend only on the epoch (custom.handlers.schedule). Files are
    written completely or not at all. Under torch.distributed all processes load, and the first saves.

    With ``patience`` the training ends after so many validations in a row that found no better network. Validations of
    the warm-up do not count: what follows it may need some epochs to become better. The count is part of the training
    state, so that a training that ended early is finished: run again, it has nothing to do, unless ``patience`` has
    become larger or None. (ignite's EarlyStopping knows neither the warm-up nor ties, and keeps a best value of its
    own.)

    Args:
        directory: folder of ``checkpoint.pt`` and ``model.pt``.
        network: network whose state_dict is saved.
        optimizers: optimisers by name.
        validator: evaluator with ``key_metric`` and ``error_metric`` in its metrics; None keeps the latest network as
            the best.
        identity: what must be equal for a run to be resumed, e.g. {"datalist": hash}.
        key_metric: name of the metric that decides between equal errors, larger = better.
        error_metric: name of the healthy error, smaller = better.
        overwrite: start from the beginning even if the folder contains a network or an unfinished run.
        patience: number of validations without a better network after which the training ends; None = it never does.
        warmup_epochs: epochs whose validations do not count for ``patience``.
        save: whether this process writes; None = only the first process.

    Raises:
        NomalyError: if ``patience`` is below 1; when training starts, if another training is using ``directory``, or it
            contains a network without its checkpoint, or a checkpoint of another identity, other parameters or another
            architecture.
    """

    def __init__(
        self,
        directory: str,
        network: nn.Module,
        optimizers: dict[str, Optimizer],
        validator: Engine | None = None,
        identity: dict[str, str] | None = None,
        key_metric: str = "synthetic_auroc",
        error_metric: str = "healthy_error",
        overwrite: bool = False,
        patience: int | None = None,
        warmup_epochs: int = 0,
        save: bool | None = None,
    ) -> None:
        if patience is not None and (not isinstance(patience, int) or patience < 1):
            raise NomalyError(f"patience must be a number of validations, at least 1, or null, got {patience!r}.")
        self.directory = Path(directory)
        self.network = network
        self.optimizers = optimizers
        self.validator = validator
        self.identity = identity or {}
        self.key_metric = key_metric
        self.error_metric = error_metric
        self.overwrite = overwrite
        self.patience = patience
        self.warmup_epochs = warmup_epochs
        self.save = is_main_process() if save is None else save
        self.lock = FolderLock(directory)
        self.best = {"epoch": 0, self.key_metric: float("-inf"), self.error_metric: float("inf")}
        self.waited = 0  # validations after the warm-up since the best one

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
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.after_epoch)
        engine.add_event_handler(Events.COMPLETED, self.lock.release)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.stop)

    def start(self, engine: Engine) -> None:
        """Lock the folder until the training ends, and resume an earlier one in it."""
        if self.save:
            self.lock.acquire("ckpt_dir")
        self.resume(engine)

    def stop(self, engine: Engine, error: BaseException) -> None:
        """Unlock the folder after an error."""
        self.lock.release()
        raise error

    def resume(self, engine: Engine) -> None:
        """Resume from ``checkpoint.pt`` if it exists, unless this run has trained already: its weights may be newer,
        for example averaged over sites.
        """
        if self.overwrite or engine.state.epoch > 0:
            return
        if not self.checkpoint.exists():
            self._refuse_other_model()
            return
        state = read_tensors(self.checkpoint)
        self._check_identity(state.get("identity", {}))
        check_configuration(self.network.state_dict(), state["network"], self.checkpoint)
        try:
            self.network.load_state_dict(state["network"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise NomalyError(
                f"{self.checkpoint} is a checkpoint of another architecture: repeat the settings of that training, or "
                f"give another ckpt_dir ({str(error).splitlines()[0]})."
            ) from error
        self.best = state["best"]
        self.waited = state.get("waited", 0)
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        if self.is_over:
            logger.warning(
                "Nothing to train: %s ended early after epoch %d; give a larger patience, or null, to train on.",
                self.checkpoint,
                state["epoch"],
            )
            engine.terminate()
        elif state["epoch"] >= engine.state.max_epochs:
            logger.warning(
                "Nothing to train: %s already has %d epochs; increase max_epochs to train longer.",
                self.checkpoint,
                state["epoch"],
            )
        else:
            logger.warning("Resuming %s after epoch %d.", self.checkpoint, state["epoch"])

    @property
    def is_over(self) -> bool:
        """Whether the training ends early, or has done so."""
        return self.patience is not None and self.waited >= self.patience

    def after_epoch(self, engine: Engine) -> None:
        """Save the network if it is the best so far, then the training state; end the training if it is over."""
        self._check_weights(engine.state.epoch)
        self._keep_best(engine.state.epoch)
        if self.save:
            if engine.state.epoch == engine.state.max_epochs and not self.best["epoch"]:
                save_tensors(self.network.state_dict(), self.model)
                logger.warning("No validation was run: %s is the latest network, not the best.", self.model)
            optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
            state = {
                "epoch": engine.state.epoch,
                "best": self.best,
                "waited": self.waited,
                "identity": self.identity,
                "optimizers": optimizers,
            }
            save_tensors(state | {"network": self.network.state_dict()}, self.checkpoint)
        # Validation may differ between processes, of which each has its own batch statistics: the first one decides.
        if self.patience is not None and of_the_main_process(self.is_over):
            engine.terminate()
            if self.save:
                message = "Training ended early: %d validations in a row found no better network than that of epoch %d."
                logger.info(message, self.waited, self.best["epoch"])

    def _check_weights(self, epoch: int) -> None:
        """Refuse to save weights that are not finite: the losses were checked only before the last step."""
        bad = [name for name, value in self.network.named_parameters() if not torch.isfinite(value).all()]
        if bad:
            raise NomalyError(
                f"Training stopped: weight {bad[0]} is not finite after epoch {epoch}. The last good checkpoint is "
                "kept. Start again with a lower learning_rate, or with amp false."
            )

    def _keep_best(self, epoch: int) -> None:
        """Write ``model.pt`` if this epoch was validated and ranks above all earlier ones."""
        metrics = self._validated(epoch)
        if metrics is None:
            return
        if self._rank(metrics) > self._rank(self.best):
            self.best, self.waited = {"epoch": epoch, **metrics}, 0
            if self.save:
                save_tensors(self.network.state_dict(), self.model)
                logger.info("Epoch %d is the best so far: %s", epoch, self.model)
        elif epoch > self.warmup_epochs:
            self.waited += 1

    def _validated(self, epoch: int) -> dict[str, float] | None:
        """Metrics of this epoch's validation; None if the epoch was not validated."""
        if self.validator is None:
            return {self.key_metric: float(epoch), self.error_metric: 0.0}
        # MONAI's ValidationHandler gives the evaluator the trainer's epoch.
        if self.validator.state.epoch != epoch or self.key_metric not in self.validator.state.metrics:
            return None
        return {name: float(self.validator.state.metrics[name]) for name in (self.key_metric, self.error_metric)}

    def _rank(self, metrics: dict[str, float]) -> tuple[float, float]:
        """Sort key of a validation, larger = better."""
        return -metrics[self.error_metric], metrics[self.key_metric]

    def _refuse_other_model(self) -> None:
        if self.model.exists():
            raise NomalyError(
                f"ckpt_dir {self.directory} already contains a {self.model.name} without checkpoint.pt: give another "
                "ckpt_dir, or overwrite true to replace it."
            )

    def _check_identity(self, stored: dict[str, str]) -> None:
        for name, value in self.identity.items():
            if stored.get(name) != value:
                raise NomalyError(
                    f"{self.checkpoint} was trained with {name} {stored.get(name)}, not {value}: give the same {name}, "
                    "another ckpt_dir, or overwrite true to start from the beginning."
                )
