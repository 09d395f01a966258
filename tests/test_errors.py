"""Errors and names reach the console whatever its encoding."""

from __future__ import annotations

import io
import sys

import pytest

from custom.commands.options import OptionParser


def test_name_that_the_console_cannot_show_is_printed_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True)
    monkeypatch.setattr(sys, "stdout", console)
    with pytest.raises(UnicodeEncodeError):
        print("films/\u5317\u4eac")
    OptionParser().parse_args([])
    print("films/\u5317 and \u00e9")
    assert console.buffer.getvalue().strip() == b"films/\\u5317 and \xe9"


def test_command_line_prints_a_file_that_its_console_cannot_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from custom import cli

    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True)
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setitem(cli.RUN, "demo", lambda options, overrides: print("\u5317"))
    assert cli.main(["demo", "--bundle=ra_chest"]) == 0
    assert b"\\u5317" in console.buffer.getvalue()
