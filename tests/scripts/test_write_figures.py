"""Figures in cards and pages come from docs/results.csv, and text beside them stays."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from custom.errors import NomalyError
from custom.reporting.evidence import rows_of, write_rows
from nomaly import metrics
from tests.support.scripts import load_script

CARD = "## Performance\nBefore.\n\n<!-- figures -->\nold 0.123\n<!-- end of figures -->\n\nAfter.\n"
TABLE = "| bundle | method | images | image AUROC | best baseline | comment |\n|---|---|---|---|---|---|\n"
TABLE += "| [`ra_wrist`](x) | RA | films | 0.1 | 0.2 | hands; not above the best baseline |\n"


@pytest.fixture
def script() -> ModuleType:
    return load_script("write_figures.py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one bundle and its measured row: AUROC 1, every healthy study flagged."""
    bundle = tmp_path / "bundles" / "ra_wrist"
    for folder in (
        bundle / "docs",
        bundle / "configs",
        bundle / "models",
        *(tmp_path / "docs" / n for n in ("bundles", "concepts")),
    ):
        folder.mkdir(parents=True)
    (bundle / "docs" / "README.md").write_text(CARD)
    (bundle / "configs" / "metadata.json").write_text('{"name": "wrist"}')
    (bundle / "models" / "provenance.json").write_text('{"sha256": "abc", "seed": 0}')
    for page in ("README.md", "docs/bundles/index.md"):
        (tmp_path / page).write_text(TABLE)
    (tmp_path / "docs" / "concepts" / "calibration.md").write_text(CARD)
    labels = [0] * 20 + [1] * 20
    found = metrics.evaluate(
        labels, list(range(1, 41)), healthy_scores=[0.0] * 19, baselines={"pca": [0.0] * 40}
    ).values
    about = {"set": "hand_wrist", "bundle": "ra_wrist", "weights": "shipped", "seed": "0", "sha256": "abc"}
    about |= {"commit": "1234567", "command": "python scripts/measure_results.py --data DATA"}
    write_rows(tmp_path / "docs" / "results.csv", rows_of(found, None, about, "", found))
    return tmp_path


def written(script, root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): text for path, text in script.pages(root)}


def test_card_page_and_metadata_hold_the_figures_and_keep_their_text(script, root: Path) -> None:
    pages = written(script, root)
    card = pages["bundles/ra_wrist/docs/README.md"]
    assert card.startswith("## Performance\nBefore.") and card.endswith("\n\nAfter.\n") and "0.123" not in card
    assert "| `ra_wrist` | 1.000 [1.000, 1.000] |" in card and "commit 1234567" in card
    assert "Ranking of studies: significantly better than the best baseline (pca); difference in AUROC +0.500" in card
    assert "the false-alarm rate is 1.000 [0.832, 1.000]" in card and "**This exceeds the target**" in card
    metadata = json.loads(pages["bundles/ra_wrist/configs/metadata.json"])
    assert metadata["name"] == "wrist" and metadata["eval_metrics"]["image_auroc"]["value"] == 1
    assert metadata["eval_metrics"]["best_baseline_pca_image_auroc"]["value"] == 0.5
    assert json.loads(pages["bundles/ra_wrist/models/provenance.json"])["eval_metrics"] == metadata["eval_metrics"]
    row = "| [`ra_wrist`](x) | RA | films | 1.000 | 0.500 | hands; false alarms exceed the target |"
    assert row in pages["README.md"] and row in pages["docs/bundles/index.md"]
    assert "| `ra_wrist`, MedNIST hands, 64 px | 1.000 [0.832, 1.000] of 20 |" in pages["docs/concepts/calibration.md"]


def test_second_writing_changes_nothing(script, root: Path) -> None:
    assert len(script.outdated(script.pages(root))) == 7
    for path, text in script.pages(root):
        path.write_text(text)
    assert script.outdated(script.pages(root)) == {}


def test_weights_that_were_not_measured_have_no_figure_anywhere(script, root: Path) -> None:
    (root / "bundles" / "ra_wrist" / "models" / "provenance.json").write_text('{"sha256": "def", "seed": 0}')
    pages = written(script, root)
    card = pages["bundles/ra_wrist/docs/README.md"]
    assert (
        "not measured yet" in card and "measure_results.py --data DATA --bundles ra_wrist" in card and "1.0" not in card
    )
    assert "| [`ra_wrist`](x) | RA | films | - | - | hands |" in pages["README.md"]
    assert json.loads(pages["bundles/ra_wrist/models/provenance.json"])["eval_metrics"] == {}
    assert "ra_wrist" not in pages["docs/concepts/calibration.md"]


def test_card_without_the_marks_is_refused(script, root: Path) -> None:
    (root / "bundles" / "ra_wrist" / "docs" / "README.md").write_text("## Performance\n")
    with pytest.raises(NomalyError, match="must contain <!-- figures --> and <!-- end of figures --> once"):
        list(script.pages(root))
