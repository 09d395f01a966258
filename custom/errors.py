"""The one exception for mistakes a user can make and mend."""

from __future__ import annotations


class NomalyError(ValueError):
    """A wrong input, setting or data set. Its text names the parameter, the rule, the value and the next step.

    The command line prints the text alone, without a traceback.
    """
