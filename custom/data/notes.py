"""What must be said loudly about the data of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom.data.privacy import files_of
from custom.synthetic.dataset import is_phantom

PHANTOM = "Synthetic phantom data: these figures show that the software works and say nothing about patients."
LESIONS = "Synthetic lesions, drawn into healthy images: the figures say nothing about real disease."


def data_notes(dataset_dir: str | None, items: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences for the report; empty for real images with real labels.

    An image of a phantom is known by the folder that it lies in, also where it was named by the user.
    """
    folders = {folder for item in items for file in files_of(item) for folder in Path(file).absolute().parents[:2]}
    folders |= {Path(dataset_dir)} if dataset_dir is not None else set()
    notes = [PHANTOM] if any(is_phantom(folder) for folder in folders) else []
    return notes + ([LESIONS] if any(item.get("synthetic") for item in items) else [])


def is_synthetic(dataset_dir: str | None, items: Sequence[dict[str, Any]]) -> bool:
    """Whether any image or lesion of the run was made."""
    return bool(data_notes(dataset_dir, items))
