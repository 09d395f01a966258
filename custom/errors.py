"""The one exception for mistakes a user can make and mend."""

from __future__ import annotations

import sys


class NomalyError(ValueError):
    """A wrong input, setting or data set. Its text names the parameter, the rule, the value and the next step.

    The command line prints the text alone, without a traceback.
    """


def find_mistake(error: BaseException | None) -> NomalyError | None:
    """The user's mistake behind an exception, if there is one; MONAI wraps a component's error in its own."""
    while error is not None:
        if isinstance(error, NomalyError):
            return error
        error = error.__cause__ or error.__context__
    return None


def tell(program: str, error: Exception) -> None:
    """Say on standard error the user's mistake behind an exception; one that is none is raised again."""
    mistake = find_mistake(error)
    if mistake is None:
        raise error
    print(f"{program}: {mistake}", file=sys.stderr)


def root_cause(error: BaseException) -> str:
    """Text of the user's mistake behind an exception if there is one, else of the innermost exception."""
    mistake = find_mistake(error)
    if mistake is not None:
        return str(mistake)
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {error}"
