"""Options of the MONAI Deploy application, from the command line or the environment of a container."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom.commands.options import OptionParser
from custom.commands.overrides import parse_overrides
from custom.errors import NomalyError

# Folders in MONAI Deploy's containers; an option overrides them.
INPUT, OUTPUT, MODELS = "HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH", "HOLOSCAN_MODEL_PATH"
FIXED = ("studies", "output_dir", "bundle_root")  # parameters that the application sets itself
EXAMPLES = """examples:
  scripts/monai_deploy.sh --bundle ra_chest --input films --output results
  scripts/monai_deploy.sh --bundle ra_brain --input study --output results --series 'SeriesDescription=t1'
  scripts/monai_deploy.sh --bundle ra_brain --input study --output results --weights run/models/model.pt

Any parameter of nomaly detect can also be set, such as --overwrite true or --alpha 0.02. See
docs/howto/monai_deploy.md.
Exit code 0 = done, 1 = some studies failed, 2 = user error, reported in one sentence.
Research software, not a medical device."""


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Args:
        bundle: folder of the bundle.
        input: folder of DICOM files, searched with its subfolders.
        output: folder for the results.
        series: conditions that series must meet: DICOM keyword -> pattern.
        parameters: other parameters of the bundle's inference config.
    """

    bundle: Path
    input: Path
    output: Path
    series: dict[str, str]
    parameters: dict[str, Any]


def build_parser() -> OptionParser:
    """The options of the application."""
    parser = OptionParser(
        prog="monai_deploy.sh",
        description="Score the DICOM series of a folder with one bundle, as a MONAI Deploy application.",
        epilog=EXAMPLES,
    )
    for name, variable, text in (
        ("bundle", MODELS, "name under bundles/, path of a bundle, or folder that contains a single bundle"),
        ("input", INPUT, "folder of DICOM files, such as one study"),
        ("output", OUTPUT, "folder for DICOM SEG, SR and map of each series, and the results of nomaly detect"),
    ):
        default = os.environ.get(variable)
        parser.add_argument(f"--{name}", required=not default, default=default, help=f"{text} (default: ${variable})")
    parser.add_argument(
        "--series",
        action="append",
        default=[],
        metavar="KEYWORD=PATTERN",
        help="select series: DICOM keyword and a regular expression to search in its text, ignoring case, or to match "
        "its whole number; can be repeated, then all must match (default: Modality that the bundle is made for)",
    )
    return parser


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """Read and check the options.

    Raises:
        NomalyError: if the bundle or the input does not exist, or a condition or parameter is invalid.
    """
    given, rest = build_parser().parse_known_args(arguments)
    parameters = parse_overrides(rest)
    for name in FIXED:
        if name in parameters:
            raise NomalyError(f"--{name} is set by the application: use --input, --output and --bundle.")
    bundle = model_folder(given.bundle)
    return Options(bundle, check_input(given.input), Path(given.output), read_series(bundle, given.series), parameters)


def model_folder(name: str) -> Path:
    """Folder of a bundle by name or path, or the single bundle in a folder, as in containers.

    Raises:
        NomalyError: no bundle was found.
    """
    from custom.commands.bundle import find_bundle

    inside = [file.parents[1] for file in Path(name).glob("*/configs/metadata.json")]
    return (inside[0] if len(inside) == 1 else find_bundle(name)).resolve()


def check_input(name: str) -> Path:
    """The folder of DICOM files.

    Raises:
        NomalyError: not a folder.
    """
    if not os.path.isdir(name):
        raise NomalyError(f"--input must be a folder, but {name} is not a folder: check its spelling and mounts.")
    return Path(name).resolve()


def read_series(bundle: Path, given: Sequence[str]) -> dict[str, str]:
    """Conditions that series must meet; by default, the modalities that the bundle is made for.

    Raises:
        NomalyError: a condition that is not KEYWORD=PATTERN.
    """
    from monai.bundle import ConfigParser
    from pydicom.datadict import tag_for_keyword

    modalities = ConfigParser.load_config_file(str(bundle / "configs" / "inference.json"))["modalities"]
    conditions = {"Modality": f"^({'|'.join(modalities)})$"}
    for entry in given:
        keyword, _, pattern = entry.partition("=")
        try:
            re.compile(pattern)
        except re.error as error:
            raise NomalyError(
                f"--series must have a valid regular expression, got {pattern} ({error}): correct it."
            ) from None
        if tag_for_keyword(keyword) is None or not pattern:
            raise NomalyError(
                f"--series must be KEYWORD=PATTERN with a DICOM keyword, got {entry}: for example SeriesDescription=t1."
            )
        conditions[keyword] = pattern
    return conditions
