"""Mean and interval of each model over the seeds that it was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from custom.reporting.benchmark_table import STATS, TITLES, Row

CONFIDENCE = 0.95
MEASURES = ("auroc", "auroc_difference", *(key for key in STATS if key != "auroc"))
NOTE = (
    "Intervals over seeds are 95 % intervals of the mean by the t distribution. They describe how much trainings "
    "differ on these same studies, not how much patients differ."
)


def over_seeds(rows: Sequence[Row], models: Sequence[str]) -> list[Row]:
    """One row per model: its name, the number of seeds with a result, and {"value", "low", "high"} of each measure.

    Args:
        rows: of `benchmark_row`, one per model and seed.
        models: the model of each row.

    Returns:
        Rows in the order of the models; a measure is None if no seed has it, an interval needs two seeds.
    """
    summary = []
    for model in dict.fromkeys(models):
        own = [row for row, name in zip(rows, models) if name == model]
        measures = {key: mean_of([row[key] for row in own]) for key in MEASURES}
        finished = sum(row["n_healthy"] is not None for row in own)
        summary.append({"name": model, "seeds": finished, **measures})
    return summary


def mean_of(stats: Sequence[Mapping[str, Any] | None]) -> dict[str, float | None] | None:
    """Mean of the values and its interval by the t distribution; None without a value."""
    values = np.array([stat["value"] for stat in stats if stat and stat.get("value") is not None], float)
    if not values.size:
        return None
    mean = float(values.mean())
    if values.size < 2:
        return {"value": mean, "low": None, "high": None}
    half = float(t.ppf((1 + CONFIDENCE) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
    return {"value": mean, "low": mean - half, "high": mean + half}


def seed_titles(rows: Sequence[Row]) -> dict[str, str]:
    """Columns with a value in any row, and their headings."""
    shown = [key for key in MEASURES if any(row[key] for row in rows)]
    return {"name": "Model", "seeds": "Seeds", **{key: f"{TITLES[key]}, mean" for key in shown}}
