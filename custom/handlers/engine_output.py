"""The output of an engine's iteration with its type, which ignite declares as a number."""

from __future__ import annotations

from typing import Any, cast

from ignite.engine import Engine

from custom.studies.items import Study


def studies_of(engine: Engine) -> list[Study]:
    """The studies of an evaluator's iteration."""
    return cast("list[Study]", engine.state.output)


def step_of(engine: Engine) -> dict[str, Any]:
    """The results of a trainer's step, by name."""
    (step,) = cast("list[dict[str, Any]]", engine.state.output)
    return step
