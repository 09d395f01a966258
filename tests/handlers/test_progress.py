"""Progress bars count what is done and start where a resumed run goes on."""

from __future__ import annotations

import pytest
from ignite.engine import Engine, Events

from custom.data.study_loader import StudyDataset, StudyLoader
from custom.handlers.progress import EpochProgress, StudyProgress


def run(progress, epochs: int = 3, resume_after: int = 0) -> Engine:
    engine = Engine(lambda engine, batch: [batch])
    progress.attach(engine)

    @engine.on(Events.STARTED)
    def resume(engine: Engine) -> None:
        engine.state.epoch = resume_after
        engine.state.iteration = resume_after * engine.state.epoch_length

    engine.run(range(4), max_epochs=epochs)
    return engine


@pytest.mark.parametrize("resume_after", [0, 2])
def test_bar_of_a_training_ends_at_all_steps(resume_after: int, capsys: pytest.CaptureFixture) -> None:
    progress = EpochProgress()
    run(progress, resume_after=resume_after)
    assert (progress._bar.n, progress._bar.total, progress._bar.initial) == (12, 12, 4 * resume_after)
    assert "epoch 3/3" in capsys.readouterr().err


def test_training_with_nothing_left_shows_no_bar(capsys: pytest.CaptureFixture) -> None:
    run(EpochProgress(), resume_after=3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("progress", [EpochProgress(disable=True), StudyProgress("Detecting", disable=True)])
def test_disabled_bars_write_nothing(progress, capsys: pytest.CaptureFixture) -> None:
    run(progress)
    assert capsys.readouterr().err == ""


def test_bar_over_studies_counts_studies_and_tells_their_rate(capsys: pytest.CaptureFixture) -> None:
    engine = Engine(lambda engine, batch: batch)
    progress = StudyProgress("Calibrating")
    progress.attach(engine)
    items = [{"image": "a.png", "case": str(number)} for number in range(7)]
    engine.run(StudyLoader(StudyDataset(items, dict), batch_size=3))
    assert (progress._bar.n, progress._bar.total) == (7, 7)
    err = capsys.readouterr().err
    assert "Calibrating" in err and "7/7" in err and "study/s" in err
