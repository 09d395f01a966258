"""What must be said loudly about the data of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom.studies.privacy import files_of
from custom.synthetic.dataset import is_phantom

PHANTOM = "Synthetic phantom data: these figures show that the software works and say nothing about patients."
LESIONS = "Synthetic lesions, drawn into healthy images: the figures say nothing about real disease."
WEIGHTS = "These weights have seen synthetic images alone: what they say of a patient means nothing."


def data_notes(dataset_dir: str | None, items: Sequence[dict[str, Any]], weights: str | None = None) -> list[str]:
    """Sentences for the report; empty for real images with real labels and weights that have learned from such.

    An image of a phantom is known by the folder that it lies in, also where it was named by the user; weights by the
    provenance.json beside them, if it is about them.
    """
    folders = {folder for item in items for file in files_of(item) for folder in Path(file).absolute().parents[:2]}
    folders |= {Path(dataset_dir)} if dataset_dir is not None else set()
    notes = [PHANTOM] if any(is_phantom(folder) for folder in folders) else []
    notes += [LESIONS] if any(item.get("synthetic") for item in items) else []
    return notes + ([WEIGHTS] if weights is not None and are_of_phantoms(Path(weights)) else [])


def are_of_phantoms(weights: Path) -> bool:
    """Whether published weights were trained on synthetic images."""
    return bool(provenance_of(weights).get("synthetic_training"))


def learned_from(weights: str) -> str:
    """Data, with their terms, that published weights have learned from; "not told" of others."""
    data = provenance_of(Path(weights)).get("data")
    told = [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
    return "; ".join(f"{one.get('name')} ({one.get('terms')})" for one in told) or "not told"


def provenance_of(weights: Path) -> dict[str, Any]:
    """What provenance.json beside weights tells of them; empty if it is not there, or about others."""
    try:
        provenance = json.loads(weights.with_name("provenance.json").read_text(encoding="utf-8"))
        is_theirs = hashlib.sha256(weights.read_bytes()).hexdigest() == provenance["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return provenance if is_theirs else {}


def is_synthetic(dataset_dir: str | None, items: Sequence[dict[str, Any]]) -> bool:
    """Whether any image or lesion of the run was made."""
    return bool(data_notes(dataset_dir, items))
