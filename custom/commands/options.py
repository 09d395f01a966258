"""Options of all programs of this project: one spelling, switches, and the nearest name for a misspelt one.

Standard library only: help and mistakes appear at once, also where nothing has been installed yet.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from custom.earlier_names import PARAMETERS, current_name
from custom.errors import escape_unprintable

NO = "no_"  # --no_NAME sets NAME to false
TRUTH = {"true": True, "1": True, "false": False, "0": False}


def spelled(word: str) -> str:
    """An option with underscores and without earlier names, such as ``--max_epochs=3`` for ``--max-epochs=3``; any
    other word unchanged.
    """
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    name = name.replace("-", "_")
    no = NO if name.startswith(NO) else ""
    name = current_name(name.removeprefix(no), PARAMETERS)
    if name.startswith(NO):  # the opposite of the earlier name
        name, no = name.removeprefix(NO), "" if no else NO
    return f"--{no}{name}{equals}{value}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant; None if no name is similar."""
    return next(iter(difflib.get_close_matches(name, list(names), 1, 0.65)), None)


def choices(name: str, names: Sequence[str], kind: str) -> str:
    """The next step after an unknown name: the nearest one, if it is similar, and all of this kind."""
    meant = nearest(name, names)
    return f"did you mean {meant}? The {kind} are {', '.join(names)}" if meant else f"choose one of {', '.join(names)}"


def truth(text: str) -> bool:
    """The value of an option that is true or false.

    Raises:
        ArgumentTypeError: for any other text.
    """
    if text.lower() not in TRUTH:
        raise argparse.ArgumentTypeError(f"must be true or false, got {text}")
    return TRUTH[text.lower()]


def add_switch(group: argparse._ActionsContainer, name: str, text: str, shown: bool = True) -> None:
    """Add ``--name`` and ``--no_name``, of which the help shows the one that ``shown`` chooses; None if neither is
    given. ``--name true`` and ``--name=false`` are accepted, as for any parameter.
    """
    for option, value in ((f"--{name}", True), (f"--{NO}{name}", False)):
        group.add_argument(
            option,
            dest=name,
            action="store_const",
            const=value,
            help=text if value == shown else argparse.SUPPRESS,
        )


class OptionParser(argparse.ArgumentParser):
    """Options in any order and with hyphens or underscores; a mistake is one sentence and exit code 2."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **settings}
        super().__init__(*args, **settings)
        self._parameters: list[str] = []

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """As argparse; the remainder is ``--parameter value`` pairs, then words that have no place."""
        escape_unprintable()
        words = [spelled(word) for word in (sys.argv[1:] if args is None else args)]
        own, self._parameters = self._split(words)
        options, rest = super().parse_known_args(own, namespace)
        return options, [*self._parameters, *rest]

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """As argparse, for a program without parameters."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            self.refuse(rest[0])
        return options

    def refuse(self, word: str) -> NoReturn:
        """End with code 2 over a word that has no place."""
        name = word.partition("=")[0]
        self.error(f"unknown option {name}" if name.startswith("-") else f"unexpected word {word}")

    def names(self) -> list[str]:
        """The options that the help shows."""
        return [
            option
            for action in self._actions
            for option in action.option_strings
            if action.help != argparse.SUPPRESS and option.startswith("--")
        ]

    def error(self, message: str) -> NoReturn:
        """End with code 2 and the message in one line; a misspelt option may be the reason for it."""
        unknown = [word.partition("=")[0] for word in self._parameters]
        meant = [
            f"did you mean {near} instead of {name}? See" for name in unknown if (near := nearest(name, self.names()))
        ]
        self.exit(2, f"{self.prog}: {message}: {meant[0] if meant else 'see'} {self.prog} --help.\n")

    def _split(self, words: list[str]) -> tuple[list[str], list[str]]:
        """Positional words followed by options, and parameters: argparse would take a parameter's value for a study,
        and a study behind a switch for its value.
        """
        positional: list[str] = []
        options: list[str] = []
        parameters: list[str] = []
        while words:
            word = words.pop(0)
            name = word.partition("=")[0]
            action = self._option_string_actions.get(name)
            if word == "--":
                positional += words
                break
            elif not word.startswith("-") or word == "-":
                positional.append(word)
            elif action is None:
                parameters += [word, *_values(word, 0 if name.startswith(f"--{NO}") else 1, words)]
            elif isinstance(action, argparse._StoreConstAction):
                options.append(self._switch(word, words))
            else:
                options += [word, *_values(word, _most_values(action), words)]
        return [*positional, *options], parameters

    def _switch(self, word: str, words: list[str]) -> str:
        """A switch without its value: ``--resume false`` is ``--no_resume``."""
        name, equals, value = word.partition("=")
        if not equals:
            value = words.pop(0) if words and words[0].lower() in TRUTH else "true"
        if value.lower() not in TRUTH:
            self.error(f"{name} must be true or false, got {value}")
        plain = name[2:].removeprefix(NO)
        return name if TRUTH[value.lower()] else f"--{'' if name[2:].startswith(NO) else NO}{plain}"


def _most_values(action: argparse.Action) -> int | None:
    """How many words may follow an option; None for any number."""
    if action.nargs is None:
        return 1
    return action.nargs if isinstance(action.nargs, int) else None


def _values(word: str, most: int | None, words: list[str]) -> list[str]:
    """Take the values that follow an option from the words."""
    values: list[str] = []
    while "=" not in word and words and not words[0].startswith("--") and (most is None or len(values) < most):
        values.append(words.pop(0))
    return values
