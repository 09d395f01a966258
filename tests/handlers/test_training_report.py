"""The report of a toy training: written while it trains, continued by a resumed run, and complete at the end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from custom.handlers import training_report
from custom.handlers.checkpoint import TrainingCheckpoint
from custom.handlers.loss_log import LossLog
from custom.handlers.training_report import TrainingReport
from custom.reporting.training_history import read_history
from custom.scoring.part_statistics import PartStatistics
from pages import Page

STEPS, BATCH = 3, 4


class Run:
    """A training whose loss is the number of its steps; validations are (AUROC, healthy error) by epoch.

    Args:
        stop_after: epoch in which it is killed, after the record and before the checkpoint; None = never.
    """

    def __init__(
        self, folder: Path, validations: dict[int, tuple[float, float]], stop_after: int | None = None, **settings: Any
    ) -> None:
        self.network = nn.Linear(1, 1)
        self.engine: Any = Engine(self.step)
        self.engine.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.5)
        self.engine.phase = "warm-up"
        state = SimpleNamespace(epoch=0, metrics={}, times={"COMPLETED": 0.25})
        self.validator: Any = SimpleNamespace(state=state)
        image = torch.full((1, 8, 8, 1), 0.5)
        study = {"image": image, "reconstruction": image, "pred": image}
        shown = [study | {"label": 0}, study | {"label": 1, "group": "opacity"}, study | {"label": 0}]
        LossLog().attach(self.engine)

        @self.engine.on(Events.EPOCH_COMPLETED)
        def validate(engine: Engine) -> None:
            if engine.state.epoch in validations:
                values = dict(zip(("synthetic_auroc", "healthy_error"), validations[engine.state.epoch]))
                state.epoch, state.metrics = engine.state.epoch, values

        self.report = TrainingReport(
            path=str(folder / "train" / "training.html"),
            history=str(folder / "models" / "history.jsonl"),
            title="Training of a toy",
            bundle_root=str(folder),
            dataset_dir="DATA",
            data_dir=str(folder),
            datalist={"training": [], "validation": []},
            weights=str(folder / "models" / "model.pt"),
            training=[0] * 12,  # type: ignore[arg-type]
            validation=SimpleNamespace(references={"pca_8": 9.0}, shown=shown),  # type: ignore[arg-type]
            validator=self.validator,
            settings={"batch_size": BATCH},
            configuration={"network": {"channels": [4, 8]}, "adjustable": {"sigma": 2.0}},
        )
        self.report.attach(self.engine)
        if stop_after is not None:
            self.engine.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), self.stop)
        optimizers = {"only": self.engine.optimizer}
        TrainingCheckpoint(str(folder / "models"), self.network, optimizers, self.validator, **settings).attach(
            self.engine
        )

    def step(self, engine: Engine, batch: int) -> list[dict[str, Any]]:
        loss = torch.tensor(float(engine.state.iteration))
        return [{"image": torch.zeros(BATCH, 1, 8, 8), "terms": {"reconstruction": loss}}]

    def stop(self) -> None:
        raise KeyboardInterrupt

    def run(self, max_epochs: int) -> Run:
        self.engine.run(range(STEPS), max_epochs=max_epochs)
        return self

    def fit(self, fitted: bool = True, missing: tuple[str, ...] = ()) -> Any:
        """A fit of statistics: ten volumes with known means."""
        statistics = PartStatistics()
        statistics.fit([{"map": float(number), "structure": 1.0, "code": 2.0} for number in range(10)], "volume")
        code_distance = SimpleNamespace(images=torch.tensor(24))
        network = SimpleNamespace(
            fitted_parts=[code_distance],
            code_distance=code_distance,
            patch_distance=None,
            part_statistics=statistics,
        )
        return SimpleNamespace(network=network, fitted=fitted, missing=list(missing))


def history_of(folder: Path):
    return read_history(folder / "models" / "history.jsonl")


def page_of(folder: Path) -> str:
    return " ".join(Page((folder / "train" / "training.html").read_text()).text.split())


def test_each_epoch_is_recorded_with_losses_images_rate_and_validation(tmp_path: Path) -> None:
    Run(tmp_path, {2: (0.8, 8.0)}).run(2)
    first, second = history_of(tmp_path).epochs
    # steps 1, 2, 3 and 4, 5, 6
    assert (first.losses, second.losses) == ({"reconstruction": 2.0}, {"reconstruction": 5.0})
    assert (first.images, first.learning_rate, first.phase, first.validation) == (STEPS * BATCH, 0.5, "warm-up", None)
    found = second.validation
    assert found is not None and (found.auroc, found.healthy_error, found.seconds) == (0.8, 8.0, 0.25)
    assert found.references == {"pca_8": 9.0}
    assert [picture.lesion for picture in found.pictures] == [None, None, "opacity"]


def test_page_is_written_at_each_validation(tmp_path: Path) -> None:
    pages: list[str | None] = []
    run = Run(tmp_path, {2: (0.8, 8.0), 3: (0.9, 7.0)})
    path = tmp_path / "train" / "training.html"

    @run.engine.on(Events.EPOCH_COMPLETED)
    def look() -> None:
        pages.append(page_of(tmp_path) if path.exists() else None)

    run.run(4)
    assert pages[0] is None and pages[2] == pages[3]
    assert "Running: 2 of 4 epochs" in str(pages[1]) and "Running: 3 of 4 epochs" in str(pages[2])


def test_resumed_training_continues_the_curves(tmp_path: Path) -> None:
    Run(tmp_path, {1: (0.9, 8.0)}).run(2)
    Run(tmp_path, {3: (0.8, 9.0)}).run(4)
    history = history_of(tmp_path)
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3, 4]
    assert [epoch.losses["reconstruction"] for epoch in history.epochs] == [2.0, 5.0, 8.0, 11.0]
    assert "Best is the network of epoch 1: healthy error 8" in page_of(tmp_path)


def test_epoch_that_was_recorded_before_a_stop_but_not_saved_is_not_doubled(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, {2: (0.9, 1.0)}, stop_after=2).run(4)
    assert [epoch.epoch for epoch in history_of(tmp_path).epochs] == [1, 2]  # the checkpoint is of epoch 1
    Run(tmp_path, {2: (0.7, 5.0)}).run(3)
    history = history_of(tmp_path)
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3]
    assert [(number, found.auroc) for number, found in history.validated] == [(2, 0.7)]


def test_training_that_starts_again_forgets_the_earlier_one(tmp_path: Path) -> None:
    Run(tmp_path, {1: (0.9, 8.0)}).run(3)
    Run(tmp_path, {1: (0.6, 8.0)}, overwrite=True).run(1)
    assert [(number, found.auroc) for number, found in history_of(tmp_path).validated] == [(1, 0.6)]


def test_finished_page_has_the_statistics_and_a_repeated_call_keeps_them(tmp_path: Path) -> None:
    run = Run(tmp_path, {1: (0.9, 8.0)}).run(2)
    run.report.finish(run.fit())
    fitted = history_of(tmp_path).fitted
    assert fitted is not None and fitted.images == 24 and fitted.parts["volumes"]["studies"] == 10
    assert fitted.parts["volumes"]["mean"] == {"map": 4.5, "structure": 1.0, "code": 2.0}
    assert "Finished: 2 epochs" in page_of(tmp_path) and "Volumes 10 Map 4.500 3.028" in page_of(tmp_path)
    before = (tmp_path / "models" / "history.jsonl").read_bytes()
    again = Run(tmp_path, {}).run(2)  # nothing to train, nothing to fit
    again.report.finish(again.fit(fitted=False))
    assert (tmp_path / "models" / "history.jsonl").read_bytes() == before
    assert "Finished: 2 epochs" in page_of(tmp_path)


def test_statistics_that_could_not_be_fitted_are_told_with_their_reason(tmp_path: Path) -> None:
    run = Run(tmp_path, {1: (0.9, 8.0)}).run(1)
    run.report.finish(run.fit(fitted=False, missing=("only 3 images.",)))
    assert "Not fitted: only 3 images." in page_of(tmp_path)
    before = (tmp_path / "models" / "history.jsonl").read_bytes()
    run.report.finish(run.fit(fitted=False, missing=("only 3 images.",)))  # tried again in vain
    assert (tmp_path / "models" / "history.jsonl").read_bytes() == before


def test_training_that_ended_early_says_so(tmp_path: Path) -> None:
    run = Run(tmp_path, {1: (0.9, 8.0), 2: (0.8, 8.0)}, patience=1).run(5)
    run.report.finish(run.fit())
    assert "Finished: 2 epochs of 5, ended early, in" in page_of(tmp_path)


def test_settings_are_compared_with_those_of_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    defaults = {"batch_size": 32, "channels": [4, 8], "sigma": "$2.0"}
    (tmp_path / "configs" / "train.json").write_text(json.dumps(defaults))
    Run(tmp_path, {1: (0.9, 8.0)}).run(1)
    assert "batch_size 4 32" in page_of(tmp_path)
    assert "channels" not in page_of(tmp_path) and "sigma" not in page_of(tmp_path)


def test_training_resumed_without_its_history_names_the_missing_epochs(tmp_path: Path) -> None:
    Run(tmp_path, {1: (0.9, 8.0)}).run(2)
    (tmp_path / "models" / "history.jsonl").unlink()
    Run(tmp_path, {3: (0.8, 7.0)}).run(3)
    assert "Epochs 1 to 2 were not recorded: these curves begin later." in page_of(tmp_path)


def test_other_processes_than_the_first_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_report, "is_main_process", lambda: False)
    run = Run(tmp_path, {1: (0.9, 8.0)}, save=False).run(1)
    run.report.finish(run.fit())
    assert list(tmp_path.rglob("*.html")) + list(tmp_path.rglob("*.jsonl")) == []
