"""Tasks are done in order, by one thread that is never far behind, and their errors reach the caller."""

from __future__ import annotations

import threading

import pytest

from custom.runs.background import Background


def test_tasks_are_done_in_order_until_finish() -> None:
    done: list[int] = []
    background = Background(behind=2)
    for number in range(20):
        background.add(done.append, number)
        assert len(done) >= number - 2  # at most two are behind once this one is given
    background.finish()
    assert done == [*range(20)]


def test_error_reaches_the_caller_and_later_tasks_are_not_begun() -> None:
    go_on, done = threading.Event(), []

    def fail() -> None:
        go_on.wait(5)
        raise OSError("disk full")

    background = Background(behind=8)
    background.add(fail)
    background.add(done.append, 1)
    go_on.set()
    with pytest.raises(OSError, match="disk full"):
        background.finish()
    assert done == []


def test_stop_waits_for_the_current_task_and_drops_the_others() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        go_on.wait(5)
        done.append("first")

    background = Background()
    background.add(first)
    background.add(done.append, "second")
    begun.wait(5)
    threading.Timer(0.05, go_on.set).start()
    background.stop()
    assert done == ["first"]
