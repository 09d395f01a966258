"""Runs of a bundle's configs in this process, as ``python -m monai.bundle run`` does them.

Imports of MONAI stand in the functions: the command line shall be there at once.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom.errors import NomalyError
from custom.studies.privacy import printable, without_studies

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def find_bundle(name: str) -> Path:
    """Folder of a bundle.

    Raises:
        NomalyError: if there is none of this name.
    """
    for folder in (Path(name), Path("bundles") / name, BUNDLES / name):
        if (folder / "configs" / "metadata.json").is_file():
            return folder
    known = ", ".join(sorted(path.parent.parent.name for path in BUNDLES.glob("*/configs/metadata.json")))
    # An installed copy of the package has no bundles beside it.
    next_step = f"choose one of {known}" if known else "give its path, or run from the repository's root"
    raise NomalyError(f"BUNDLE must be a bundle's name or path, got {name}: {next_step}.")


def run_bundle(bundle: str, configs: Sequence[str], overrides: dict[str, Any], tracking: str | None = None) -> Any:
    """Run configs of a bundle, later ones merged over earlier ones; prints the monai.bundle command that does the
    same. ``tracking`` is MONAI's: "mlflow", or a file of settings.

    Raises:
        NomalyError: if there is no such bundle, config or parameter.
    """
    folder = find_bundle(bundle)
    files = [str(path_of(folder, name)) for name in configs]
    overrides = {"bundle_root": str(folder), **overrides}
    if os.environ.get("RANK", "0") == "0":  # of several processes one says it
        private = None if overrides.get("keep_identifiers") else overrides.get("studies")
        said = overrides if tracking is None else {**overrides, "tracking": tracking}
        print(f"Running: {bundle_command(files, said, private)}", flush=True)
    return run_configs(files, overrides, tracking)


def run_configs(files: Sequence[str], overrides: dict[str, Any], tracking: str | None = None) -> Any:
    """Initialise, run and finalise the workflow of ``files`` merged in order, with ``overrides`` on top.

    Raises:
        NomalyError: if an override names no parameter of the configs, or is of another kind than the parameter.
    """
    from monai.bundle import ConfigWorkflow
    from monai.bundle.config_parser import ConfigParser

    check_overrides(ConfigParser.load_config_files(list(files)), overrides)
    # MONAI's own advice on each run: its security advisories, and the labels of Orientation.
    warnings.filterwarnings("ignore", message=".*(GHSA|execute|Orientation).*")
    workflow = ConfigWorkflow(config_file=list(files), tracking=tracking, **overrides)
    logging.captureWarnings(True)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse what MONAI would add in silence or fail on without a word: unknown names, words for numbers.

    Raises:
        NomalyError: with the nearest parameter, or all of them.
    """
    for name, value in overrides.items():
        if name.split("#")[0].split("::")[0] not in config:
            parameters = sorted(key for key, default in config.items() if is_parameter(key, default))
            # Settings that are expressions by default, such as weights, may be meant, too.
            settable = [*parameters, *(key for key, default in config.items() if isinstance(default, str))]
            near = difflib.get_close_matches(name.replace("-", "_"), settable, 1, 0.65)
            advice = f"did you mean {near[0]}?" if near else f"the config has {', '.join(parameters)}."
            raise NomalyError(f"no parameter is called {name}: {advice}")
        default = config.get(name)
        written = isinstance(value, str) and value.startswith(("$", "@"))  # an expression: its value is not known here
        if written or value is None or not isinstance(default, (bool, int, float)):
            continue
        kind, wanted = (bool, "true or false") if isinstance(default, bool) else ((int, float), "a number")
        if not isinstance(value, kind) or isinstance(value, bool) != isinstance(default, bool):
            raise NomalyError(f"{name} must be {wanted}, such as {json.dumps(default)}, got {value!r}.")


def is_parameter(name: str, default: Any) -> bool:
    """Whether a key of a config is a setting, rather than an object that is made of settings."""
    made = isinstance(default, dict) or (isinstance(default, str) and default.startswith(("$", "@")))
    return not made and not name.startswith("_") and name not in ("imports", "initialize", "run", "finalize")


def path_of(folder: Path, config: str) -> Path:
    """File of a config of a bundle, by name or path.

    Raises:
        NomalyError: if there is none.
    """
    for path in (folder / "configs" / f"{config}.json", Path(config)):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in (folder / "configs").glob("*.json") if path.stem != "metadata"))
    raise NomalyError(f"--overlay must be a config of {folder}, got {config}: choose one of {known}.")


def bundle_command(files: Sequence[str], overrides: dict[str, Any], private: str | Sequence[str] | None = None) -> str:
    """The monai.bundle command line of a run, without the studies that are private."""
    config = files[0] if len(files) == 1 else str(list(files))
    words = ["python", "-m", "monai.bundle", "run", "--config_file", config]
    for name, value in overrides.items():
        words += [f"--{name}", str(value)]
    return printable(shlex.join(without_studies(words, private)))


def exit_code(output_dir: str) -> int:
    """1 if a study of the run failed."""
    from custom.runs.tables import read_results_csv

    return int(any(row.status == "failed" for row in read_results_csv(Path(output_dir) / "results.csv")))
