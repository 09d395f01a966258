"""Names that this release replaced; still accepted in users' files and commands for one more release."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache

logger = logging.getLogger(__name__)

PARAMETERS = {
    "gate": "input_check",
    "floors_dir": "baselines_dir",
    "floor_epochs": "baseline_epochs",
    "keep_identifiers": "no_pseudonymise",
}
COLUMNS = {"lesion_count": "region_count", "lesion_volume": "region_size", "lesion_unit": "region_unit"}
ENTRY_FIELDS = {"knobs": "parameters"}
CALIBRATION_KEYS = {"gate": "input_check"}
EVALUATION_KEYS = {
    "gate": "input_check",
    "floors": "baselines",
    "best_floor": "best_baseline",
    "best_pixel_floor": "best_pixel_baseline",
}


def current_name(name: str, names: Mapping[str, str]) -> str:
    """The current name for an earlier one, with a warning at its first use; any other name unchanged."""
    if name in names:
        _warn(name, names[name])
    return names.get(name, name)


@lru_cache(maxsize=None)
def _warn(earlier: str, name: str) -> None:
    """Warn once about an earlier name."""
    logger.warning("%r is now called %r: the earlier name is accepted for one more release.", earlier, name)
