"""Words of a command line as overrides of config parameters."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from custom.commands.options import NO, TRUTH, spelled
from custom.errors import NomalyError


def given(options: argparse.Namespace, *names: str, **renamed: str) -> dict[str, Any]:
    """The options that were given, as config parameters."""
    pairs = {name: name for name in names} | renamed
    return {
        parameter: getattr(options, name) for name, parameter in pairs.items() if getattr(options, name) is not None
    }


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Read ``--parameter value``, ``--parameter=value`` and ``--no_parameter`` (false).

    Names may have hyphens instead of underscores; earlier names are accepted with a warning. A value is a Python or
    JSON literal if it can be read as one, otherwise text.

    Raises:
        NomalyError: if a word has none of these forms.
    """
    overrides: dict[str, Any] = {}
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise NomalyError(f"unexpected word {word}: write parameters as --parameter value.")
        name, equals, value = spelled(word)[2:].partition("=")
        if name.startswith(NO):
            text = value if equals else words.pop(0) if words and words[0].lower() in TRUTH else "true"
            overrides[name.removeprefix(NO)] = not literal(text)
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                raise NomalyError(f"--{name} must have a value: give --{name} VALUE.")
            value = words.pop(0)
        overrides[name] = literal(value)
    return overrides


def literal(text: str) -> Any:
    """A number, list, true, false or null, else the text itself."""
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError):
            return read(text)
    return text
