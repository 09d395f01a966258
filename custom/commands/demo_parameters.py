"""The parameters of each step of the demonstration."""

from __future__ import annotations

import json
from typing import Any

from custom.commands.bundle import find_bundle, path_of
from custom.commands.options import nearest
from custom.errors import NomalyError

CONFIGS = ("train", "calibrate", "evaluate", "inference")


def split_overrides(bundle: str, overrides: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The overrides of each config of the demonstration.

    Raises:
        NomalyError: if a name is not a parameter of any of them.
    """
    folder = find_bundle(bundle)
    known = {config: set(json.loads(path_of(folder, config).read_text(encoding="utf-8"))) for config in CONFIGS}
    every = set().union(*known.values())
    for name in overrides:
        if name.split("#")[0] not in every:
            meant = nearest(name, every)
            advice = f"did you mean {meant}?" if meant else f"see {folder / 'configs'}."
            raise NomalyError(f"no parameter of {', '.join(CONFIGS)} is called {name}: {advice}")
    return {
        config: {name: value for name, value in overrides.items() if name.split("#")[0] in parameters}
        for config, parameters in known.items()
    }
