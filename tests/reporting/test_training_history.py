"""Records of a training: nothing is lost or doubled, and the chosen epoch is that of the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trainings import history, picture

from custom.reporting.training_history import FittedStatistics, TrainingHistory, read_history

FITTED = FittedStatistics(20, {"volumes": {"studies": 12, "mean": {"map": 0.5}, "deviation": {"map": 0.1}}}, [], 3.0)


def test_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = history({2: (0.7, 4.0), 4: (0.8, 3.0)}, pictures=[picture(), picture("opacity")])
    made.fitted = FITTED
    made.write(tmp_path / "history.jsonl")
    assert read_history(tmp_path / "history.jsonl") == made
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line).get("epoch") for line in lines] == [1, 2, 3, 4, None]


def test_epoch_replaces_what_was_recorded_from_it_on_and_the_statistics() -> None:
    made = history({3: (0.7, 4.0)}, epochs=5)
    made.fitted = FITTED
    made.add(history({4: (0.9, 1.0)}).epochs[-1])
    assert [epoch.epoch for epoch in made.epochs] == [1, 2, 3, 4] and made.fitted is None
    assert [number for number, _ in made.validated] == [3, 4]


@pytest.mark.parametrize(
    ("validations", "chosen"),
    [
        ({1: (0.6, 5.0), 2: (0.9, 9.0), 3: (0.8, 1.0)}, 3),
        ({1: (0.8, 5.0), 2: (0.9, 5.0), 3: (0.7, 5.0)}, 2),
        ({1: (0.9, 5.0), 2: (0.9, 5.0)}, 1),
        ({1: (0.6, 5.0), 2: (0.7, float("nan"))}, 1),
    ],
)
def test_chosen_epoch_is_that_of_the_checkpoint(validations, chosen: int) -> None:
    found = history(validations).chosen
    assert found is not None and found[0] == chosen


def test_without_validation_no_epoch_is_chosen() -> None:
    assert history({}, epochs=2).chosen is None


@pytest.mark.parametrize("content", [None, "", "{", '{"epoch": 1}'])
def test_history_that_cannot_be_read_is_empty(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "history.jsonl").write_text(content)
    assert read_history(tmp_path / "history.jsonl") == TrainingHistory()
