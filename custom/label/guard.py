"""Requests that are refused before they reach MONAI Label: paths as names, archives, bodies that fill the disk."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

GIB = 2**30
LARGEST_BODY = 4 * GIB  # bytes; 2000 CT slices of 512 x 512 take 1 GiB
NAMES = ("image", "id", "label", "tag", "session_id")  # of requests; MONAI Label builds paths from them

Message = MutableMapping[str, Any]  # of ASGI: scopes and events
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware that answers a forbidden request with the reason as ``detail``, as MONAI Label does.

    Args:
        app: the server.
        largest_body: of a request, in bytes.
    """

    def __init__(self, app: Application, largest_body: int = LARGEST_BODY) -> None:
        self.app = app
        self.largest_body = largest_body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        refusal = self.refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
            return
        status, reason = refusal
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"detail": reason}).encode()})

    def refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason of a refusal; None if the request is allowed."""
        if ".." in scope["path"].split("/"):
            return 404, f"the path must not contain .., got {scope['path']!r}: give the name itself."
        for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
            if name in NAMES and not is_plain(value):
                return 404, not_plain(name, value)
            if name == "uncompress" and value.lower() not in ("false", "0"):  # an archive may write anywhere
                return 422, f"uncompress must be left out, got {value!r}: send the files of a series one by one."
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            return 411, "the request must state its length (Content-Length), but is sent in chunks: send it as a whole."
        length = int(headers.get(b"content-length", 0))
        if length > self.largest_body:
            return 413, (
                f"a request must have at most {self.largest_body / GIB:g} GiB, got {length / GIB:.1f}: put the study "
                "into the studies folder, and give its name."
            )
        return None


def is_plain(name: Any) -> bool:
    """Whether a name in a request is not a path."""
    return isinstance(name, str) and not name.startswith(".") and not {*name} & {"/", "\\", "\0"}


def not_plain(name: str, value: Any) -> str:
    """Why a name was refused."""
    return (
        f"{name} must be a name without / and \\ that does not begin with a dot, got {value!r}: paths are not accepted."
    )
