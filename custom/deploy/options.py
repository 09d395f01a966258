"""What the MONAI Deploy application is asked for: by its command line, or by the environment of a container."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom.commands.overrides import parse_overrides
from custom.errors import NomalyError

# Where MONAI Deploy's containers tell the folders; an option wins over them.
INPUT, OUTPUT, MODELS = "HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH", "HOLOSCAN_MODEL_PATH"
FIXED = ("studies", "output_dir", "bundle_root")  # parameters that the application sets itself
EXAMPLES = """examples:
  scripts/monai_deploy.sh --bundle ra_chest --input films --output results
  scripts/monai_deploy.sh --bundle ra_brain --input study --output results --series 'SeriesDescription=t1'
  scripts/monai_deploy.sh --bundle ra_brain --input study --output results --weights run/models/model.pt

Any parameter of nomaly detect can be set too, such as --overwrite true or --alpha 0.02. See
docs/howto/monai_deploy.md.
Exit code 0 = done, 1 = some studies failed, 2 = a mistake, told in one sentence.
Research software, not a medical device."""


@dataclass(frozen=True)
class Options:
    """What to run.

    Args:
        bundle: its folder.
        input: folder of DICOM files, gone through with all that lies below it.
        output: folder for the results.
        series: conditions of the series to be assessed: pattern by DICOM keyword.
        parameters: other settings of the bundle's inference config.
    """

    bundle: Path
    input: Path
    output: Path
    series: dict[str, str]
    parameters: dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """The options of the application."""
    parser = argparse.ArgumentParser(
        prog="monai_deploy.sh",
        description="Assess the DICOM series of a folder with one bundle, as a MONAI Deploy application.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, variable, text in (
        ("bundle", MODELS, "name under bundles/ or a path; of a folder that holds one bundle, that one"),
        ("input", INPUT, "folder of DICOM files, such as one study"),
        ("output", OUTPUT, "folder for DICOM SEG, SR and map of each series, and the results as nomaly detect gives"),
    ):
        default = os.environ.get(variable)
        parser.add_argument(f"--{name}", required=not default, default=default, help=f"{text} (default: ${variable})")
    parser.add_argument(
        "--series",
        action="append",
        default=[],
        metavar="KEYWORD=PATTERN",
        help="DICOM keyword, and a regular expression that is searched in its text in any case, or matches all of its "
        "number; may be given several times, then all must hold (default: Modality of what the bundle is made for)",
    )
    return parser


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """Read and check what the user wants.

    Raises:
        NomalyError: if the bundle or the input is not there, or a condition or parameter is wrong.
    """
    given, rest = build_parser().parse_known_args(arguments)
    parameters = parse_overrides(rest)
    for name in FIXED:
        if name in parameters:
            raise NomalyError(f"--{name} is set by the application: use --input, --output and --bundle.")
    bundle = model_folder(given.bundle)
    return Options(bundle, check_input(given.input), Path(given.output), read_series(bundle, given.series), parameters)


def model_folder(name: str) -> Path:
    """Folder of a bundle by name or path, or the one bundle in a folder, as containers have it.

    Raises:
        NomalyError: if there is none.
    """
    from custom.commands.bundle import find_bundle

    inside = [file.parents[1] for file in Path(name).glob("*/configs/metadata.json")]
    return (inside[0] if len(inside) == 1 else find_bundle(name)).resolve()


def check_input(name: str) -> Path:
    """The folder of DICOM files.

    Raises:
        NomalyError: if it is none.
    """
    if not os.path.isdir(name):
        raise NomalyError(f"--input must be a folder, but {name} is none: check its spelling and mounts.")
    return Path(name).resolve()


def read_series(bundle: Path, given: Sequence[str]) -> dict[str, str]:
    """Conditions of the series to be assessed; without any of Modality, those that the bundle is made for.

    Raises:
        NomalyError: if one is not KEYWORD=PATTERN.
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
                f"--series must have a regular expression, got {pattern} ({error}): correct it."
            ) from None
        if tag_for_keyword(keyword) is None or not pattern:
            raise NomalyError(
                f"--series must be KEYWORD=PATTERN with a keyword of DICOM, got {entry}: such as SeriesDescription=t1."
            )
        conditions[keyword] = pattern
    return conditions
