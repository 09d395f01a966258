"""nomaly parameters: all parameters of a bundle with meaning and default."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from custom.commands.bundle import find_bundle, path_of
from custom.commands.help import line_width, wrapped
from custom.errors import NomalyError

EXPRESSIONS = "Defaults that begin with $ are expressions and follow from other parameters."
MEANINGS = Path("docs") / "parameters.json"
CONFIGS = {"train": "train", "adapt": "adapt", "calibrate": "calibrate", "evaluate": "evaluate", "detect": "inference"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a bundle.

    Args:
        name: as it is given to a command, after --.
        meaning: in words.
        defaults: its value as JSON by the name of the command.
    """

    name: str
    meaning: str
    defaults: Mapping[str, str]

    @property
    def common(self) -> str | None:
        """The default of all commands; None where they differ."""
        values = set(self.defaults.values())
        return values.pop() if len(values) == 1 else None


def run(bundle: str, command: str | None = None, as_json: bool = False) -> int:
    """Print the parameters of a bundle.

    Args:
        bundle: name or path.
        command: whose parameters are listed; None = of all commands.
        as_json: whether they are printed as JSON.

    Raises:
        NomalyError: no such bundle, or one without the meanings of its parameters.
    """
    groups = parameters_of(find_bundle(bundle), command)
    if as_json:
        print(json.dumps({title: [asdict(each) for each in group] for title, group in groups.items()}, indent=2))
        return 0
    of = f"nomaly {command}" if command else "the commands"
    print(wrapped(f"Parameters of {bundle} for {of}. Give one as an option, such as --seed 1. {EXPRESSIONS}"))
    for title, group in groups.items():
        print(f"\n{title}:")
        for parameter in group:
            print("\n".join(described(parameter)))
    return 0


def described(parameter: Parameter) -> list[str]:
    """Lines about a parameter: name with default, then meaning."""
    if parameter.common is not None:
        lines = [f"  {parameter.name} = {parameter.common}"]
    else:
        lines = [f"  {parameter.name} = {value} ({command})" for command, value in parameter.defaults.items()]
    return [*lines, textwrap.fill(parameter.meaning, line_width(), initial_indent=" " * 6, subsequent_indent=" " * 6)]


def parameters_of(folder: Path, command: str | None = None) -> dict[str, list[Parameter]]:
    """The parameters of a bundle by title, of one command or of all.

    Raises:
        NomalyError: if the bundle has no file with the meanings.
    """
    path = folder / MEANINGS
    if not path.is_file():
        raise NomalyError(f"{folder} has no {MEANINGS}: render it with `python scripts/render_bundles.py`.")
    sections = json.loads(path.read_text(encoding="utf-8"))
    sections = {title: section for title, section in sections.items() if not title.startswith("_")}
    shown = [command] if command else list(CONFIGS)
    configs = {name: json.loads(path_of(folder, CONFIGS[name]).read_text(encoding="utf-8")) for name in shown}
    # A parameter of the section of one command, such as output_dir, is not repeated in a section of all commands.
    own = {
        (section["configs"][0], name)
        for section in sections.values()
        for name in section["parameters"]
        if len(section["configs"]) == 1
    }
    groups: dict[str, list[Parameter]] = {}
    for title, section in sections.items():
        chosen = [name for name in shown if CONFIGS[name] in section["configs"]]
        for name, meaning in section["parameters"].items():
            defaults = {
                each: json.dumps(configs[each][name])
                for each in chosen
                if name in configs[each] and (len(section["configs"]) == 1 or (CONFIGS[each], name) not in own)
            }
            if defaults:
                groups.setdefault(title, []).append(Parameter(name, meaning, defaults))
    return groups
