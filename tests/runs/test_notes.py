"""Synthetic data are called so in every report, however they were named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from custom.runs.notes import LESIONS, PHANTOM, WEIGHTS, data_notes, is_synthetic, learned_from


@pytest.fixture
def phantom(tmp_path: Path) -> Path:
    """A folder with the mark of a phantom."""
    (tmp_path / "phantom").mkdir()
    (tmp_path / "phantom" / "phantom.json").write_text("{}")
    return tmp_path / "phantom"


def test_real_images_have_no_note(tmp_path: Path) -> None:
    assert data_notes(str(tmp_path), [{"image": str(tmp_path / "images" / "a.png")}]) == []
    assert not is_synthetic(None, [{"image": "a.png"}])


def test_phantom_is_named_as_data_set_or_by_one_of_its_images(phantom: Path, tmp_path: Path) -> None:
    real = {"image": str(tmp_path / "a.png")}
    assert data_notes(str(phantom), []) == [PHANTOM]
    for place in ("images", "unseen"):
        assert data_notes(None, [real, {"image": str(phantom / place / "b.png")}]) == [PHANTOM]


def test_lesions_drawn_into_real_images_are_named(tmp_path: Path) -> None:
    items = [{"image": str(tmp_path / "a.png"), "synthetic": {"group": "mass", "seed": 1}}]
    assert data_notes(str(tmp_path), items) == [LESIONS] and is_synthetic(str(tmp_path), items)


@pytest.mark.parametrize(("synthetic", "other", "told"), [(True, "", True), (False, "", False), (True, "x", False)])
def test_weights_of_phantoms_are_said_to_be_such(tmp_path: Path, synthetic: bool, other: str, told: bool) -> None:
    weights = tmp_path / "model.pt"
    weights.write_text("weights")
    facts = {"synthetic_training": synthetic, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    (tmp_path / "provenance.json").write_text(json.dumps(facts))
    weights.write_text("weights" + other)  # others than those that the provenance is about
    assert (WEIGHTS in data_notes(None, [], str(weights))) is told


def test_weights_without_provenance_need_no_note(tmp_path: Path) -> None:
    assert data_notes(None, [], str(tmp_path / "model.pt")) == []


def test_published_weights_tell_what_they_have_learned_from(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    weights.write_text("weights")
    assert learned_from(str(weights)) == "not reported"
    data = [{"name": "heads", "terms": "CC BY 4.0"}, {"name": "films", "terms": "CC0"}]
    facts = {"data": data, "sha256": hashlib.sha256(b"weights").hexdigest()}
    (tmp_path / "provenance.json").write_text(json.dumps(facts))
    assert learned_from(str(weights)) == "heads (CC BY 4.0); films (CC0)"
    (tmp_path / "provenance.json").write_text(json.dumps({**facts, "data": "heads"}))
    assert learned_from(str(weights)) == "not reported"
    (tmp_path / "provenance.json").write_text(json.dumps(facts))
    weights.write_text("others")
    assert learned_from(str(weights)) == "not reported"
