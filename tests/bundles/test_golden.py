"""The shipped weights report the same scores, p-values and decisions as when they were published."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import GOLDEN, IMAGES
from PIL import Image

from custom import cli
from custom.commands.bundle import BUNDLES
from dicom import write_film

# Other processors round sums otherwise; p-values and decisions rest on ranks, which this cannot change here.
SCORE_TOLERANCE = 1e-3  # standard deviations of healthy studies
SCORED = ("status", "score", "p_value", "decision", "region_count")


def detect(bundle: str, folder: Path, run: Callable[..., Any], **parameters: Any) -> dict[str, dict[str, Any]]:
    """Run the shipped weights on the golden images of a bundle: row and regions of each study."""
    words = ["detect", bundle, GOLDEN / IMAGES[bundle], "--output", folder]
    run(*words, write_images=False, **parameters)
    regions = read_rows(folder / "regions.csv")
    return {
        row["study"]: {
            "status": row["status"],
            "score": number(row["score"]),
            "p_value": number(row["p_value"]),
            "decision": row["decision"] or None,
            "region_p_values": [number(region["p_value"]) for region in regions if region["study"] == row["study"]],
        }
        for row in read_rows(folder / "results.csv")
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def number(text: str) -> float | None:
    return float(text) if text else None


def test_every_bundle_has_golden_results() -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    assert set(expected) == set(IMAGES) == {path.parent.name for path in BUNDLES.glob("*/variant.json")}
    decisions = {study["decision"] for studies in expected.values() for study in studies.values()}
    assert {"flag", "uncertain", "likely_normal"} <= decisions  # all three are guarded


@pytest.mark.parametrize("bundle", IMAGES)
def test_shipped_weights_give_the_golden_scores_p_values_and_decisions(bundle, nomaly, tmp_path) -> None:
    found = detect(bundle, tmp_path / "scored", nomaly, input_check=False)
    checked = detect(bundle, tmp_path / "checked", nomaly)
    expected = json.loads((GOLDEN / "expected.json").read_text())[bundle]
    assert found.keys() == expected.keys()
    for study, wanted in expected.items():
        assert found[study]["score"] == pytest.approx(wanted["score"], abs=SCORE_TOLERANCE)
        for name in ("p_value", "decision", "region_p_values"):
            assert found[study][name] == wanted[name], (study, name)
        assert (checked[study]["status"] == "not_assessable") == wanted["rejected_by_the_input_check"]


@pytest.mark.parametrize("photometric, padding", [("MONOCHROME2", 0), ("MONOCHROME1", 4095)])
def test_film_with_a_border_of_padding_has_the_score_and_p_value_of_the_film_without(
    nomaly, tmp_path: Path, photometric: str, padding: int
) -> None:
    with Image.open(GOLDEN / "chest" / "healthy_0.png") as image:
        bright = 1 + 16 * np.asarray(image).T.astype(np.uint16)
    pixels = bright if photometric == "MONOCHROME2" else 4095 - bright
    tags = {"PhotometricInterpretation": photometric, "PixelPaddingValue": padding}
    for name, border in {"plain": 0, "four": 4, "forty": 40}.items():
        write_film(tmp_path / "films" / f"{name}.dcm", np.pad(pixels, border, constant_values=padding), 12, **tags)
    words = ["detect", "ra_chest", tmp_path / "films", "--output", tmp_path / "results"]
    nomaly(*words, write_images=False)
    rows = {row["study"]: row for row in read_rows(tmp_path / "results" / "results.csv")}
    assert rows["plain"]["status"] == "ok" and float(rows["plain"]["p_value"]) > 0
    for name in ("four", "forty"):
        assert [rows[name][key] for key in SCORED] == [rows["plain"][key] for key in SCORED]


def write_expected() -> None:
    """Write expected.json from the weights as they are."""

    def run(*words: Any, **parameters: Any) -> None:
        cli.main(
            [
                *map(str, words),
                *(word for parameter, value in parameters.items() for word in (f"--{parameter}", str(value))),
            ]
        )

    content = {}
    for bundle in IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            content[bundle] = detect(bundle, Path(folder, "scored"), run, input_check=False)
            checked = detect(bundle, Path(folder, "checked"), run)
        for study, row in content[bundle].items():
            del row["status"]
            row["rejected_by_the_input_check"] = checked[study]["status"] == "not_assessable"
    (GOLDEN / "expected.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    write_expected()
