"""Whether a server that the user named answers; standard library only."""

from __future__ import annotations

import ssl
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

LONGEST_WAIT = 10  # seconds; the clients of these servers would try for minutes


def why_unreachable(address: str) -> str:
    """The reason why no server answers at an address (http or https); "" if one does."""
    try:
        urlopen(address, timeout=LONGEST_WAIT).close()
    except HTTPError:  # it requires a password, or has no such page: its clients know more
        return ""
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return "" if isinstance(reason, ssl.SSLError) else str(reason)  # its clients may accept other certificates
    return ""
