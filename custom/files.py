"""Writes that either happen whole or leave everything as it was."""

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
    errno.ENOTDIR: "a file stands where a folder is needed: move it away or choose another folder",
    errno.EEXIST: "a file stands where a folder is needed: move it away or choose another folder",
}
WINDOWS = os.name == "nt"
_DISK_GONE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class WriteError(NomalyError):
    """A file could not be written.

    Args:
        target: the file.
        error: why.
    """

    def __init__(self, target: Path, error: OSError) -> None:
        super().__init__(_explain(target, error))
        self.disk_gone = error.errno in _DISK_GONE  # nothing else can be written there, either


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes its final name only when all of it is safely on the disk.

    The content goes to a temporary file in the same folder and is renamed over `path` at the end; on any failure the
    temporary file is removed and whatever stood at `path` before is untouched. Missing parent folders are made.

    Args:
        path: where the file shall stand.
        mode: "w" for text (UTF-8, line ends as given) or "wb" for bytes.

    Raises:
        WriteError: the disk is full, read-only or forbidden; names `path` and the next step.
    """
    target = Path(path)
    # Made with open(), not tempfile: the result then follows the user's umask, so colleagues can read a shared folder.
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
        with suppress(OSError):  # gone after the rename, or never made
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
    """Tell a failed write here from an OSError of the caller's own block about some other file."""
    ours = {None, str(target), str(temporary), *map(str, target.parents)}
    return (str(error.filename) if error.filename is not None else None) in ours


def _explain(target: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    next_step = _NEXT_STEP.get(error.errno or 0, "check that the folder exists and can be written to, then run again")
    if WINDOWS and isinstance(error, PermissionError):  # Windows also refuses while a spreadsheet has the file open
        next_step = f"close the file in other programs, or {next_step}"
    return f"Cannot write {target}: {reason}. What was there before is unchanged. Next step: {next_step}."
