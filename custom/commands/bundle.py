"""The bundles, and runs of their configs in this process as ``python -m monai.bundle run`` does them.

Imports beyond the standard library are in the functions: help and mistakes must appear at once.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custom.commands.checks import check_inputs, settings_of
from custom.commands.options import choices, nearest
from custom.errors import NomalyError

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

METADATA = Path("configs") / "metadata.json"
REPOSITORY = Path(__file__).resolve().parents[2] / "bundles"  # has the sources of the configs beside the bundles


def shipped_bundles() -> Path:
    """Folder of the bundles that come with Nomaly: in the repository, else within the installed package nomaly."""
    if not (REPOSITORY / "_base").is_dir():
        with suppress(ModuleNotFoundError):  # a packed bundle, which has custom/ only
            return Path(str(resources.files("nomaly"))) / "bundles"
    return REPOSITORY


BUNDLES = shipped_bundles()


class UnknownParameter(NomalyError):
    """A name that is not a parameter of the config.

    Args:
        name: as it was given.
        parameters: the plain settings of the config.
        others: further names that may be meant.
    """

    def __init__(self, name: str, parameters: Sequence[str], others: Iterable[str] = ()) -> None:
        self.name = name
        self.parameters = parameters
        self.others = list(others)
        meant = nearest(name, [*parameters, *self.others])
        advice = f"did you mean {meant}?" if meant else f"the config has {', '.join(parameters)}."
        super().__init__(f"no parameter is called {name}: {advice}")

    def beside(self, options: Iterable[str]) -> UnknownParameter:
        """The same mistake where a command also has these options."""
        return UnknownParameter(self.name, self.parameters, [*self.others, *options])


def bundle_folders() -> Iterator[Path]:
    """Bundles that come with Nomaly and of the current folder, in order of their names."""
    found = {
        path.parents[1].name: path.parents[1]
        for root in (BUNDLES, Path("bundles"))
        for path in root.glob(f"*/{METADATA}")
    }
    yield from (found[name] for name in sorted(found))


def find_bundle(name: str, option: str = "BUNDLE") -> Path:
    """Folder of a bundle by name or path.

    Raises:
        NomalyError: if it was not found; names the nearest one and all others.
    """
    for folder in (Path(name), Path("bundles") / name, BUNDLES / name):
        if (folder / METADATA).is_file():
            return folder
    if Path(name).is_dir():
        raise NomalyError(
            f"{option} {name} has no {METADATA}: copy that of a similar bundle and edit it, or check the path."
        )
    names = [folder.name for folder in bundle_folders()]
    missing = "give its path, or run from the repository's root"
    advice = choices(Path(name).name, names, "bundles") if names else missing
    raise NomalyError(f"{option} must be a bundle's name or path, got {name}: {advice}.")


def run_bundle(
    bundle: str, configs: Sequence[str], overrides: dict[str, Any], tracking: str | None = None
) -> ConfigWorkflow:
    """Run configs of a bundle, later ones merged over earlier ones; prints the equivalent monai.bundle command.

    Args:
        bundle: name or path.
        configs: names of configs of the bundle, or paths.
        overrides: config parameters; others may come from the weights.
        tracking: MONAI's, "mlflow" or a file of settings; None = no tracking.

    Raises:
        NomalyError: if the bundle, a config or a parameter does not exist, or a value has the wrong type.
    """
    folder, files, overrides = checked(bundle, configs, overrides)

    from custom.commands.from_weights import parameters_from_weights

    overrides = {"bundle_root": str(folder), **parameters_from_weights(folder, files, overrides), **overrides}
    if os.environ.get("RANK", "0") == "0":  # one of several processes prints it
        hidden = {**settings_of(files), **overrides}.get("pseudonymise")
        private = overrides.get("studies") if hidden else None
        shown = overrides if tracking is None else {**overrides, "tracking": tracking}
        print(f"Running: {bundle_command(files, shown, private)}", flush=True)
    return run_configs(files, overrides, tracking)


def checked(
    bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]
) -> tuple[Path, list[str], dict[str, Any]]:
    """Folder, config files and parameters of a run, after all checks that need neither PyTorch nor MONAI.

    Args:
        bundle: name or path.
        configs: names of configs of the bundle, or paths.
        overrides: parameters that the user set.

    Raises:
        NomalyError: as :func:`run_bundle`, or if an input does not exist or the output folder has other results.
    """
    folder = find_bundle(bundle)
    files = [str(path_of(folder, name)) for name in configs]
    parameters = {**outside(folder, configs[0], overrides), **overrides}
    settings = settings_of(files)
    check_overrides(settings, parameters)
    check_inputs(settings, parameters)
    return folder, files, parameters


def outside(folder: Path, config: str, overrides: Mapping[str, Any]) -> dict[str, str]:
    """Where a run writes by default if the bundle lies in an installed package, as parameters; none for other bundles.

    Args:
        folder: folder of the bundle.
        config: name of the config that is run.
        overrides: parameters that the user set.
    """
    if BUNDLES == REPOSITORY or not folder.resolve().is_relative_to(BUNDLES.resolve()):
        return {}
    results = Path("results") / folder.name
    own = {"phantom_dir": str(results / "phantom")}
    if config != "calibrate":
        own["output_dir"] = str(results / config)
    elif not overrides.get("into_weights"):  # else beside the copy of the weights
        own["calibration_file"] = str(results / config / "calibration.json")
    return own


def run_configs(files: Sequence[str], overrides: dict[str, Any], tracking: str | None = None) -> ConfigWorkflow:
    """Initialise, run and finalise the workflow of ``files`` merged in order, with ``overrides`` on top."""
    from monai.bundle import ConfigWorkflow

    from custom.detector.weights import check_device

    device = overrides.get("device")
    if isinstance(device, str) and not device.startswith(("$", "@")):
        check_device(device)
    # MONAI's own advice on each run: its security advisories, and the labels of Orientation.
    warnings.filterwarnings("ignore", message=".*(GHSA|execute|Orientation).*")
    workflow = ConfigWorkflow(config_file=list(files), tracking=tracking, **overrides)
    logging.captureWarnings(True)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse what MONAI would silently add, or fail on without an explanation: unknown names, text instead of numbers.

    Raises:
        NomalyError: with the nearest parameter, or all of them.
    """
    for name, value in overrides.items():
        if name.split("#")[0].split("::")[0] not in config:
            parameters = sorted(key for key, default in config.items() if is_parameter(key, default))
            # Settings whose default is an expression, such as weights, may be meant as well.
            raise UnknownParameter(
                name, parameters, (key for key, default in config.items() if isinstance(default, str))
            )
        default = config.get(name)
        expression = isinstance(value, str) and value.startswith(("$", "@"))  # its value is not known here
        if expression or value is None or not isinstance(default, (bool, int, float)):
            continue
        kind, wanted = (bool, "true or false") if isinstance(default, bool) else ((int, float), "a number")
        if not isinstance(value, kind) or isinstance(value, bool) != isinstance(default, bool):
            raise NomalyError(f"{name} must be {wanted}, such as {json.dumps(default)}, got {value!r}.")


