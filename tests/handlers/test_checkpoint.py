"""Checkpoints of a toy training: the best network, what is refused, and files that stay whole."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from custom.detector.weights import read_tensors, save_tensors
from custom.errors import NomalyError
from custom.handlers.checkpoint import TrainingCheckpoint

STEPS = 2  # of an epoch


class Run:
    """A training in which each step adds 1 to the only weight, and validation says what the test wants.

    Args:
        validations: (synthetic_auroc, healthy_error) by epoch; None for no validator.
    """

    def __init__(self, directory: Path, validations: dict | None = None, width: int = 1, **settings) -> None:
        self.network = nn.Linear(1, width, bias=False)
        nn.init.zeros_(self.network.weight)
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.trained: list[int] = []
        self.engine = Engine(self.step)
        validator = None
        if validations is not None:
            validator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}))

            @self.engine.on(Events.EPOCH_COMPLETED)
            def validate(engine: Engine) -> None:
                if engine.state.epoch in validations:
                    values = dict(zip(("synthetic_auroc", "healthy_error"), validations[engine.state.epoch]))
                    validator.state.epoch, validator.state.metrics = engine.state.epoch, values

        optimizers = {"only": self.optimizer}
        self.checkpoint = TrainingCheckpoint(str(directory), self.network, optimizers, validator, **settings)
        self.checkpoint.attach(self.engine)

    def step(self, engine: Engine, batch: int) -> None:
        self.trained.append(engine.state.iteration)
        with torch.no_grad():
            self.network.weight += 1

    def run(self, max_epochs: int) -> Run:
        self.engine.run(range(STEPS), max_epochs=max_epochs)
        return self

    def best_weight(self) -> float:
        return read_tensors(self.checkpoint.model)["weight"][0].item()


def test_without_validation_the_latest_network_is_the_best(tmp_path: Path) -> None:
    run = Run(tmp_path).run(3)
    assert run.best_weight() == 3 * STEPS
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "model.pt"]


def test_second_training_in_the_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path)
    message = f"^another run is using ckpt_dir {tmp_path}: wait until it ends, or choose another ckpt_dir.$"

    @first.engine.on(Events.EPOCH_COMPLETED(once=1))
    def start_another() -> None:
        with pytest.raises(NomalyError, match=message):
            second.run(1)

    first.run(2)
    assert second.trained == [] and first.best_weight() == 2 * STEPS
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "model.pt"]
    Run(tmp_path).run(3)


def test_training_that_failed_or_was_stopped_unlocks_the_folder(tmp_path: Path) -> None:
    for error in (RuntimeError("out of memory"), KeyboardInterrupt()):
        broken = Run(tmp_path)
        broken.engine.add_event_handler(Events.ITERATION_COMPLETED, raise_, error)
        with pytest.raises(type(error)):
            broken.run(1)
        assert os.listdir(tmp_path) == []
    Run(tmp_path).run(1)


def raise_(error: BaseException) -> None:
    raise error


def test_process_that_does_not_write_takes_no_lock(tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path, save=False)
    first.engine.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda: second.run(2))
    first.run(1)
    assert second.trained == [3, 4]  # after the first epoch of the other


def test_training_that_was_killed_does_not_block_the_next(tmp_path: Path) -> None:
    lines = ["from custom.locks import FolderLock", "import os, signal, sys", "lock = FolderLock(sys.argv[1])"]
    lines += ["lock.acquire('ckpt_dir')", "os.kill(os.getpid(), signal.SIGKILL)"]
    done = subprocess.run([sys.executable, "-c", "; ".join(lines), str(tmp_path)])
    assert done.returncode == -signal.SIGKILL and os.listdir(tmp_path) == [".nomaly.lock"]
    assert Run(tmp_path).run(1).best_weight() == STEPS


def test_run_that_goes_on_keeps_the_weights_that_were_put_in_between(tmp_path: Path) -> None:
    run = Run(tmp_path).run(1)
    nn.init.constant_(run.network.weight, 100.0)  # as a server of federated learning does
    run.run(2)
    assert run.trained == [1, 2, 3, 4]
    assert run.network.weight.item() == run.best_weight() == 100 + STEPS


@pytest.mark.parametrize(
    ("validations", "best_epoch"),
    [
        ({1: (0.6, 5.0), 2: (0.9, 9.0), 3: (0.8, 1.0)}, 3),  # the healthy error decides
        ({1: (0.8, 5.0), 2: (0.9, 5.0), 3: (0.7, 5.0)}, 2),  # the key metric decides between equals
        ({1: (0.9, 5.0), 2: (0.9, 5.0), 3: (0.9, 5.0)}, 1),  # the first of equals stays
        ({2: (0.6, 5.0)}, 2),  # epochs without validation do not count
        ({1: (0.6, 5.0), 2: (0.7, float("nan"))}, 1),
    ],
)
def test_best_network_has_the_lowest_error_then_the_highest_metric(tmp_path: Path, validations, best_epoch) -> None:
    run = Run(tmp_path, validations).run(3)
    assert run.best_weight() == best_epoch * STEPS
    assert run.checkpoint.best["epoch"] == best_epoch
    assert read_tensors(run.checkpoint.checkpoint)["network"]["weight"].item() == 3 * STEPS


RISE_AND_FALL = {1: (0.6, 5.0), 2: (0.9, 5.0), 3: (0.8, 5.0), 4: (0.9, 6.0), 5: (0.7, 5.0), 6: (0.95, 5.0)}


@pytest.mark.parametrize(
    ("settings", "last"),
    [
        ({}, 6),
        ({"patience": 1}, 3),
        ({"patience": 2}, 4),  # an equal metric with a larger error is no better network
        ({"patience": 2, "warmup_epochs": 3}, 5),  # epoch 3 is not counted
        ({"patience": 4}, 6),
    ],
)
def test_training_ends_after_patience_validations_without_a_better_network(tmp_path: Path, settings, last) -> None:
    run = Run(tmp_path, RISE_AND_FALL, **settings).run(6)
    assert run.trained[-1] == last * STEPS
    assert run.best_weight() == (2 if last < 6 else 6) * STEPS


def test_epochs_without_validation_do_not_use_up_patience(tmp_path: Path) -> None:
    assert Run(tmp_path, {1: (0.9, 5.0), 4: (0.8, 5.0)}, patience=1).run(6).trained[-1] == 4 * STEPS


def test_training_that_ended_early_is_finished_until_patience_is_larger(tmp_path: Path, caplog) -> None:
    Run(tmp_path, RISE_AND_FALL, patience=1).run(6)
    with caplog.at_level(logging.WARNING, "custom.handlers.checkpoint"):
        assert Run(tmp_path, RISE_AND_FALL, patience=1).run(6).trained == []
    assert [r.message for r in caplog.records] == [
        f"Nothing to train: {tmp_path / 'checkpoint.pt'} ended early after epoch 3; give a larger patience, or null, "
        "to train on."
    ]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "model.pt"]  # and no lock
    assert Run(tmp_path, RISE_AND_FALL, patience=2).run(6).trained == [
        7,
        8,
    ]  # epoch 4 is the second without a better one
    assert Run(tmp_path, RISE_AND_FALL).run(6).trained == [9, 10, 11, 12]


def test_interrupted_training_counts_on_from_its_checkpoint(tmp_path: Path) -> None:
    Run(tmp_path, RISE_AND_FALL, patience=2).run(3)
    assert Run(tmp_path, RISE_AND_FALL, patience=2).run(6).trained == [7, 8]


@pytest.mark.parametrize("patience", [0, -1, "two"])
def test_patience_that_is_no_number_of_validations_is_refused(tmp_path: Path, patience) -> None:
    with pytest.raises(NomalyError, match=f"^patience must be a number of .*, at least 1, or null, got {patience!r}.$"):
        Run(tmp_path, patience=patience)


def test_resumed_run_goes_on_after_the_last_whole_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Run(tmp_path, {1: (0.9, 5.0)}).run(2)
    with caplog.at_level(logging.WARNING, "custom.handlers.checkpoint"):
        resumed = Run(tmp_path, {3: (0.95, 6.0)}).run(3)
    assert resumed.trained == [2 * STEPS + 1, 2 * STEPS + 2]
    assert resumed.network.weight.item() == 3 * STEPS
    assert resumed.best_weight() == 1 * STEPS  # of the first run: its error is lower
    assert [r.message for r in caplog.records] == [f"Resuming {tmp_path / 'checkpoint.pt'} after epoch 2."]


@pytest.mark.parametrize("max_epochs", [2, 1])
def test_finished_run_says_so_and_changes_nothing(tmp_path: Path, caplog, max_epochs: int) -> None:
    Run(tmp_path).run(2)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with caplog.at_level(logging.WARNING, "custom.handlers.checkpoint"):
        finished = Run(tmp_path).run(max_epochs)
    assert [r.message for r in caplog.records] == [
        f"Nothing to train: {tmp_path / 'checkpoint.pt'} already has 2 epochs; increase max_epochs to train longer."
    ]
    assert finished.trained == []
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_network_of_another_run_is_not_overwritten(tmp_path: Path) -> None:
    save_tensors({"weight": torch.tensor([7.0])}, tmp_path / "model.pt")
    run = Run(tmp_path)
    message = "already contains a model.pt without checkpoint.pt: give another ckpt_dir"
    with pytest.raises(NomalyError, match=message):
        run.run(1)
    assert run.trained == [] and run.best_weight() == 7


def test_overwrite_starts_anew_over_a_foreign_network(tmp_path: Path) -> None:
    save_tensors({"weight": torch.tensor([7.0])}, tmp_path / "model.pt")
    assert Run(tmp_path, overwrite=True).run(1).best_weight() == STEPS


def test_overwrite_starts_anew_over_an_unfinished_run(tmp_path: Path) -> None:
    Run(tmp_path, identity={"datalist": "old"}).run(2)
    anew = Run(tmp_path, identity={"datalist": "new"}, overwrite=True).run(1)
    assert anew.trained == [1, 2] and anew.best_weight() == STEPS
    assert read_tensors(anew.checkpoint.checkpoint)["identity"] == {"datalist": "new"}


def test_run_of_another_datalist_is_not_continued(tmp_path: Path) -> None:
    Run(tmp_path, identity={"datalist": "old"}).run(1)
    other = Run(tmp_path, identity={"datalist": "new"})
    with pytest.raises(
        NomalyError, match="trained with datalist old, not new: give the same datalist, another ckpt_dir"
    ):
        other.run(2)
    assert other.trained == [] and other.network.weight.item() == 0


def test_run_of_another_architecture_is_not_continued(tmp_path: Path) -> None:
    Run(tmp_path).run(1)
    other = Run(tmp_path, width=2)
    with pytest.raises(NomalyError, match=r"is a checkpoint of another architecture.*another ckpt_dir"):
        other.run(2)
    assert other.trained == []


def test_run_of_other_optimizers_is_not_continued(tmp_path: Path) -> None:
    Run(tmp_path).run(1)
    other = Run(tmp_path)
    other.checkpoint.optimizers = {"encoder": other.optimizer}
    with pytest.raises(NomalyError, match=r"of another architecture.*\('encoder'\)"):
        other.run(2)


def test_truncated_checkpoint_is_refused_with_the_next_step(tmp_path: Path) -> None:
    Run(tmp_path).run(1)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(NomalyError, match="checkpoint.pt cannot be read as a weights file"):
        Run(tmp_path).run(2)


def test_process_that_does_not_save_writes_no_file(tmp_path: Path) -> None:
    run = Run(tmp_path, save=False).run(2)
    assert os.listdir(tmp_path) == [] and run.checkpoint.best["epoch"] == 2


@pytest.mark.parametrize("full_from_write", [1, 2])  # of epoch 3: model.pt, then checkpoint.pt
def test_full_disk_keeps_the_old_checkpoint_to_go_on_from(tmp_path: Path, monkeypatch, full_from_write: int) -> None:
    Run(tmp_path).run(2)
    old = (tmp_path / "checkpoint.pt").read_bytes()
    fsync, writes = os.fsync, []

    def no_space(descriptor: int) -> None:
        writes.append(descriptor)
        if len(writes) >= full_from_write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(NomalyError, match="Cannot write .*No space left.*free some space on that disk"):
            Run(tmp_path).run(4)
    assert (tmp_path / "checkpoint.pt").read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "model.pt"]
    resumed = Run(tmp_path).run(4)
    assert resumed.trained == [2 * STEPS + step for step in range(1, 2 * STEPS + 1)]
    assert resumed.best_weight() == 4 * STEPS
