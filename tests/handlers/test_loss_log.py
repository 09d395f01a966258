"""Means of loss terms in the log, in the metrics and in TensorBoard; the step at which a term stopped being finite."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine

from custom.errors import NomalyError
from custom.handlers.loss_log import LossLog


class Writer:
    """Keeps what a SummaryWriter would write."""

    def __init__(self) -> None:
        self.scalars: list[tuple] = []
        self.flushed = 0  # how many of them are on the disk

    def flush(self) -> None:
        self.flushed = len(self.scalars)

    def add_scalar(self, *entry) -> None:
        self.scalars.append(entry)


def run(values: list[float], epochs: int = 1, **settings) -> Engine:
    """Run an engine whose term "a" takes these values in turn, and whose term "b" is twice as large."""
    queue = iter(values)

    def step(*_) -> dict:
        value = torch.tensor(next(queue))
        return [{"terms": {"a": value, "b": 2 * value.double()}}]

    engine = Engine(step)
    engine.optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    LossLog(**settings).attach(engine)
    engine.run(range(len(values) // epochs), max_epochs=epochs)
    return engine


@pytest.mark.parametrize("check_every", [None, 1, 2, 50])
def test_metrics_are_the_means_of_the_last_epoch(check_every: int | None) -> None:
    engine = run([1.0, 1.0, 1.0, 2.0, 3.0, 7.0], epochs=2, check_every=check_every)
    assert engine.state.metrics == {"a": 4.0, "b": 8.0}


def test_metrics_do_not_keep_the_terms_of_an_earlier_phase() -> None:
    names = iter(["a", "a", "b", "b"])
    engine = Engine(lambda *_: [{"terms": {next(names): torch.tensor(1.0), "both": torch.tensor(2.0)}}])
    engine.optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    LossLog().attach(engine)
    engine.state.metrics["of_another_handler"] = 7.0
    engine.run(range(2), max_epochs=2)
    assert engine.state.metrics == {"b": 1.0, "both": 2.0, "of_another_handler": 7.0}


def test_log_line_names_epoch_and_terms(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "custom.handlers.loss_log"):
        run([1.0, 2.0, 0.25, 0.25], epochs=2)
    assert [record.message for record in caplog.records] == ["Epoch 1: a 1.5, b 3", "Epoch 2: a 0.25, b 0.5"]


def test_tensorboard_gets_means_and_learning_rate_of_each_epoch() -> None:
    writer = Writer()
    run([1.0, 2.0, 4.0, 4.0], epochs=2, writer=writer)
    assert writer.scalars == [
        ("loss/a", 1.5, 1),
        ("loss/b", 3.0, 1),
        ("learning_rate", 0.1, 1),
        ("loss/a", 4.0, 2),
        ("loss/b", 8.0, 2),
        ("learning_rate", 0.1, 2),
    ]
    assert writer.flushed == 6  # nothing closes the writer, so what is not flushed may be lost


@pytest.mark.parametrize("check_every", [None, 2, 3, 50])
@pytest.mark.parametrize(("bad", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_first_bad_step_is_named_however_rarely_is_checked(bad: float, shown: str, check_every: int | None) -> None:
    message = rf"loss term 'a' is {shown} at step 6 \(epoch 2\).*lower learning_rate, or with amp false"
    with pytest.raises(NomalyError, match=message):
        run([1.0, 1.0, 1.0, 1.0, 1.0, bad, bad, 1.0], epochs=2, check_every=check_every)


def test_term_that_is_bad_alone_is_named() -> None:
    engine = Engine(lambda *_: [{"terms": {"a": torch.tensor(1.0), "b": torch.tensor(float("nan"))}}])
    LossLog().attach(engine)
    with pytest.raises(NomalyError, match="loss term 'b' is nan at"):
        engine.run([0])
