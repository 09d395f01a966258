"""Histories of trainings, for the tests of several folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from custom.rendering.training_pictures import StudyPicture, study_picture
from custom.reporting.training_history import Epoch, TrainingHistory, Validation
from custom.reporting.training_page import Training

TRAINING = Training(
    title="Training of ra_chest",
    bundle="my/bundle",
    dataset_dir="my data",
    weights="run/models/model.pt",
    max_epochs=8,
    settings={"batch_size": 8, "seed": 0},
    defaults={"batch_size": 32, "seed": 0},
    sections={"training": (50, 50), "validation": (40, 40), "test": (20, 8)},
    slices=1000,
    notes=["Synthetic phantom data"],
    facts={"seed": 3},
)
REFERENCES = {"mean_image": 22.0, "pca_8": 10.0, "pca_32": 6.0}


def picture(lesion: str | None = None) -> StudyPicture:
    """A picture of 8 x 8 pixels."""
    image = torch.full((1, 8, 8, 1), 0.5)
    study = {"image": image, "reconstruction": image, "pred": image, "label": int(lesion is not None)}
    return study_picture(study | ({} if lesion is None else {"group": lesion}))


def history(
    validations: Mapping[int, tuple[float, float]],
    epochs: int | None = None,
    warmup: int = 0,
    losses: Sequence[float] = (),
    pictures: Sequence[StudyPicture] = (),
) -> TrainingHistory:
    """A training with (AUROC, healthy error) by epoch, which takes a second for ten images in each epoch."""
    last = epochs or max(validations)
    made = TrainingHistory()
    for number in range(1, last + 1):
        found = validations.get(number)
        phase = None if not warmup else "warm-up" if number <= warmup else "introspective"
        loss = losses[number - 1] if losses else 5.0
        validation = None if found is None else Validation(*found, REFERENCES, 2.0, pictures)
        made.add(Epoch(number, {"reconstruction": loss}, 1e-3, 10, 1.0, phase, validation))
    return made
