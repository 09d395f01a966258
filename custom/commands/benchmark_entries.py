"""The models of a benchmark: words of the command line and items of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from custom.commands.bundle import checked
from custom.earlier_names import ENTRY_FIELDS, current_name
from custom.errors import NomalyError

OPTIONS = {"calibration": "calibration_file"}  # of `nomaly evaluate`, whose parameter has another name
FIELDS = {"name": str, "bundle": str, "weights": str, "overlay": list, "parameters": dict}


@dataclass(frozen=True)
class Entry:
    """One model of a benchmark.

    Args:
        name: of its row and of its folder.
        bundle: name or path.
        weights: model.pt; None = the bundle's own.
        overlay: configs to merge over the bundle's own, such as those used for its training.
        parameters: overrides of config parameters.
        model: name of the model that was trained with several seeds; "" = the same as its own.
    """

    name: str
    bundle: str
    weights: str | None = None
    overlay: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""


def entries_of(words: Sequence[str]) -> list[Entry]:
    """Models given as BUNDLE or BUNDLE=WEIGHTS; the second model of a bundle is called BUNDLE-2."""
    entries: list[Entry] = []
    for word in words:
        bundle, _, weights = word.partition("=")
        name = Path(bundle).name
        count = sum(Path(entry.bundle).name == name for entry in entries)
        entries.append(Entry(f"{name}-{count + 1}" if count else name, bundle, weights or None))
    return entries


def read_entries(path: str) -> list[Entry]:
    """Models listed in a JSON file: a list of {"name", "bundle", "weights"?, "overlay"?: [...], "parameters"?: {...}}.

    Raises:
        NomalyError: the file does not exist, is not JSON, or has an item of another form.
    """
    if not Path(path).is_file():
        raise NomalyError(f"--entries: file not found: {path}. Check the path.")
    try:
        items = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise NomalyError(f"--entries {path} must be JSON: {error}. Correct the file.") from None
    if not isinstance(items, list):
        raise NomalyError(f"--entries {path} must be a list of models, got {type(items).__name__}: put them in [ ].")
    return [_entry(path, i, item) for i, item in enumerate(items)]


def _entry(path: str, index: int, item: Any) -> Entry:
    """One item of the file."""
    where = f"--entries {path}: item {index}"
    if not isinstance(item, dict) or not isinstance(item.get("bundle"), str):
        raise NomalyError(f"{where} must be an object with a bundle's name in `bundle`, got {item!r}.")
    item = {current_name(key, ENTRY_FIELDS): value for key, value in item.items() if value is not None}
    item = {"name": Path(item["bundle"]).name, **item}
    for key, value in item.items():
        if not isinstance(value, FIELDS.get(key, ())):
            raise NomalyError(
                f"{where}: `{key}` must be one of "
                f"{', '.join(f'{name} ({kind.__name__})' for name, kind in FIELDS.items())}, got {value!r}."
            )
    return Entry(**{**item, "overlay": tuple(map(str, item.get("overlay", ())))})


def with_seeds(entries: Sequence[Entry], seeds: Sequence[int]) -> list[Entry]:
    """Each model once per seed: `{seed}` in the path of its weights and in its text parameters becomes the seed, which
    is also the parameter `seed` of the evaluation. Without seeds, the models as they are.

    Raises:
        NomalyError: a seed is given twice.
    """
    if len(set(seeds)) < len(seeds):
        raise NomalyError(f"--seeds must differ, got {' '.join(map(str, seeds))}: give each seed once.")
    return [_seeded(entry, seed) for entry in entries for seed in seeds] if seeds else list(entries)


def _seeded(entry: Entry, seed: int) -> Entry:
    """A model with one seed."""

    def _filled(value: Any) -> Any:
        return value.replace("{seed}", str(seed)) if isinstance(value, str) else value

    parameters = {name: _filled(value) for name, value in entry.parameters.items()} | {"seed": seed}
    name = f"{entry.name}-seed{seed}"
    return replace(entry, name=name, weights=_filled(entry.weights), parameters=parameters, model=entry.name)


def check_names(entries: Sequence[Entry]) -> None:
    """Refuse a benchmark without models, and names that cannot be folders of their own."""
    if not entries:
        raise NomalyError(
            "a benchmark needs at least one model, got none: give BUNDLE, BUNDLE=WEIGHTS or --entries FILE."
        )
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise NomalyError(f"names of models must differ, but {names.count(name)} are called {name}: rename one.")
        if name in ("", ".", "..") or set(name) & set('/\\:*?"<>|'):
            raise NomalyError(
                f"a model's name must be a valid folder name, got {name!r}: use letters, digits, - and _."
            )


def check_entry(entry: Entry, dataset_dir: str, parameters: Mapping[str, Any]) -> None:
    """Refuse a model that could not be evaluated, before any other takes hours.

    Raises:
        NomalyError: naming the model.
    """
    inputs = {"dataset_dir": dataset_dir} | ({} if entry.weights is None else {"weights": entry.weights})
    given = {OPTIONS.get(name, name): value for name, value in {**parameters, **entry.parameters}.items()}
    try:
        checked(entry.bundle, ["evaluate", *entry.overlay], {**given, **inputs})
    except NomalyError as mistake:
        raise NomalyError(f"{entry.name}: {mistake}") from None
