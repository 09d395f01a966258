"""What is refused before MONAI Label sees it."""

from __future__ import annotations

import asyncio
import json

import pytest

from custom.label.guard import Guard, is_plain


def ask(path: str = "/infer/ra_brain", query: str = "", headers: dict[str, str] | None = None, kind: str = "http"):
    """Status and reason of the answer to a request; None, None if it was passed on."""
    sent = []

    async def app(scope, receive, send):
        sent.append({"passed": True})

    async def send(message):
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": pairs}
    asyncio.run(Guard(app, largest_body=2**30)(scope, None, send))
    if sent == [{"passed": True}]:
        return None, None
    start, body = sent
    return start["status"], json.loads(body["body"])["detail"]


@pytest.mark.parametrize(
    "query", ["", "image=head1&output=json", "image=1.2.840.113", "image=a..b", "uncompress=false", "client_id=/x"]
)
def test_names_are_passed_on(query):
    assert ask(query=query, headers={"content-length": str(2**30)}) == (None, None)


@pytest.mark.parametrize(
    "query, name",
    [
        ("image=../../etc/passwd", "image"),
        ("image=/etc/passwd", "image"),
        ("output=json&image=%2e%2e%2fx", "image"),
        ("image=..%5Cx", "image"),
        ("image=.hidden", "image"),
        ("image=x%00.png", "image"),
        ("image=head1&tag=../../x", "tag"),
        ("id=../x", "id"),
        ("label=a/b", "label"),
        ("session_id=../../x", "session_id"),
        ("image=head1&image=../x", "image"),
    ],
)
def test_paths_are_refused_in_the_place_of_names(query, name):
    status, reason = ask(query=query)

    assert status == 404 and reason.startswith(
        f"{name} must be a name without / and \\ that does not begin with a dot,"
    )


def test_path_of_a_request_stays_inside():
    assert ask("/session/..")[0] == 404
    assert ask("/session/a..b") == (None, None)


def test_archives_are_refused():
    assert ask("/session/", "uncompress=true") == (
        422,
        "uncompress must be left out, got 'true': send the files of a series one by one.",
    )


def test_bodies_that_are_too_large_or_do_not_tell_are_refused():
    status, reason = ask(headers={"content-length": str(3 * 2**30)})
    assert status == 413 and reason.startswith("a request must have at most 1 GiB, got 3.0: put the study into the")
    assert ask(headers={"transfer-encoding": "chunked"})[0] == 411


def test_what_is_no_request_is_passed_on():
    assert ask("..", kind="lifespan") == (None, None)


@pytest.mark.parametrize("name", [None, 3, ["a"], "", "a", "a b"])
def test_only_texts_are_names(name):
    assert is_plain(name) == isinstance(name, str)
