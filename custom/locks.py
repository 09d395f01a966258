"""A folder that one run at a time may write to."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from custom.errors import NomalyError

LOCK = ".nomaly.lock"


class FolderLock:
    """Hold a folder until it is released or this process ends, however it ends.

    Args:
        folder: the folder; it is created. One on a disk without file locks, or without write permission, is not locked:
            the latter is reported by the first write.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._held: FileLock | None = None
        self._made = False

    def acquire(self, parameter: str) -> None:
        """Lock the folder; nothing happens if this object holds it already.

        Args:
            parameter: name of the folder in the message.

        Raises:
            NomalyError: if another run holds the folder.
        """
        if self._held is not None:
            return
        try:
            self._made = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.folder / LOCK)
            held.acquire(blocking=False)
        except Timeout:
            raise NomalyError(
                f"another run is using {parameter} {self.folder}: wait until it ends, or choose another {parameter}."
            ) from None
        except (OSError, NotImplementedError):
            return
        self._held = held

    def release(self) -> None:
        """Unlock the folder for other runs; one that was made for the lock and is empty is removed."""
        if self._held is not None:
            self._held.release()
            with suppress(OSError):  # another process may hold it by now
                (self.folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # it has results
                if self._made:
                    self.folder.rmdir()
            self._held = None
