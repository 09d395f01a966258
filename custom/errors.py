"""The one exception for mistakes that a user can fix."""

from __future__ import annotations

import io
import sys


class NomalyError(ValueError):
    """A wrong input, setting or data set. Its text names the parameter, the rule, the value and the next step.

    The command line prints only this text, without a traceback.
    """


def find_mistake(error: BaseException | None) -> NomalyError | None:
    """Find the user's mistake behind an exception, or None; MONAI wraps a component's error in its own."""
    while error is not None:
        if isinstance(error, NomalyError):
            return error
        error = error.__cause__ or error.__context__
    return None


def report_mistake(program: str, error: Exception) -> None:
    """Print the user's mistake behind an exception to standard error; raise any other exception again."""
    mistake = find_mistake(error)
    if mistake is None:
        raise error
    print(f"{program}: {mistake}", file=sys.stderr)


def root_cause(error: BaseException) -> str:
    """Return the text of the user's mistake behind an exception, else that of the innermost exception."""
    mistake = find_mistake(error)
    if mistake is not None:
        return str(mistake)
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {error}"


def escape_unprintable() -> None:
    """Let print() write characters that the encoding of the console lacks as escapes, such as \\u5317, not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