def is_parameter(name: str, default: Any) -> bool:
    """Whether a key of a config is a setting, not an object built from settings."""
    built = isinstance(default, dict) or (isinstance(default, str) and default.startswith(("$", "@")))
    return not built and not name.startswith("_") and name not in ("imports", "initialize", "run", "finalize")


def path_of(folder: Path, config: str) -> Path:
    """File of a config of a bundle, by name or path.

    Raises:
        NomalyError: if it was not found.
    """
    for path in (folder / "configs" / f"{config}.json", Path(config)):
        if path.is_file():
            return path
    known = sorted(path.stem for path in (folder / "configs").glob("*.json") if path.stem != "metadata")
    raise NomalyError(f"--overlay must be a config of {folder}, got {config}: {choices(config, known, 'configs')}.")


def bundle_command(files: Sequence[str], overrides: dict[str, Any], private: str | Sequence[str] | None = None) -> str:
    """The monai.bundle command line of a run, with STUDIES for those that are private."""
    from custom.studies.privacy import printable, without_studies

    config = files[0] if len(files) == 1 else str(list(files))
    words = ["python", "-m", "monai.bundle", "run", "--config_file", config]
    for name, value in overrides.items():
        words += [f"--{name}", json.dumps(value, ensure_ascii=False) if is_texts(value) else str(value)]
    return printable(shlex.join(without_studies(words, private)))


def is_texts(value: Any) -> bool:
    """Whether a value is a list of text, for which JSON needs fewer quotes on a command line than Python."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def failures(output_dir: str) -> int:
    """Number of studies of a run that failed."""
    from custom.runs.tables import read_results_csv

    return sum(row.status == "failed" for row in read_results_csv(Path(output_dir) / "results.csv"))
