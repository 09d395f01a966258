"""Whether a server that the user named is there: standard library alone."""

from __future__ import annotations

import ssl
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

LONGEST_WAIT = 10  # seconds; those who use the servers would try for minutes


def why_unreachable(address: str) -> str:
    """The reason why nothing answers at an address (http or https); "" if something does."""
    try:
        urlopen(address, timeout=LONGEST_WAIT).close()
    except HTTPError:  # it wants a password, or has no such page: its clients know better
        return ""
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return "" if isinstance(reason, ssl.SSLError) else str(reason)  # its clients may trust other certificates
    return ""
