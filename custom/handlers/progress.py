"""Progress bars."""

from __future__ import annotations

from ignite.engine import Engine, Events
from tqdm import tqdm

from custom.handlers.engine_output import studies_of
from custom.processes import is_main_process


class _Progress:
    """A bar that is opened when a run starts, and shown by the first process only.

    Args:
        disable: show nothing.
    """

    opens_at = Events.STARTED

    def __init__(self, disable: bool = False) -> None:
        self.disable = disable
        self._bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Register on the engine; attach after the handlers that show their metrics."""
        engine.add_event_handler(self.opens_at, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def start(self, engine: Engine) -> None:
        """Open the bar."""
        raise NotImplementedError

    def step(self, engine: Engine) -> None:
        """Advance by one iteration."""
        if self._bar is not None:
            self._bar.update(self._done(engine))

    def close(self, engine: Engine) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _done(self, engine: Engine) -> int:
        """Number of units that an iteration has done."""
        return 1

    def _open(self, description: str, unit: str, total: int, initial: int = 0) -> tqdm:
        """A new bar."""
        disable = self.disable or not is_main_process()
        return tqdm(total=total, initial=initial, desc=description, unit=unit, mininterval=1.0, disable=disable)


class EpochProgress(_Progress):
    """One bar over all epochs of a training; that of a resumed run starts where the run stopped.

    Args:
        disable: show nothing.
    """

    opens_at = Events.EPOCH_STARTED

    def start(self, engine: Engine) -> None:
        """Open the bar at the first epoch of this run."""
        state = engine.state
        if self._bar is None:
            total = (state.epoch_length or 0) * (state.max_epochs or 0)
            self._bar = self._open("Training", "step", total, state.iteration)
        self._bar.set_postfix_str(f"epoch {state.epoch}/{state.max_epochs}", refresh=False)


class StudyProgress(_Progress):
    """Bar over the studies of an evaluator's run, with the rate and the remaining time.

    Args:
        description: label of the bar.
        disable: show nothing.
    """

    def __init__(self, description: str, disable: bool = False) -> None:
        super().__init__(disable)
        self.description = description

    def start(self, engine: Engine) -> None:
        """Open the bar over the studies of this process."""
        studies = getattr(engine.state.dataloader, "dataset", None)  # no loader if nothing is left to do
        self._bar = self._open(self.description, "study", 0 if studies is None else len(studies))

    def _done(self, engine: Engine) -> int:
        """Number of studies of an iteration."""
        return len(studies_of(engine))
