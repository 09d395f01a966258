"""MkDocs hook: fills the marks ``<!-- generated: NAME -->`` of pages, and adds pages from files of the repository."""

from __future__ import annotations

import argparse
import inspect
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import yaml
from mkdocs.structure.files import File, Files

from custom.commands.parameters import Parameter, parameters_of
from custom.commands.parser import build_parser

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "bundles" / "_base"
BUNDLES = {path.parent.name: path.parent for path in sorted(ROOT.glob("bundles/*/variant.json"))}
COMPLETE = ("train", "adapt", "calibrate", "evaluate", "inference")  # the configs that run as they are
MARKER = re.compile(r"<!-- generated: (\w+)(?: (\w+))? -->")
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")

# Files of the repository that are pages or pictures of the site, too: path in the repository -> path in docs/.
SHARED = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    **{f"bundles/{name}/docs/README.md": f"bundles/{name}.md" for name in BUNDLES},
    "bundles/ra_chest/docs/report.png": "bundles/report.png",
}


# Events of MkDocs


def on_files(files: Files, config: Any) -> Files:
    """Add the shared files."""
    for source, target in SHARED.items():
        path = ROOT / source
        if path.suffix == ".md":
            files.append(File.generated(config, target, content=site_links(path.read_text(encoding="utf-8"), source)))
        else:
            files.append(File.generated(config, target, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the markers, and lead links to shared files to their pages."""
    source = page.file.src_uri
    text = markdown if source in SHARED.values() else site_links(markdown, f"docs/{source}")
    return MARKER.sub(lambda match: GENERATED[match[1]](*filter(None, [match[2]])), text)


# Links


def site_links(markdown: str, source: str) -> str:
    """Markdown of a file of the repository, such as "docs/index.md", with the links that its page on the site needs."""
    return LINK.sub(lambda match: f"{match[1]}{site_link(match[2], source)}{match[3] or ''}{match[4]}", markdown)


def site_link(target: str, source: str) -> str:
    """A link of a file of the repository, relative to the file's page on the site; other links as they are."""
    if ":" in target:
        return target
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    page = SHARED.get(source) or source.removeprefix("docs/")
    goal = SHARED.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
    return target if goal is None else posixpath.relpath(goal, posixpath.dirname(page) or ".")


# Commands


def commands() -> str:
    """All commands with all their options."""
    parser = build_parser()
    parts = [sentence(parser.description), preformatted(parser.epilog)]
    for name, command in subcommands(parser).items():
        parts += [f"## nomaly {name}", sentence(command.description), f"```text\n{usage(name, command)}\n```"]
        parts += [table(("argument", "meaning"), argument_rows(command)), preformatted(command.epilog)]
    return "\n\n".join(part for part in parts if part)


def preformatted(text: str | None) -> str:
    """Tables and examples of a help text, with their line breaks; the list of bundles has its own page."""
    parts = [part for part in (text or "").split("\n\n") if not part.startswith("bundles:")]
    return "```text\n{}\n```".format("\n\n".join(parts)) if parts else ""


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Parsers of the commands by name."""
    return next(dict(a.choices) for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def argument_rows(command: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Spelling and meaning of each argument but --help."""
    for action in command._actions:
        if not isinstance(action, argparse._HelpAction):
            text = (action.help or "") % {"default": action.default}
            required = " (required)" if action.required and action.option_strings else ""
            yield f"`{spelling(action)}`", sentence(text + required)


def usage(name: str, command: argparse.ArgumentParser) -> str:
    """What must be given, in one line."""
    words = [spelling(action) for action in command._actions if action.required]
    return " ".join(["nomaly", name, *words, "[--option VALUE ...]"])


def spelling(action: argparse.Action) -> str:
    """An argument as it is documented: options with underscores."""
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return metavar + (" ..." if action.nargs in ("+", "*") else "")
    option = max(action.option_strings, key=len).lstrip("-").replace("-", "_")
    value = "" if action.nargs in (0, "?") else f" {action.metavar or option.upper()}"
    return f"--{option}{value}{' ...' if action.nargs == '+' else ''}"


# Parameters


def parameters(bundle: str) -> str:
    """All parameters of a bundle with value and meaning."""
    variant = json.loads((BUNDLES[bundle] / "variant.json").read_text())
    parts = [
        f"`{bundle}` combines the method `{variant['method']}` with the images `{variant['images']}`. **Bold** values "
        "are set in its `variant.json`. Give a parameter as an option of a command, such as `--seed 1`. Values that "
        "begin with `$` are expressions and follow from other parameters."
    ]
    for title, parameters in parameters_of(BUNDLES[bundle]).items():
        rows = [(setting(each, each.name in variant["parameters"]), sentence(each.meaning)) for each in parameters]
        parts += [f"## {title}", table(("parameter and value", "meaning"), rows)]
    parts += ["## Overlays", "Give an overlay as `--overlay NAME`, for example `--overlay demo`.", overlays(bundle)]
    return "\n\n".join(parts)


def config_path(bundle: str, name: str) -> Path:
    """File of a rendered config."""
    return BUNDLES[bundle] / "configs" / f"{name}.json"


def setting(parameter: Parameter, own: bool) -> str:
    """A parameter and its value, or its values where configs differ."""
    if parameter.common is None:
        return f"`{parameter.name}`: " + ", ".join(f"`{value}` ({name})" for name, value in parameter.defaults.items())
    return f"`{parameter.name}` = " + (f"**`{parameter.common}`**" if own else f"`{parameter.common}`")


def overlays(bundle: str) -> str:
    """Overlays of a bundle: what each is for and what it sets."""
    variant = json.loads((BUNDLES[bundle] / "variant.json").read_text())
    rows = []
    for path in sorted([*BASE.glob("*.yaml"), *(BASE / variant["method"]).glob("*.yaml")], key=lambda path: path.stem):
        text = path.read_text(encoding="utf-8")
        if "_overlay_: true" in text and config_path(bundle, path.stem).is_file():
            purpose = " ".join(re.findall(r"^# ?(?! )(.*)", text.split("_overlay_")[0], re.MULTILINE))
            config = json.loads(config_path(bundle, path.stem).read_text())
            plain = {name: json.dumps(value) for name, value in config.items() if is_setting(name, value)}
            rows.append((f"`{path.stem}`", purpose, "<br>".join(f"`{n}` = `{v}`" for n, v in plain.items())))
    return table(("overlay", "purpose", "sets"), rows)


def is_setting(name: str, value: Any) -> bool:
    """Whether a key of an overlay is a plain value."""
    return bool(re.fullmatch(r"(?!initialize|finalize)[a-z]\w*", name)) and not isinstance(value, dict)


# Tables of results


def columns(name: str) -> str:
    """Columns of results.csv or regions.csv with their meaning, from the record that a row is written from."""
    from custom.runs.tables import RegionResult, StudyResult  # imports torch

    record = {"results": StudyResult, "regions": RegionResult}[name]
    meaning = documented_arguments(inspect.getdoc(record) or "")
    return table(("column", "meaning"), ((f"`{column}`", meaning[column]) for column in record.__dataclass_fields__))


def documented_arguments(docstring: str) -> dict[str, str]:
    """Names and texts of the section "Args" of a docstring, "x, y: text" under both names."""
    section = re.search(r"^Args:\n(.*?)(?:^\S|\Z)", docstring, re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: sentence(" ".join(text.split())) for names, text in entries for name in names.split(", ")}


# Packages


def packages() -> str:
    """The packages of custom/ from the highest to the lowest, as a figure."""
    purposes = yaml.safe_load((ROOT / "docs" / "rooms.yaml").read_text(encoding="utf-8"))
    return f'<div class="figure">{packages_figure(purposes)}</div>'


def packages_figure(purposes: dict[str, str]) -> str:
    """SVG of packages and their purposes, which are given from the lowest to the highest."""
    height = 30
    rows = [package_row(name, text, height * row) for row, (name, text) in enumerate(reversed(purposes.items()))]
    end = height * len(rows)
    arrow = f'<path d="M14 6 V{end - 12} m-6 -8 l6 8 l6 -8" fill="none" stroke="currentColor"/>'
    title = "<title>Packages of Nomaly: each imports only packages below it</title>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 {end}" role="img" font-size="13">'
        f'{title}{arrow}{"".join(rows)}</svg>'
    )


def package_row(name: str, purpose: str, y: int) -> str:
    """A package's box and its purpose."""
    box = f'<rect x="34" y="{y + 3}" width="130" height="24" rx="4" fill="#00968833" stroke="#009688"/>'
    label = f'<text x="44" y="{y + 20}" font-weight="bold">{name}</text>'
    return f'{box}{label}<text x="178" y="{y + 20}">{escape(purpose)}</text>'


def study_path() -> str:
    """The way of a study from file to report, as a figure."""
    return f'<div class="figure">{(ROOT / "docs/architecture/study_path.svg").read_text(encoding="utf-8")}</div>'


# Markdown


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def sentence(text: str | None) -> str:
    """Text with a capital at its start and a full stop at its end; options are written with underscores."""
    if not text:
        return ""
    text = re.sub(r"--[a-z]+(?:-[a-z]+)+", lambda option: "--" + option[0][2:].replace("-", "_"), text)
    first = text.split()[0]
    start = (
        text[0] if "." in first or "_" in first else text[0].upper()
    )  # names of files and parameters stay as they are
    return start + text[1:] + ("" if text.endswith((".", "?")) else ".")


GENERATED = {
    "commands": commands,
    "parameters": parameters,
    "columns": columns,
    "packages": packages,
    "study_path": study_path,
}
