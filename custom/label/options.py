"""What the MONAI Label server is asked for, checked before anything is installed or loaded: standard library alone."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom.errors import NomalyError

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
HOST = "127.0.0.1"  # images of patients: whoever wants others to reach them puts a server with users in front
WEB = ("http://", "https://")
EXAMPLES = """examples:
  scripts/monai_label.sh --studies ~/heads                                       every bundle that has weights
  scripts/monai_label.sh --bundle ra_chest --studies ~/films --port 8001
  scripts/monai_label.sh --bundle ra_brain --weights run/models/model.pt --studies ~/heads
  scripts/monai_label.sh --bundle ra_chest=a.pt --bundle ra_wrist=b.pt --studies ~/films

The studies folder holds NIfTI volumes, pictures (PNG, JPEG, BMP, TIFF), DICOM films (.dcm) and folders of one DICOM
series each. MONAI Label keeps its list of them and the labels there (datastore_v2.json, labels/). More in
docs/monai_label.md.
Research software, not a medical device."""


@dataclass(frozen=True)
class Model:
    """A bundle that is served.

    Args:
        bundle: its folder.
        weights: its model.pt.
    """

    bundle: Path
    weights: Path


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


def build_parser() -> argparse.ArgumentParser:
    """The options of the server."""
    parser = argparse.ArgumentParser(
        prog="monai_label.sh",
        description="Serve bundles to 3D Slicer and other viewers by MONAI Label, on this machine alone.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--bundle",
        action="append",
        metavar="BUNDLE[=WEIGHTS]",
        help="name under bundles/ or a path; may be given several times (default: all that have models/model.pt)",
    )
    parser.add_argument("--weights", help="model.pt of the one --bundle (default: models/model.pt of the bundle)")
    parser.add_argument("--studies", required=True, help="folder of studies, which must be writable")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    return parser


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """Read and check what the user wants.

    Raises:
        NomalyError: if a bundle, its weights, the studies or the port cannot be used.
    """
    given = build_parser().parse_args(arguments)
    models = read_models(given.bundle or [], given.weights)
    return Options(models, check_studies(given.studies), check_port(given.port))


def read_models(bundles: Sequence[str], weights: str | None) -> dict[str, Model]:
    """The models by the names of their bundles; without any, all bundles that have weights.

    Raises:
        NomalyError: if a bundle or its weights are not there, or one is given twice.
    """
    if weights is not None and (len(bundles) != 1 or "=" in bundles[0]):
        raise NomalyError("--weights must go with one --bundle: of several write each as --bundle BUNDLE=WEIGHTS.")
    if not bundles:
        folders = sorted(path.parents[1] for path in BUNDLES.glob("*/models/model.pt"))
        if not folders:
            raise NomalyError(
                f"at least one bundle in {BUNDLES} must have weights (models/model.pt), but none has: train one "
                "(nomaly train), or give --bundle and --weights."
            )
        return {folder.name: Model(folder, folder / "models" / "model.pt") for folder in folders}
    models: dict[str, Model] = {}
    for entry in bundles:
        bundle, _, own = entry.partition("=")
        folder = find_bundle(bundle)
        if folder.name in models:
            raise NomalyError(f"--bundle must name each bundle once, but {folder.name} is named twice: leave one out.")
        models[folder.name] = Model(folder, check_weights(folder, own or weights))
    return models


def find_bundle(name: str) -> Path:
    """Folder of a bundle by name or path.

    Raises:
        NomalyError: if there is none.
    """
    for folder in (Path(name), BUNDLES / name):
        if (folder / "configs" / "inference.json").is_file():
            return folder.resolve()
    known = ", ".join(sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/inference.json")))
    raise NomalyError(f"--bundle must be a bundle's name or path, got {name}: choose one of {known}.")


def check_weights(folder: Path, weights: str | None) -> Path:
    """Weights of a bundle, as given or its own.

    Raises:
        NomalyError: if there are none.
    """
    path = Path(weights) if weights else folder / "models" / "model.pt"
    if not path.is_file():
        raise NomalyError(
            f"weights of {folder.name} must be a file, but there is none at {path}: train the bundle (nomaly train), "
            "or give --weights."
        )
    return path.resolve()


def check_studies(studies: str) -> str:
    """The studies' folder, or an address as it is.

    Raises:
        NomalyError: if it is no folder, or labels could not be kept in it.
    """
    if studies.startswith(WEB):
        return studies
    folder = Path(studies)
    if not folder.is_dir():
        raise NomalyError(f"--studies must be a folder, but {folder} is none: check its spelling and mounts.")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise NomalyError(
            f"--studies must be writable, as MONAI Label keeps the labels there, but {folder} is not: change its "
            "permissions, or give a copy."
        )
    return str(folder.resolve())


def check_port(port: int) -> int:
    """A port that nobody listens on.

    Raises:
        NomalyError: if it is none, or in use.
    """
    if not 1 <= port <= 65535:
        raise NomalyError(f"--port must be between 1 and 65535, got {port}.")
    with socket.socket() as probe:
        # As the server will do: a port that was closed a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise NomalyError(
                f"--port must be free, but {port} cannot be used ({error.strerror}): stop what uses it, or give "
                "another."
            ) from error
    return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Only check the options; 2 = a mistake, told in one sentence."""
    try:
        read_options(arguments)
    except NomalyError as error:
        print(f"monai_label.sh: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
