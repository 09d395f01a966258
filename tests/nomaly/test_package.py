"""The package `nomaly`: quick to import, complete, typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nomaly

PACKAGE = Path(nomaly.__file__).parent


def test_import_is_quick_and_leaves_the_libraries_for_later():
    heavy = ("torch", "monai", "numpy", "nibabel", "PIL", "scipy")
    code = f"import sys, nomaly; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists_and_has_a_docstring():
    assert set(nomaly.__all__) <= set(dir(nomaly))
    for name in nomaly.__all__:
        assert name == "__version__" or getattr(nomaly, name).__doc__
    with pytest.raises(AttributeError, match="module 'nomaly' has no attribute 'lode'"):
        nomaly.lode


def test_types_are_published():
    assert (PACKAGE / "py.typed").is_file()
