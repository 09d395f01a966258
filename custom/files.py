"""Writes that either complete or leave the old file unchanged."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from custom.errors import NomalyError

_NEXT_STEP = {
    errno.ENOSPC: "free some space on that disk or choose another folder, then run again",
    errno.EDQUOT: "free some of your disk quota or choose another folder, then run again",
    errno.EROFS: "choose a folder on a disk that can be written to",
    errno.EACCES: "choose a folder that you may write to, or ask for the right to write there",
    errno.EPERM: "choose a folder that you may write to, or ask for the right to write there",
    errno.EISDIR: "a folder has this name: move it away or choose another name",
    errno.ENOTDIR: "a file exists where a folder is needed: move it away or choose another folder",
    errno.EEXIST: "a file exists where a folder is needed: move it away or choose another folder",
}
WINDOWS = os.name == "nt"
_DISK_GONE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class WriteError(NomalyError):
    """A file could not be written.

    Args:
        target: the file.
        error: the reason.
    """

    def __init__(self, target: Path, error: OSError) -> None:
        super().__init__(_explain(target, error))
        self.disk_gone = error.errno in _DISK_GONE  # then nothing else can be written there


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that gets its final name only when all of its content is on the disk.

    The content goes to a temporary file in the same folder and is renamed over `path` at the end; on any failure the
    temporary file is removed and an existing file at `path` is kept. Missing parent folders are created.

    Args:
        path: path of the file.
        mode: "w" for text (UTF-8, line endings unchanged) or "wb" for bytes.

    Raises:
        WriteError: the disk is full or read-only, or permission is missing; names `path` and the next step.
    """
    target = Path(path)
    # Created with open(), not tempfile: the file follows the user's umask, so colleagues can read a shared folder.
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode.replace("w", "x"), **_text_options(mode)) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _replace(temporary, target)
    except OSError as error:
        if not _is_ours(error, target, temporary):
            raise
        raise WriteError(target, error) from error
    finally:
        with suppress(OSError):  # renamed, or never created
            temporary.unlink()


def _replace(temporary: Path, target: Path) -> None:
    """Rename a file over another one; Windows refuses this while a virus scanner or indexer has one of them open."""
    for pause in (0.1, 0.3, 1.0) if WINDOWS else ():
        try:
            return os.replace(temporary, target)
        except PermissionError:
            time.sleep(pause)
    os.replace(temporary, target)


def _text_options(mode: str) -> dict[str, Any]:
    return {} if "b" in mode else {"encoding": "utf-8", "newline": ""}


def _is_ours(error: OSError, target: Path, temporary: Path) -> bool:
    """Distinguish a failed write here from an OSError in the caller's block about another file."""
    ours = {None, str(target), str(temporary), *map(str, target.parents)}
    return (str(error.filename) if error.filename is not None else None) in ours


def _explain(target: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    next_step = _NEXT_STEP.get(error.errno or 0, "check that the folder exists and can be written to, then run again")
    if WINDOWS and isinstance(error, PermissionError):  # Windows also refuses while a spreadsheet has the file open
        next_step = f"close the file in other programs, or {next_step}"
    return f"Cannot write {target}: {reason}. The previous content is unchanged. Next step: {next_step}."
