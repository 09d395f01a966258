"""The page on reliability names tests that exist, and one for every guarantee."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.partition("## Measured")[0].splitlines() if re.match(r"\| (?!guarantee)\w", line)]


def test_every_guarantee_names_a_test_that_exists() -> None:
    assert len(ROWS) > 15
    for row in ROWS:
        names = re.findall(r"`(tests/[\w/]+\.py)`", row)
        assert names and all((ROOT / name).is_file() for name in names), row
