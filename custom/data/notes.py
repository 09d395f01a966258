"""What must be said loudly about the data of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from custom.synthetic.dataset import is_phantom

PHANTOM = "Synthetic phantom data: these figures show that the software works and say nothing about patients."
LESIONS = "Synthetic lesions, drawn into healthy images: the figures say nothing about real disease."


def data_notes(dataset_dir: str | None, items: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences for the report; empty for real images with real labels."""
    notes = [PHANTOM] if dataset_dir is not None and is_phantom(dataset_dir) else []
    return notes + ([LESIONS] if any(item.get("synthetic") for item in items) else [])


def is_synthetic(dataset_dir: str | None, items: Sequence[dict[str, Any]]) -> bool:
    """Whether any image or lesion of the run was made."""
    return bool(data_notes(dataset_dir, items))
