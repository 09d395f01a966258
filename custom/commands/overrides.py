"""Words of a command line as parameters of a config."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from custom.earlier_names import PARAMETERS, current_name
from custom.errors import NomalyError


def refuse(overrides: dict[str, Any], command: str) -> None:
    """Refuse parameters where there is no config that could have them."""
    if overrides:
        raise NomalyError(f"{command} has no option --{next(iter(overrides))}: see nomaly {command} --help.")


def truth(text: str) -> bool:
    """true or false, as an option's value."""
    if literal(text) not in (True, False):
        raise argparse.ArgumentTypeError(f"must be true or false, got {text}")
    return bool(literal(text))


def given(options: argparse.Namespace, *names: str, **renamed: str) -> dict[str, Any]:
    """The options that were given, as config parameters."""
    pairs = {name: name for name in names} | renamed
    return {
        parameter: getattr(options, name) for name, parameter in pairs.items() if getattr(options, name) is not None
    }


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """``--parameter value`` pairs, values as Python or JSON literals where they are such, else text.

    Raises:
        NomalyError: if a word is not ``--parameter value`` or ``--parameter=value``.
    """
    overrides: dict[str, Any] = {}
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise NomalyError(f"options must be --parameter value, got {word}: see nomaly COMMAND --help.")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                raise NomalyError(f"--{name} must have a value: give --{name} VALUE.")
            value = words.pop(0)
        overrides[current_name(name, PARAMETERS)] = literal(value)
    return overrides


def literal(text: str) -> Any:
    """A number, list, true, false or null, else the text itself."""
    named = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError):
            return read(text)
    return text
