"""Warnings about the data and the weights of a run, for the log and the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom.detector.configuration import configuration_of
from custom.detector.weights import read_tensors
from custom.errors import NomalyError
from custom.studies.items import StudyItem
from custom.studies.privacy import files_of
from custom.synthetic.dataset import is_phantom

PHANTOM = "Synthetic phantom data: these figures show that the software works. They do not apply to patients."
LESIONS = "Synthetic lesions drawn into healthy images: these figures do not apply to real disease."
WEIGHTS = "These weights were trained only on synthetic images: their results are meaningless for patients."
UNKNOWN = "not reported"


def data_notes(dataset_dir: str | None, items: Sequence[StudyItem], weights: str | None = None) -> list[str]:
    """Warnings for the report; empty for real images with real labels and weights trained on real images.

    Phantom images are recognised by their folder, also where a user named them; weights by the provenance.json beside
    them, if it describes them.
    """
    folders = {folder for item in items for file in files_of(item) for folder in Path(file).absolute().parents[:2]}
    folders |= {Path(dataset_dir)} if dataset_dir is not None else set()
    notes = [PHANTOM] if any(is_phantom(folder) for folder in folders) else []
    notes += [LESIONS] if any(item.get("synthetic") for item in items) else []
    return notes + ([WEIGHTS] if weights is not None and trained_on_phantoms(Path(weights)) else [])


def trained_on_phantoms(weights: Path) -> bool:
    """Whether published weights were trained on synthetic images."""
    return bool(provenance_of(weights).get("synthetic_training"))


def learned_from(weights: str) -> str:
    """Training data of published weights, with their terms; "not reported" for others."""
    data = provenance_of(Path(weights)).get("data")
    sources = [source for source in data if isinstance(source, dict)] if isinstance(data, list) else []
    return "; ".join(f"{source.get('name')} ({source.get('terms')})" for source in sources) or UNKNOWN


def provenance_of(weights: Path) -> dict[str, Any]:
    """Content of the provenance.json beside weights, else what a calibrated copy stores of it; empty if unknown."""
    try:
        provenance = json.loads(weights.with_name("provenance.json").read_text(encoding="utf-8"))
        matches = hashlib.sha256(weights.read_bytes()).hexdigest() == provenance["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        matches = False
    if matches:
        return provenance
    try:
        return configuration_of(read_tensors(weights)).get("origin", {})
    except NomalyError:  # reported where they are loaded
        return {}


def is_synthetic(dataset_dir: str | None, items: Sequence[StudyItem]) -> bool:
    """Whether any image or lesion of the run is synthetic."""
    return bool(data_notes(dataset_dir, items))
