"""Work that is done in the background, in order, while the caller goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """One thread that works through tasks in the order in which they were given.

    It may be behind by a few tasks only, so that memory does not grow with their number. An error of a task is raised
    where the caller next gives one or waits; the tasks after it are not begun.

    Args:
        behind: largest number of tasks that are not done when :meth:`add` returns.
    """

    def __init__(self, behind: int = 16) -> None:
        self.behind = behind
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._tasks: deque[Future] = deque()
        self._failed = False

    def add(self, task: Callable[..., object], *arguments: Any) -> None:
        """Give a task, and wait if too many are not done."""
        self._tasks.append(self._thread.submit(self._do, task, *arguments))
        while len(self._tasks) > self.behind:
            self._take()
        while self._tasks and self._tasks[0].done():
            self._take()

    def finish(self) -> None:
        """Wait for all tasks, and end the thread."""
        while self._tasks:
            self._take()
        self._thread.shutdown()

    def stop(self) -> None:
        """Wait for the task that is being done, drop the others, and end the thread."""
        self._thread.shutdown(cancel_futures=True)
        self._tasks.clear()

    def _do(self, task: Callable[..., object], *arguments: Any) -> None:
        """Do one task, unless one before it failed."""
        if not self._failed:
            try:
                task(*arguments)
            except BaseException:
                self._failed = True
                raise

    def _take(self) -> None:
        """Wait for the first task; on its error, stop."""
        try:
            self._tasks.popleft().result()
        except BaseException:
            self.stop()
            raise
