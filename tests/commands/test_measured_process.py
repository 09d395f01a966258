"""A process of its own: exit code, output, environment and peak memory, also on systems that do not record it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from custom.commands.measured_process import measured

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, tmp_path: Path) -> tuple[int, float]:
    with open(tmp_path / "log", "w") as log:
        return measured([sys.executable, "-c", code], log)


def test_process_gives_its_exit_code_output_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "red")
    code, _ = run_python("import os, custom, sys; print(os.environ['COLOUR']); sys.exit(3)", tmp_path)
    assert code == 3 and (tmp_path / "log").read_text() == "red\n"


def test_process_finds_this_package_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code, _ = run_python("import os, custom; print(os.environ['PYTHONPATH'], custom.__file__, sep='\\n')", tmp_path)
    path, package = (tmp_path / "log").read_text().splitlines()
    assert code == 0 and Path(path) == ROOT == Path(package).parent.parent


def test_peak_memory_is_that_of_the_process_alone(tmp_path: Path) -> None:
    """Measured from a small process, as the command line is: a large one would be what is measured."""
    script = (
        "import subprocess, sys; from custom.commands.measured_process import measured\n"
        "for mib in (0, 200):\n"
        "    print(measured([sys.executable, '-c', f'x = b\"1\" * ({mib} * 2**20)'], subprocess.DEVNULL)[1])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    small, large = map(float, done.stdout.split())
    assert small < 60 and 200 < large < 260


def test_without_an_account_of_the_system_code_and_peak_are_read_while_the_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, which has no os.wait4."""
    monkeypatch.delattr(os, "wait4", raising=False)
    code, peak = run_python("import time; x = b'1' * (200 * 2**20); time.sleep(0.5); raise SystemExit(3)", tmp_path)
    assert code == 3 and 200 < peak < 260
