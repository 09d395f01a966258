"""What a training did in each epoch, as JSON lines beside its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from custom.files import atomic_write
from custom.rendering.training_pictures import StudyPicture


@dataclass(frozen=True)
class Validation:
    """Result of the validation after an epoch.

    Args:
        auroc: of synthetic lesions, larger = better; in [0, 1].
        healthy_error: mean over healthy slices of the squared error, summed over pixels, in squared intensity.
        references: the same error of simple models by name.
        seconds: duration.
        pictures: of a few studies, always the same ones.
    """

    auroc: float
    healthy_error: float
    references: Mapping[str, float]
    seconds: float
    pictures: Sequence[StudyPicture] = ()


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Args:
        epoch: its number, from 1.
        losses: means of the loss terms by name.
        learning_rate: of this epoch.
        images: number of images of all steps, in all processes.
        seconds: duration without validation.
        phase: part of the training; None if it has no parts.
        validation: None if the epoch was not validated.
    """

    epoch: int
    losses: Mapping[str, float]
    learning_rate: float
    images: int
    seconds: float
    phase: str | None = None
    validation: Validation | None = None


@dataclass(frozen=True)
class FittedStatistics:
    """Statistics of healthy studies that were fitted after the last epoch.

    Args:
        images: training images behind expected residual and distance of codes; 0 = not fitted.
        parts: by kind of study, its healthy validation studies and the mean and deviation of each part of the score.
        missing: why something was not fitted.
        seconds: duration.
    """

    images: int
    parts: Mapping[str, Mapping[str, Any]]
    missing: Sequence[str]
    seconds: float


@dataclass
class TrainingHistory:
    """The epochs of a training in order, and the statistics that were fitted after the last one."""

    epochs: list[Epoch] = field(default_factory=list)
    fitted: FittedStatistics | None = None

    def add(self, epoch: Epoch) -> None:
        """Add an epoch, in place of what an interrupted run recorded from this epoch on."""
        self.cut(epoch.epoch - 1)
        self.epochs.append(epoch)
        self.fitted = None

    def cut(self, last: int) -> None:
        """Drop the epochs after the last one of the checkpoint."""
        self.epochs = [known for known in self.epochs if known.epoch <= last]

    @property
    def validated(self) -> list[tuple[int, Validation]]:
        """Number and validation of each epoch that was validated."""
        return [(epoch.epoch, epoch.validation) for epoch in self.epochs if epoch.validation is not None]

    @property
    def chosen(self) -> tuple[int, Validation] | None:
        """The epoch whose network is kept, as custom.handlers.checkpoint chooses it; None before the first validation.

        The lowest healthy error, then the highest AUROC, then the earliest.
        """
        best = None
        for number, found in self.validated:
            if best is None or (-found.healthy_error, found.auroc) > (-best[1].healthy_error, best[1].auroc):
                best = number, found
        return best

    def write(self, path: Path) -> None:
        """Write one line per epoch, and one for the statistics.

        Raises:
            WriteError: the file cannot be written.
        """
        entries = [asdict(epoch) for epoch in self.epochs] + ([] if self.fitted is None else [asdict(self.fitted)])
        with atomic_write(path) as file:
            file.writelines(json.dumps(entry) + "\n" for entry in entries)


def read_history(path: Path) -> TrainingHistory:
    """The history in a file; an empty one if the file does not exist or cannot be read."""
    history = TrainingHistory()
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "epoch" in entry:
                history.epochs.append(_epoch(entry))
            else:
                history.fitted = FittedStatistics(**entry)
    except (OSError, ValueError, TypeError, KeyError):
        return TrainingHistory()
    return history


def _epoch(entry: dict[str, Any]) -> Epoch:
    if entry["validation"] is not None:
        pictures = [StudyPicture(**picture) for picture in entry["validation"]["pictures"]]
        entry["validation"] = Validation(**{**entry["validation"], "pictures": pictures})
    return Epoch(**entry)
