"""The bundle and the weights that a detector is made from; standard library only."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PurePosixPath

from custom import __version__
from custom.commands.bundle import METADATA, find_bundle
from custom.detector.ownership import check_owner
from custom.errors import NomalyError

ZIP, WEIGHTS = ".zip", (".pt", ".pth")


@dataclass(frozen=True)
class Source:
    """A bundle and its weights.

    Args:
        bundle: folder of the bundle.
        weights: its model.pt.
        unpacked: temporary folder of a bundle from a zip, deleted with this object; None for other bundles.
    """

    bundle: Path
    weights: Path
    unpacked: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)


def find_source(source: str | PathLike[str], weights: str | PathLike[str] | None = None) -> Source:
    """The bundle and weights that a user names.

    Args:
        source: name of a bundle, its folder, its zip, or the model.pt in a bundle's folder.
        weights: other weights of this bundle; None = its own.

    Raises:
        NomalyError: if the bundle or the weights were not found, do not belong together, or are of another release.
    """
    path, unpacked = Path(source), None
    if path.suffix.lower() in WEIGHTS and path.is_file():
        folder, weights = bundle_of(path, weights), path
    elif path.suffix.lower() == ZIP and path.is_file():
        unpacked = tempfile.TemporaryDirectory(prefix="nomaly-")
        folder = unpack(path, Path(unpacked.name))
    else:
        folder = find_bundle(os.fspath(source), "bundle")
    check_release(folder, "bundle")
    return Source(folder, check_weights(folder, weights, "weights"), unpacked)


def bundle_of(weights: Path, others: object) -> Path:
    """Folder of the bundle that a model.pt lies in.

    Raises:
        NomalyError: if it lies in none, or other weights were given, too.
    """
    folder = weights.resolve().parent.parent
    if others is not None:
        raise NomalyError(f"weights must be given once, got {weights} and {others}: name the bundle, and one of them.")
    if not (folder / METADATA).is_file():
        raise NomalyError(
            f"{weights} must be in the models folder of its bundle, but {folder} is not a bundle: name the bundle, and "
            "give this file as weights."
        )
    return folder


def unpack(archive: Path, target: Path) -> Path:
    """Unpack the bundle in a zip, without its copy of custom/ except the release; return its folder.

    Raises:
        NomalyError: if it is no zip, or does not contain exactly one bundle.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            names = content.namelist()
            roots = [PurePosixPath(name).parents[1] for name in names if name.endswith(f"/{METADATA.as_posix()}")]
            if len(roots) != 1:
                raise NomalyError(
                    f"{archive} must contain one bundle (configs/metadata.json), but has {len(roots)}: give the zip of "
                    "one bundle."
                )
            code = f"{roots[0]}/custom/"
            wanted = [name for name in names if not name.startswith(code) or name == f"{code}__init__.py"]
            content.extractall(target, wanted)
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise NomalyError(f"{archive} must be a readable zip ({error}): download or pack it again.") from error
    return target / roots[0]


def check_release(folder: Path, option: str) -> None:
    """Refuse a packed bundle whose own copy of custom/ has another release: a process has only one package custom.

    Args:
        folder: folder of the bundle.
        option: how the user named it.

    Raises:
        NomalyError: with the two releases.
    """
    try:
        text = (folder / "custom" / "__init__.py").read_text(encoding="utf-8")
    except OSError:
        return
    found = re.search(r'__version__ = "(.*)"', text)
    release = found[1] if found else "an unknown release"
    if release != __version__:
        raise NomalyError(
            f"{option} {folder.name} must be for Nomaly {__version__}, which runs here, but its custom/ is {release}: "
            f"run it from its folder as a separate process, or use the bundle for {__version__}."
        )


def check_weights(folder: Path, weights: str | PathLike[str] | None, option: str) -> Path:
    """Path of the given weights, or of the bundle's own.

    Args:
        folder: folder of the bundle.
        weights: the given weights; None = the bundle's own.
        option: how the user gives weights.

    Raises:
        NomalyError: if they were not found, or belong to another bundle, whose network may be alike.
    """
    path = Path(weights) if weights else folder / "models" / "model.pt"
    if not path.is_file():
        raise NomalyError(
            f"weights of {folder.name}: file not found: {path}. Train the bundle (nomaly train), or give {option}."
        )
    check_owner(folder, path)
    return path.resolve()
