"""What is refused before MONAI Label sees it: names that are paths, archives, and bodies that would fill the disk."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

GIB = 2**30
LARGEST_BODY = 4 * GIB  # bytes; 2000 CT slices of 512 x 512 take 1 GiB
NAMES = ("image", "id", "label", "tag", "session_id")  # of requests; MONAI Label makes paths of them


class Guard:
    """ASGI middleware that answers what may not be asked with the reason as ``detail``, as MONAI Label does.

    Args:
        app: the server.
        largest_body: of a request, in bytes.
    """

    def __init__(self, app: Callable, largest_body: int = LARGEST_BODY) -> None:
        self.app = app
        self.largest_body = largest_body

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable[[dict], Awaitable]) -> None:
        """Pass the request on, or answer it."""
        refusal = self.refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
            return
        status, reason = refusal
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"detail": reason}).encode()})

    def refusal(self, scope: dict[str, Any]) -> tuple[int, str] | None:
        """Status and reason of a refusal; None if there is none."""
        if ".." in scope["path"].split("/"):
            return 404, f"the path must not hold .., got {scope['path']!r}: name what is asked for."
        for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
            if name in NAMES and not is_plain(value):
                return 404, not_plain(name, value)
            if name == "uncompress" and value.lower() not in ("false", "0"):  # archives may write anywhere
                return 422, f"uncompress must be left out, got {value!r}: send the files of a series one by one."
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            return 411, "the request must tell its length (Content-Length), but is sent in chunks: send it as a whole."
        length = int(headers.get(b"content-length", 0))
        if length > self.largest_body:
            return 413, (
                f"a request must have at most {self.largest_body / GIB:g} GiB, got {length / GIB:.1f}: put the study "
                "into the studies folder, and name it."
            )
        return None


def is_plain(name: Any) -> bool:
    """Whether a name of a request is no path."""
    return isinstance(name, str) and not name.startswith(".") and not {*name} & {"/", "\\", "\0"}


def not_plain(name: str, value: Any) -> str:
    """Why a name was refused."""
    return f"{name} must be a name without / and \\ that does not begin with a dot, got {value!r}: no path is taken."
