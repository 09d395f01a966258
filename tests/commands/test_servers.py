"""Whether a server is there."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.error import URLError

import pytest

from custom.commands.servers import why_unreachable


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Address of a server that answers with these bytes."""
    servers: list[HTTPServer] = []

    def serve(answer: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                self.rfile.readline()
                self.wfile.write(answer)

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/dicom-web"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized", b"404 Not Found", b"500 Internal Server Error"])
def test_server_that_answers_anything_is_there(answering, status: bytes) -> None:
    assert why_unreachable(answering(b"HTTP/1.0 " + status + b"\r\n\r\n")) == ""


def test_what_is_no_web_server_is_told(answering) -> None:
    assert "SSH-2.0" in why_unreachable(answering(b"SSH-2.0-OpenSSH\r\n"))


def test_port_on_which_nobody_listens_is_told_by_the_reason_alone() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reason = why_unreachable(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert reason.endswith("Connection refused") and "urlopen" not in reason


@pytest.mark.parametrize("address", ["http://", "http://a b", "http://127.0.0.1:port"])
def test_what_is_no_address_is_told(address: str) -> None:
    assert why_unreachable(address)


def test_certificate_is_left_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_, **__) -> None:
        raise URLError(ssl.SSLCertVerificationError("self-signed certificate"))

    monkeypatch.setattr("custom.commands.servers.urlopen", refuse)
    assert why_unreachable("https://127.0.0.1") == ""
