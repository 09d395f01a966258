"""The environments of MONAI Label and MONAI Deploy, whose tests run where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def environment_of(name: str) -> Path:
    """The environment of a server, "label" or "deploy"."""
    return Path(os.environ.get(f"NOMALY_{name.upper()}_VENV", ROOT / f".venv-{name}"))


def needs_environment(name: str) -> list[pytest.MarkDecorator]:
    """Marks of tests that need the environment of a server; they are slow."""
    venv = environment_of(name)
    reason = f"MONAI {name.title()} is not installed in {venv}: run scripts/monai_{name}.sh --install"
    return [pytest.mark.slow, pytest.mark.skipif(not (venv / "installed").is_file(), reason=reason)]
