"""The notebooks of the documentation run from top to bottom in an empty folder."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook: Path) -> list[dict]:
    """Cells of a notebook, each with its source as one text."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [{**cell, "source": "".join(cell["source"])} for cell in content["cells"]]


@every_notebook
def test_notebook_is_valid_and_has_no_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"]) > 5
    for cell in cells(notebook):
        assert not cell.get("outputs") and cell["source"].strip()
        if cell["cell_type"] == "code":
            ast.parse(cell["source"])


@pytest.mark.slow
@every_notebook
def test_every_cell_of_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    code = [cell["source"] for cell in cells(notebook) if cell["cell_type"] == "code"]
    (tmp_path / "notebook.py").write_text("\n\n".join(code), encoding="utf-8")
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "notebook.py"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "nomaly_first_steps" / "results" / "report.html").is_file()
