"""What a run refuses before PyTorch and MONAI are imported, which takes seconds: its inputs and its output folder.

A command calls these checks, and only then imports the modules that do its work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom.detector.existence import check_calibration, check_weights
from custom.errors import NomalyError


def settings_of(files: Sequence[str]) -> dict[str, Any]:
    """The top-level entries of config files merged in order, with their defaults.

    Raises:
        NomalyError: if a file is not a JSON object.
    """
    settings: dict[str, Any] = {}
    for file in files:
        for name, value in read_config(file).items():
            if name.startswith("+"):  # merged into an entry, see monai.bundle
                settings.setdefault(name[1:], value)
            elif not set(name) & set("#:~"):  # a part of an entry
                settings[name] = value
    return settings


def read_config(file: str | Path) -> dict[str, Any]:
    """Content of a config file.

    Raises:
        NomalyError: if it is not a JSON object.
    """
    path = Path(file)
    if path.suffix.lower() != ".json":
        from monai.bundle.config_parser import ConfigParser

        return ConfigParser.load_config_file(file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NomalyError(f"config {path} must be JSON: {error}. Correct the file.") from None
    if not isinstance(content, dict):
        raise NomalyError(f"config {path} must be an object, got {type(content).__name__}: write it in braces.")
    return content


def check_inputs(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse inputs that do not exist or hold no study, and an output folder with other results.

    Args:
        settings: top-level entries of the config.
        overrides: parameters that the user set; expressions are left to MONAI.

    Raises:
        NomalyError: with the reason and the next step.
    """
    plain = {name: value for name, value in overrides.items() if not str(value).startswith(("$", "@"))}
    if plain.get("weights"):
        check_weights(plain["weights"])
    if plain.get("calibration_file") and "into_weights" not in settings:
        check_calibration(plain["calibration_file"])
    if plain.get("studies"):
        from custom.studies.discovery import check_studies

        check_studies(plain["studies"])
    elif plain.get("dataset_dir"):
        from custom.studies.datalist import load_datalist

        load_datalist(plain["dataset_dir"], settings.get("required_sections", ()))
    if plain.get("output_dir") and "overwrite" in settings:
        check_output(Path(plain["output_dir"]), {**settings, **plain})


def check_tables(results: Sequence[str]) -> None:
    """Refuse results of runs that do not exist.

    Args:
        results: results.csv files, or folders of runs.

    Raises:
        NomalyError: naming the first one.
    """
    for path in map(Path, results):
        table = path / "results.csv" if path.is_dir() else path
        if not table.is_file():
            raise NomalyError(f"results table not found: {table}. Name the results.csv of a run.")


def check_output(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder with results that the run neither replaces nor continues.

    Raises:
        NomalyError: naming the first of them.
    """
    from custom.studies.earlier_results import earlier_tables, only_failures, refuse_earlier

    tables = earlier_tables(folder)
    if tables and not (settings.get("overwrite") or settings.get("resume") or only_failures(folder)):
        refuse_earlier(folder, tables[0].name, "resume" in settings)
