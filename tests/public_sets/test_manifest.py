"""The manifests name the studies behind the published figures, without any image."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from custom.public_sets.manifest import NAMES, datalist_of, read_manifest
from custom.public_sets.sets import SETS, public_set

ROOT = Path(__file__).resolve().parents[2]
every_set = pytest.mark.parametrize("name", NAMES)


@every_set
def test_datalist_is_the_one_that_the_shipped_weights_were_made_with(name: str) -> None:
    content = json.dumps(datalist_of(read_manifest(name)), sort_keys=True, separators=(",", ":"))
    made = hashlib.sha256(content.encode()).hexdigest()[:16]
    if name == "ixi":  # ra_brain also learned from head volumes; these are the slices that it is measured on
        assert made == "cc0cc4f01cf658fa"
        return
    for bundle in public_set(name).bundles:
        provenance = json.loads((ROOT / "bundles" / bundle / "models" / "provenance.json").read_text(encoding="utf-8"))
        assert provenance["datalist"] == made, bundle


@every_set
def test_no_patient_is_in_two_sections_and_only_the_test_section_has_abnormal_studies(name: str) -> None:
    sections = defaultdict(set)
    for row in read_manifest(name):
        sections[row.subject or row.image].add(row.section)
        assert row.label == 0 or row.section == "test"
        assert bool(row.mask) <= bool(row.label)
    assert all(len(found) == 1 for found in sections.values())


@every_set
def test_each_row_has_checksums_and_a_file_of_its_own(name: str) -> None:
    rows = read_manifest(name)
    assert len({row.image for row in rows}) == len({public_set(name).original(row) for row in rows}) == len(rows) > 500
    assert all(
        re.fullmatch("[0-9a-f]{12}", row.digest) and re.fullmatch("[0-9a-f]{16}", row.fingerprint) for row in rows
    )


def test_every_bundle_with_shipped_weights_has_a_public_set() -> None:
    shipped = {path.parents[1].name for path in ROOT.glob("bundles/*/models/provenance.json")}
    assert {bundle for entry in SETS for bundle in entry.bundles} == shipped
    assert tuple(entry.name for entry in SETS) == NAMES


def test_manifests_are_small() -> None:
    folder = ROOT / "custom" / "public_sets" / "manifests"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 800_000
    assert {path.name for path in folder.iterdir()} == {f"{name}.csv" for name in NAMES}


def test_page_of_public_data_sets_states_source_and_terms_of_each() -> None:
    page = (ROOT / "docs" / "howto" / "public_datasets.md").read_text(encoding="utf-8")
    for entry in SETS:
        bundles = ", ".join(f"`{bundle}`" for bundle in entry.bundles)
        assert f"| `{entry.name}` | {entry.title} | {entry.source} | {entry.terms} | {bundles} |" in page
