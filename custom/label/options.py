"""Options of the MONAI Label server, checked before anything is installed or loaded; standard library only."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom.commands.options import OptionParser
from custom.commands.servers import why_unreachable
from custom.errors import NomalyError, report_mistake
from custom.label.bundles import Model, read_models

HOST = "127.0.0.1"  # patients' images: for access by others, put a server with user accounts in front
WEB = ("http://", "https://")
EXAMPLES = """examples:
  scripts/monai_label.sh --studies ~/heads                                       every bundle that has weights
  scripts/monai_label.sh --bundle ra_chest --studies ~/films --port 8001
  scripts/monai_label.sh --bundle ra_brain --weights run/models/model.pt --calibration site --studies ~/heads
  scripts/monai_label.sh --bundle ra_chest=a.pt --bundle ra_wrist=b.pt --studies ~/films
  scripts/monai_label.sh --studies http://127.0.0.1:8042/dicom-web                      Orthanc, for OHIF

The studies folder contains NIfTI volumes, 2-D images (PNG, JPEG, BMP, TIFF), single DICOM files (.dcm) and folders of
one DICOM series each. MONAI Label keeps its list of studies and the labels there (datastore_v2.json, labels/). See
docs/howto/monai_label.md.
Research software, not a medical device."""


@dataclass(frozen=True)
class Options:
    """What to serve.

    Args:
        models: by name.
        studies: folder of studies, or address of a DICOMweb server.
        port: on this machine.
    """

    models: dict[str, Model]
    studies: str
    port: int


def build_parser() -> OptionParser:
    """The options of the server."""
    parser = OptionParser(
        prog="monai_label.sh",
        description="Serve bundles to 3D Slicer and other viewers by MONAI Label, on this machine only.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--bundle",
        action="append",
        metavar="BUNDLE[=WEIGHTS]",
        help="name under bundles/ or a path; may be given several times (default: all that have models/model.pt)",
    )
    parser.add_argument("--weights", help="model.pt of the one --bundle (default: models/model.pt of the bundle)")
    parser.add_argument(
        "--calibration",
        metavar="FOLDER",
        help="calibration made by `nomaly calibrate --output FOLDER` for the weights of the one --bundle, or its "
        "calibration.json (default: the calibration in the weights)",
    )
    parser.add_argument("--studies", required=True, help="writable folder of studies, or address of a DICOMweb server")
    parser.add_argument("--port", type=int, default=8000, metavar="NUMBER", help="default: %(default)s")
    return parser


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """Read and check the options.

    Raises:
        NomalyError: if a bundle, its weights or calibration, the studies or the port cannot be used.
    """
    given = build_parser().parse_args(arguments)
    models = read_models(given.bundle or [], given.weights, given.calibration)
    return Options(models, check_studies(given.studies), check_port(given.port))


def check_studies(studies: str) -> str:
    """The studies' folder as an absolute path, or an address unchanged.

    Raises:
        NomalyError: if it is not a writable folder, or no server answers at the address.
    """
    if studies.startswith(WEB):
        if reason := why_unreachable(studies):
            raise NomalyError(
                f"--studies must be a folder or a running DICOMweb server, but {studies} does not respond ({reason}): "
                "start it, or correct the address."
            )
        return studies
    folder = Path(studies)
    if not folder.is_dir():
        raise NomalyError(f"--studies must be a folder, but {folder} is not one: check its spelling and mounts.")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise NomalyError(
            f"--studies must be writable, as MONAI Label keeps the labels there, but {folder} is not: change its "
            "permissions, or give a copy."
        )
    return str(folder.resolve())


def check_port(port: int) -> int:
    """A port that is free.

    Raises:
        NomalyError: if it is not a port, or is in use.
    """
    if not 1 <= port <= 65535:
        raise NomalyError(f"--port must be between 1 and 65535, got {port}.")
    with socket.socket() as probe:
        # As the server does: a port that was just closed is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise NomalyError(
                f"--port must be free, but {port} cannot be used ({error.strerror}): stop the program that uses it, or "
                "give another."
            ) from error
    return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Only check the options; 2 = a mistake, reported in one sentence."""
    try:
        read_options(arguments)
    except NomalyError as error:
        report_mistake("monai_label.sh", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
