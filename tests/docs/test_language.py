"""What users read is plain English: a short list of phrases that readers stumbled over does not return."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from custom.commands.parser import build_parser

ROOT = Path(__file__).resolve().parents[2]
STUMBLING_BLOCKS = re.compile(
    r"""\b(
    is\ none(?!\ of) | data\ base | a\ row\ a\ study | anew | knobs? | (to|must|and)\ mend | one\ release\ more
    | (healthy|studies|slices)\ alone | film\ slices? | for\ want\ of | told\ in\ (a|one)\ sentence | within\ chance
    | over\ the\ pixel\ threshold | least\ region | red\ all\ over | promise\ is\ (not\ )?kept | is\ at\ work\ in
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("bundles/*/docs/README.md")),
    ROOT / "docs" / "rooms.yaml",
    *sorted((ROOT / "bundles" / "_base").rglob("*.yaml")),
    *sorted((ROOT / "custom").rglob("*.jinja")),
]


def stumbled(text: str) -> list[str]:
    """Phrases of the list in a text, which may be broken into lines; names in code and template tags do not count."""
    prose = re.sub(r"`[^`]*`|\{[{%].*?[%}]\}", "", re.sub(r"\n *#? *", " ", text))
    return [match[0] for match in STUMBLING_BLOCKS.finditer(prose)]


def strings(source: str) -> Iterator[str]:
    """String constants of a module that are more than a word; docstrings do not count."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if " " in node.value:
                yield node.value


def helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Help text of a parser and of its commands."""
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from helps(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_cards_comments_and_reports_are_plain_english(page: Path) -> None:
    assert stumbled(page.read_text(encoding="utf-8")) == []


def test_help_is_plain_english() -> None:
    texts = list(helps(build_parser()))
    assert len(texts) > 8 and [phrase for text in texts for phrase in stumbled(text)] == []


def test_messages_are_plain_english() -> None:
    files = sorted((ROOT / "custom").rglob("*.py"))
    found = {
        str(file.relative_to(ROOT)): phrases
        for file in files
        if (phrases := [phrase for text in strings(file.read_text(encoding="utf-8")) for phrase in stumbled(text)])
    }
    assert len(files) > 100 and found == {}


@pytest.mark.parametrize(
    "text",
    [
        "the file must exist, but there is none",
        "a row\na study",
        "# take it\n# anew",
        "any knob of a config",
        "data base",
    ],
)
def test_phrases_are_found_also_across_lines(text: str) -> None:
    assert len(stumbled(text)) == 1


def test_names_in_code_and_template_tags_do_not_count() -> None:
    assert stumbled("`knobs` is called `parameters` {{ 'a' if b is none else 'c' }}; none of it is none of these") == []
