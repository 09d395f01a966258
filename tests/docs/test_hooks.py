"""The hook of the documentation: every option, parameter, column and package appears on its page."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from custom.commands.parser import build_parser
from custom.runs.tables import COLUMNS, REGION_COLUMNS

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = [path.parent.name for path in sorted(ROOT.glob("bundles/*/variant.json"))]

pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_appears(hooks: ModuleType) -> None:
    sections = dict(part.split("\n", 1) for part in hooks.commands().split("## nomaly ")[1:])
    commands = hooks.subcommands(build_parser())
    assert list(sections) == list(commands)
    for name, command in commands.items():
        for action in command._actions:
            if not isinstance(action, argparse._HelpAction):
                assert f"`{hooks.spelling(action)}`".replace("|", "\\|") in sections[name]
                assert "%(default)s" not in sections[name]


def test_tables_and_examples_of_help_keep_their_lines(hooks: ModuleType) -> None:
    page = hooks.commands()
    for line in ("  demo        run a bundle", "  nomaly detect ra_chest IMAGES --output results/chest\n"):
        assert f"\n{line}" in page
    assert page.count("```") % 2 == 0 and "\nbundles:" not in page


def test_options_are_written_with_underscores(hooks: ModuleType) -> None:
    parser = argparse.ArgumentParser()
    switch = parser.add_argument("--no-input-check", action="store_false")
    several = parser.add_argument("--studies", nargs="+")
    named = parser.add_argument("--calibration", dest="calibration_file", metavar="FILE")
    spelt = [hooks.spelling(action) for action in (switch, several, named)]
    assert spelt == ["--no_input_check", "--studies STUDIES ...", "--calibration FILE"]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_parameter_appears_with_its_value(hooks: ModuleType, bundle: str) -> None:
    page = hooks.parameters(bundle)
    variant = json.loads((ROOT / "bundles" / bundle / "variant.json").read_text())
    for name, value in variant["parameters"].items():
        assert f"`{name}` = **`{json.dumps(value)}`**" in page, name
    for config in hooks.COMPLETE:
        content = json.loads(hooks.config_path(bundle, config).read_text())
        plain = [
            n for n, v in content.items() if hooks.is_setting(n, v) and n not in ("imports", "required_sections", "run")
        ]
        for name in plain:
            if not isinstance(content[name], list) or not any(isinstance(entry, dict) for entry in content[name]):
                assert f"`{name}`" in page or str(content[name]).startswith(("$@network", "@")), (config, name)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_overlay_appears(hooks: ModuleType, bundle: str) -> None:
    configs = {path.stem for path in (ROOT / "bundles" / bundle / "configs").glob("*.json")}
    for name in configs - {*hooks.COMPLETE, "metadata"}:
        assert f"| `{name}` |" in hooks.overlays(bundle)


@pytest.mark.parametrize(("name", "columns"), [("results", COLUMNS), ("regions", REGION_COLUMNS)])
def test_every_column_appears_with_a_meaning(hooks: ModuleType, name: str, columns: tuple[str, ...]) -> None:
    rows = [line.split(" | ") for line in hooks.columns(name).splitlines()[2:]]
    assert [row[0] for row in rows] == [f"| `{column}`" for column in columns]
    assert all(len(row[1]) > 3 for row in rows)


def test_figure_has_the_packages_with_the_highest_at_the_top(hooks: ModuleType) -> None:
    figure = hooks.packages_figure({"low": "carries <all>", "high": "rests on low"})
    assert figure.index(">high<") < figure.index(">low<") and "carries &lt;all&gt;" in figure
    assert "http://www.w3.org" in figure and figure.count("http") == 1


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("../../bundles/ra_chest/docs/README.md", "docs/concepts/calibration.md", "../bundles/ra_chest.md"),
        ("../../SECURITY.md", "docs/howto/privacy.md", "../project/security.md"),
        ("docs/extend/index.md", "CONTRIBUTING.md", "../extend/index.md"),
        ("p_value.md", "docs/concepts/index.md", "p_value.md"),
        ("report.png", "bundles/ra_chest/docs/README.md", "report.png"),
        ("mailto:somebody", "docs/index.md", "mailto:somebody"),
    ],
)
def test_links_lead_to_the_pages_of_the_site(hooks: ModuleType, target: str, source: str, expected: str) -> None:
    assert hooks.site_link(target, source) == expected
