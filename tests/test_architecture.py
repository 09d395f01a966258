"""Imports among the packages of custom/ go one way: each package imports only those below it in docs/rooms.yaml."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ROOMS = list(yaml.safe_load((ROOT / "docs" / "rooms.yaml").read_text()))


def imported_rooms(path: Path) -> Iterator[tuple[str, int]]:
    """Packages of custom/ that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # "from custom import files" names the package after the word import
            names = [f"custom.{a.name}" for a in node.names] if node.module == "custom" else [node.module]
        else:
            continue
        for name in names:
            if name.startswith("custom.") and not name.startswith("custom.__"):
                yield name.split(".")[1], node.lineno


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "custom").parts[0].removesuffix(".py")


def test_no_import_goes_up_or_both_ways() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room_of(path)} must not import {room}"
        for path in sorted((ROOT / "custom").rglob("*.py"))
        if path != ROOT / "custom" / "__init__.py"
        for room, line in imported_rooms(path)
        if room != room_of(path) and ROOMS.index(room) > ROOMS.index(room_of(path))
    ]
    assert wrong == []


def test_nothing_in_custom_imports_the_public_package() -> None:
    """nomaly/ is built on custom/, which also runs without it: in a packed bundle, for example."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "custom").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "nomaly" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nomaly")
    ]
    assert wrong == []


def test_every_package_has_its_place_in_the_order() -> None:
    found = {room_of(path) for path in (ROOT / "custom").rglob("*.py")} - {"__init__"}
    assert found == set(ROOMS)


def test_an_arrow_that_goes_up_is_found(tmp_path: Path) -> None:
    file = tmp_path / "low.py"
    file.write_text(
        "def late():\n    from custom.reporting import page\n\n\nfrom custom import files\nimport custom.cli\n"
    )
    assert sorted(imported_rooms(file)) == [("cli", 6), ("files", 5), ("reporting", 2)]
