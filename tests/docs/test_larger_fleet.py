"""The program on the page about larger fleets gives the results of one `nomaly detect`; it needs dask[distributed]."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "larger_fleet.md"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def rows(table: Path) -> list[dict[str, str]]:
    """Rows of results.csv without the processing times."""
    with open(table, newline="", encoding="utf-8") as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def run(*words: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True, env=ENVIRONMENT)


@pytest.mark.slow
def test_parts_on_two_workers_give_the_results_of_one_run(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "fleet.py").write_text(code.replace("STUDIES = 500", "STUDIES = 4"), encoding="utf-8")
    films = sorted((ROOT / "tests" / "golden" / "chest").glob("*.png"))
    (tmp_path / "studies.txt").write_text("\n".join(map(str, films)), encoding="utf-8")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        run(tmp_path / "fleet.py", cluster.scheduler_address, "ra_chest", tmp_path / "studies.txt", tmp_path / "parts")
    run("-m", "custom.cli", "detect", "ra_chest", tmp_path / "studies.txt", "--output", tmp_path / "one")
    assert rows(tmp_path / "parts" / "results.csv") == rows(tmp_path / "one" / "results.csv")
    images = [file for film in films for file in (tmp_path / "one" / film.stem).iterdir()]
    assert len(images) == 24
    for file in images:
        (same,) = (tmp_path / "parts").glob(f"part-*/{file.relative_to(tmp_path / 'one')}")
        assert same.read_bytes() == file.read_bytes()
