"""Progress bars."""

from __future__ import annotations

from ignite.engine import Engine, Events
from tqdm import tqdm

from custom.processes import is_main_process


class EpochProgress:
    """One bar over all epochs of a training; it starts where a resumed run goes on.

    Args:
        disable: show nothing.
    """

    def __init__(self, disable: bool = False) -> None:
        self.disable = disable or not is_main_process()
        self._bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Register on the engine; attach after the handlers that show their metrics."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def start(self, engine: Engine) -> None:
        """Open the bar at the first epoch of this run."""
        if self._bar is None:
            state = engine.state
            total = state.epoch_length * state.max_epochs
            self._bar = tqdm(
                total=total,
                initial=state.iteration,
                desc="Training",
                unit="step",
                mininterval=1.0,
                disable=self.disable,
            )
        self._bar.set_postfix_str(f"epoch {engine.state.epoch}/{engine.state.max_epochs}", refresh=False)

    def step(self, engine: Engine) -> None:
        """Advance by one step."""
        self._bar.update()

    def close(self, engine: Engine) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class StudyProgress:
    """Bar over the studies of an evaluator's run, with the rate and the time that is left.

    Args:
        description: what is being done.
        disable: show nothing.
    """

    def __init__(self, description: str, disable: bool = False) -> None:
        self.description = description
        self.disable = disable
        self._bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def start(self, engine: Engine) -> None:
        """Open the bar over the studies of this process, of which the first one shows its own."""
        studies = getattr(engine.state.dataloader, "dataset", None)  # there are none where nothing is left to do
        total = 0 if studies is None else len(studies)
        disable = self.disable or not is_main_process()
        self._bar = tqdm(total=total, desc=self.description, unit="study", mininterval=1.0, disable=disable)

    def step(self, engine: Engine) -> None:
        """Advance by the studies of an iteration."""
        self._bar.update(len(engine.state.output))

    def close(self, engine: Engine) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
