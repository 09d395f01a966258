"""The MONAI Label server in its own environment, and requests as a viewer makes them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.servers import environment_of, needs_environment

ROOT = Path(__file__).parents[2]
VENV = environment_of("label")
NEEDS_LABEL = needs_environment("label")
LONGEST_START = 120  # seconds, on a busy machine
RENAMED = "films of site B (2)"  # a copy of ra_chest


@dataclass
class Server:
    """A server that runs: its address, its studies and the folder that it may pass files through."""

    address: str
    studies: Path
    passing: Path

    def get(self, path: str) -> dict:
        """Answer to a GET."""
        return json.loads(self.request("GET", path)[1])

    def infer(self, model: str, image: str = "", output: str = "", params: dict | None = None, file=None, **query):
        """Status and body of an infer request; `file` = (name, bytes)."""
        words = "".join(f"&{name}={quote(value)}" for name, value in ({"output": output} | query).items() if value)
        files = [("file", *file)] if file else []
        return self.request(
            "POST", f"/infer/{quote(model)}?image={quote(image)}{words}", {"params": params or {}}, files
        )

    def request(self, method: str, path: str, fields: dict | None = None, files: list | None = None):
        """Status and body of a multipart request."""
        mark, parts = uuid.uuid4().hex, []
        for name, value in (fields or {}).items():
            parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{json.dumps(value)}'.encode())
        for name, filename, content in files or []:
            head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
            parts.append(head.encode() + content)
        body = b"".join(b"--%s\r\n%s\r\n" % (mark.encode(), part) for part in parts) + f"--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"} if parts else {}
        data = body if parts else None
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(*words: str | Path) -> list[str]:
    """Command line of the server."""
    return ["bash", str(ROOT / "scripts" / "monai_label.sh"), *map(str, words)]


@contextmanager
def run_server(words: list[str | Path], port: int, studies: Path, log: Path, **parameters) -> Iterator[Server]:
    """A server for as long as it is needed; its end is seen to be an orderly one."""
    passing = log.with_name("passing")
    passing.mkdir()
    environment = {**os.environ, "TMPDIR": str(passing), "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    with open(log, "w") as stream:
        words = [*map(str, words), "--studies", str(studies), "--port", str(port)]
        process = subprocess.Popen(words, env=environment, stdout=stream, stderr=subprocess.STDOUT, **parameters)
        try:
            running = Server(f"http://127.0.0.1:{port}", studies, passing)
            wait_for(running, process, log)
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 0, log.read_text()
    assert list(passing.glob("nomaly-label-*")) == []  # nothing of a patient stays behind


def wait_for(server: Server, process: subprocess.Popen, log: Path) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + LONGEST_START
    while time.monotonic() < end and process.poll() is None:
        try:
            server.get("/info/")
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()}")
