from __future__ import annotations

import builtins
import errno
import os
import stat

import pytest

from custom import files
from custom.errors import NomalyError
from custom.files import atomic_write


def fill_disk_on_write(monkeypatch):
    """Let every file that `files` opens report a full disk on its first write."""

    def open_on_full_disk(*args, **kwargs):
        stream = builtins.open(*args, **kwargs)

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *exc):
                stream.close()

            def write(self, content):
                stream.write(content[:1])  # a part arrives, as on a real disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(files, "open", open_on_full_disk, raising=False)


def test_full_disk_keeps_old_content_and_removes_temporary(tmp_path, monkeypatch):
    target = tmp_path / "results.csv"
    target.write_text("old")
    fill_disk_on_write(monkeypatch)
    with pytest.raises(NomalyError, match=r"Cannot write .*results\.csv: No space left.*unchanged.*free some space"):
        with atomic_write(target) as stream:
            stream.write("new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.csv"]


def test_exception_of_the_caller_passes_and_leaves_old_content(tmp_path):
    target = tmp_path / "run.json"
    target.write_text("old")
    with pytest.raises(KeyError, match="theirs"):
        with atomic_write(target) as stream:
            stream.write("half")
            raise KeyError("theirs")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]


def test_oserror_about_another_file_is_not_blamed_on_target(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        with atomic_write(tmp_path / "run.json"):
            open(tmp_path / "elsewhere" / "input.nii")
    assert os.listdir(tmp_path) == []


def test_parent_that_is_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NomalyError, match=r"out/run\.json.*Next step"):
        with atomic_write(tmp_path / "out" / "run.json") as stream:
            stream.write("x")


def test_target_that_is_a_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(NomalyError, match="a folder has this name"):
        with atomic_write(tmp_path / "run.json") as stream:
            stream.write("x")
    assert os.listdir(tmp_path) == ["run.json"]


def test_bytes_and_text_arrive_unchanged_in_new_folders(tmp_path):
    with atomic_write(tmp_path / "a" / "b.png", "wb") as stream:
        stream.write(b"\x89PNG\r\n")
    with atomic_write(tmp_path / "a" / "c.txt") as stream:
        stream.write("mm²\nline\r\n")
    assert (tmp_path / "a" / "b.png").read_bytes() == b"\x89PNG\r\n"
    assert (tmp_path / "a" / "c.txt").read_bytes() == "mm²\nline\r\n".encode()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_new_file_follows_the_umask_of_the_user(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "shared.csv") as stream:
            stream.write("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "shared.csv").stat().st_mode) == 0o640


def test_windows_rename_is_tried_again_while_another_program_has_the_file_open(tmp_path, monkeypatch) -> None:
    refused = [PermissionError(errno.EACCES, "Access is denied")] * 2
    rename = os.replace

    def replace(source: object, target: object) -> None:
        if refused:
            raise refused.pop()
        rename(source, target)

    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    with atomic_write(tmp_path / "results.csv") as stream:
        stream.write("new")
    assert (tmp_path / "results.csv").read_text() == "new" and not refused


def test_windows_file_open_in_a_spreadsheet_is_reported_with_the_next_step(tmp_path, monkeypatch) -> None:
    def replace(source: object, target: object) -> None:
        raise PermissionError(errno.EACCES, "Access is denied", str(source))

    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    with pytest.raises(
        NomalyError, match="Access is denied.* Next step: close the file in other programs, or choose a"
    ):
        with atomic_write(tmp_path / "results.csv") as stream:
            stream.write("new")
    assert list(tmp_path.iterdir()) == []
