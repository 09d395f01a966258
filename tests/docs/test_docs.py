"""README, documentation and CONTRIBUTING: links lead to files, commands exist, the site builds without a network."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from custom.commands.parser import build_parser
from custom.reporting.evidence import FIGURES, read_rows
from tests.support.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
PARAMETERS = {
    name.split("#")[0]
    for path in ROOT.glob("bundles/*/configs/*.json")
    if path.stem != "metadata"
    for name in json.loads(path.read_text())
}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code_blocks(text: str) -> str:
    """Lines of fenced and indented code, with continued lines joined."""
    fenced = "\n".join(re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL))
    indented = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    return f"{fenced}\n{indented}".replace("\\\n", " ")


def commands(text: str) -> list[list[str]]:
    """Words of each `nomaly ...` command in code."""
    lines = [line.strip() for line in code_blocks(text).splitlines()]
    found = [re.search(r"(?:^|--no-python )nomaly (?=[a-z]|--)(.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match and "COMMAND" not in match[1]]


def test_readme_is_short_and_has_the_three_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    for command in (
        "bash scripts/demo.sh ",
        "bash scripts/demo.sh --bundle memmc_colonoscopy ",
        "bash scripts/test.sh ",
    ):
        assert any(line.startswith(f"    {command}") for line in lines)


@every_page
def test_relative_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@every_page
def test_commands_have_only_options_that_exist(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        if words[0] == "--version" or "..." in words:
            continue
        command = next(a for a in build_parser()._actions if a.dest == "command").choices[words[0]]
        options = {option.lstrip("-").replace("-", "_") for option in command._option_string_actions}
        given = {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")}
        assert given - options - PARAMETERS == set(), " ".join(words)
        names = {option.replace("-", "_"): option for option in command._option_string_actions}
        build_parser().parse_known_args([names.get(word.replace("-", "_"), word) for word in words])


def test_every_bundle_has_a_page_of_its_parameters() -> None:
    markers = [m for page in PAGES for m in re.findall(r"<!-- generated: (.*?) -->", page.read_text(encoding="utf-8"))]
    bundles = sorted(path.parent.name for path in ROOT.glob("bundles/*/variant.json"))
    assert sorted(name.split()[1] for name in markers if name.startswith("parameters")) == bundles


def test_every_figure_is_that_of_the_measured_results() -> None:
    figures = load_script("write_figures.py")
    changed = [str(path.relative_to(ROOT)) for path in figures.outdated(figures.pages(ROOT))]
    assert changed == [], "run python scripts/write_figures.py"


def test_figures_in_prose_have_their_row_in_the_results() -> None:
    measured = {
        f"{abs(float(value)):.3f}" for row in read_rows(ROOT / "docs" / "results.csv") for value in values_of(row)
    }
    cards = sorted(ROOT.glob("bundles/*/docs/README.md"))
    for page in [*PAGES, *cards]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
        prose = re.sub(r"`[^`]*`", "", prose)
        assert set(re.findall(r"(?<![\d.])[01]\.\d{3}(?!\d)", prose)) - measured == set(), page


def values_of(row: dict[str, str]) -> list[str]:
    return [row[name + end] for name in FIGURES for end in ("", "_low", "_high") if row[name + end]]


@pytest.mark.slow
def test_site_builds_strictly_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")]
    assert len(pages) > 40
    assert [link for page in pages for link in re.findall(r'(?:src|<link[^>]+href)="(https?:[^"]+)"', page)] == []
    assert not any("<!-- generated" in page for page in pages)
