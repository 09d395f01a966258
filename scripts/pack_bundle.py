"""Pack bundles for the model zoo: zips that do not need this repository.

    python scripts/pack_bundle.py ra_brain --output dist
    python scripts/pack_bundle.py --all --overwrite --zoo_style

``ra_brain_v0.1.0.zip`` unzips to ``ra_brain/``: configs, docs, LICENSE, models/model.pt with models/provenance.json,
and a copy of custom/. The same files give the same bytes. Weights above 25 MB, or any with ``--weights_url``, are left
out, and large_files.yml gives their address. Consistency is checked first: the pins equal those of requirements.txt,
the weights fit the network, and eval_metrics of the metadata were measured with these weights, according to
models/provenance.json.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from custom.commands.bundle import find_bundle
from custom.commands.options import OptionParser, add_switch
from custom.errors import NomalyError, report_mistake
from custom.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 25 * 10**6  # bytes of a file in the zoo's git
REQUIRED = ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md", "docs/data_license.txt")
PROVENANCE = ("data", "command", "commit", "seed", "hours", "hardware", "eval_metrics", "sha256")
# The zoo's installer reads these from separate entries, all others from required_packages_version.
OWN_ENTRIES = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}


def pack(folder: Path, output: Path, url: str | None = None, overwrite: bool = False, zoo_style: bool = False) -> Path:
    """Check a bundle and write its zip.

    Args:
        folder: folder of the bundle.
        output: folder for the zip.
        url: address of its weights; None = they go into the zip.
        overwrite: whether a zip of this name may be replaced.
        zoo_style: whether the copy of custom/ is formatted as the zoo's code check requires.

    Raises:
        NomalyError: if anything is missing or two files disagree.
    """
    folder = folder.resolve()
    if missing := [name for name in REQUIRED if not (folder / name).is_file()]:
        raise NomalyError(f"a bundle must have {', '.join(missing)}: add it to {folder}.")
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    target = output / f"{folder.name}_v{metadata['version']}.zip"
    if target.exists() and not overwrite:
        raise NomalyError(f"{target} already exists: give --overwrite, or another --output.")
    check_metadata(metadata, pins((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    weights = folder / "models" / "model.pt"
    digest = check_weights(folder, weights)
    check_provenance(metadata, weights.with_name("provenance.json"), digest)
    files = {name: (folder / name).read_bytes() for name in bundle_files(folder)}
    if url:
        files["large_files.yml"] = large_files(url.replace("{name}", folder.name), digest)
    elif (size := weights.stat().st_size) > LIMIT:
        raise NomalyError(
            f"{weights} has {size / 1e6:.0f} MB, but the zoo accepts 25 MB per file: upload it and give --weights_url."
        )
    else:
        files["models/model.pt"] = weights.read_bytes()
    write_zip(target, folder.name, files | code_files(ROOT / "custom", zoo_style))
    return target


def pins(requirements: str) -> dict[str, str]:
    """Versions by package, from lines such as ``itk==5.4.4``."""
    lines = (line.split("#")[0].strip() for line in requirements.splitlines())
    return {name: version for name, _, version in (line.partition("==") for line in lines if line)}


def check_metadata(metadata: dict[str, Any], wanted: dict[str, str]) -> None:
    """Refuse metadata whose version has no line in the changelog, or whose pins are not the ``wanted`` ones."""
    if metadata["version"] not in metadata.get("changelog", {}):
        raise NomalyError(f"configs/metadata.json: changelog must describe version {metadata['version']}.")
    found = {name: metadata.get(entry) for name, entry in OWN_ENTRIES.items()}
    found |= metadata.get("required_packages_version", {})
    if wrong := differences(found, wanted):
        raise NomalyError(
            f"configs/metadata.json: the versions of packages must be those of requirements.txt, but {wrong[0]}: "
            "change required_packages_version."
        )


def check_weights(folder: Path, weights: Path) -> str:
    """SHA-256 of the weights, which must fit the network of the bundle."""
    if not weights.is_file():
        raise NomalyError(
            f"file not found: {weights}. Train the bundle (nomaly train {folder.name}), or copy its weights there."
        )
    from monai.bundle import ConfigParser

    from custom.detector.weights import load_detector

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    load_detector(parser.get_parsed_content("network_def"), weights)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def check_provenance(metadata: dict[str, Any], path: Path, digest: str) -> None:
    """Refuse figures in the metadata that were not measured with the weights of this SHA-256."""
    provenance = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if missing := [name for name in PROVENANCE if name not in provenance]:
        raise NomalyError(
            f"{path} must state the origin of the weights, but lacks {', '.join(missing)} "
            f"(sha256 of this model.pt: {digest})."
        )
    if provenance["sha256"] != digest:
        raise NomalyError(
            f"{path} describes other weights: its sha256 is {provenance['sha256']}, that of model.pt is {digest}. "
            "Publish these weights again, or copy the right ones."
        )
    if wrong := differences(metadata.get("eval_metrics", {}), provenance["eval_metrics"]):
        raise NomalyError(
            f"configs/metadata.json: eval_metrics must be those of {path.name}, but {wrong[0]}: take the measured ones."
        )


def differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Differences between two JSON values, in words."""
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return [] if found == wanted else [f"{where or 'the value'} is {found!r} instead of {wanted!r}"]
    result = []
    for key in sorted(found.keys() | wanted.keys()):
        name = f"{where}.{key}" if where else key
        if key not in found or key not in wanted:
            result.append(f"{name} is {'missing' if key in wanted else 'not expected'}")
        else:
            result += differences(found[key], wanted[key], name)
    return result


def bundle_files(folder: Path) -> Iterator[str]:
    """Paths of a bundle's own files except the weights, relative to its folder."""
    yield "LICENSE"
    yield "models/provenance.json"
    for part in ("configs", "docs"):
        yield from (path.relative_to(folder).as_posix() for path in visible_files(folder / part))


def visible_files(folder: Path) -> Iterator[Path]:
    """Files below a folder, without caches and hidden files."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


@functools.cache
def code_files(package: Path, zoo_style: bool) -> dict[str, bytes]:
    """Bytes of the package's files by path."""
    files = {path.relative_to(package.parent).as_posix(): path.read_bytes() for path in visible_files(package)}
    if zoo_style:
        files |= {name: format_as_zoo(text) for name, text in files.items() if name.endswith(".py")}
    return files


def format_as_zoo(code: bytes) -> bytes:
    """Code as the zoo's isort and black require: custom is a third-party package, trailing commas have no effect."""
    try:
        import black
        import isort
    except ImportError as error:
        raise NomalyError(f"--zoo_style needs {error.name}: pip install -e '.[dev]'.") from error

    text = isort.code(code.decode(), profile="black", line_length=120, known_third_party=["custom"])
    versions = {black.TargetVersion.PY37, black.TargetVersion.PY38, black.TargetVersion.PY39}
    mode = black.Mode(target_versions=versions, line_length=120, magic_trailing_comma=False)
    return black.format_str(text, mode=mode).encode()


def large_files(url: str, digest: str) -> bytes:
    """The zoo's list of files to download."""
    if not url.startswith("https://"):
        raise NomalyError(f"--weights_url must begin with https://, got {url}.")
    lines = {"path": "models/model.pt", "url": url, "hash_val": digest, "hash_type": "sha256"}
    entries = [f"{name}: {json.dumps(value)}" for name, value in lines.items()]  # a JSON text is a YAML text
    return ("large_files:\n- " + "\n  ".join(entries) + "\n").encode()


def write_zip(target: Path, name: str, files: dict[str, bytes]) -> None:
    """Write files below a folder ``name``: sorted and with one time, so that equal files give equal bytes."""
    with atomic_write(target, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{name}/{path}", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            # Weights hardly become smaller, and would take most of the time.
            entry.compress_type = zipfile.ZIP_STORED if path.endswith(".pt") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = OptionParser(description=__doc__)
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", help="names or folders")
    add_switch(parser, "all", "pack all bundles of this repository")
    parser.add_argument("--output", type=Path, default=Path("dist"), metavar="FOLDER", help="(default: %(default)s)")
    add_switch(parser, "overwrite", "replace existing zips")
    parser.add_argument(
        "--weights_url",
        metavar="URL",
        help="leave the weights out and give this address instead; {name} stands for the bundle's name",
    )
    add_switch(parser, "zoo_style", "format the code as the zoo's check requires")
    args = parser.parse_args(arguments)
    if args.all:
        args.bundles += sorted(path.parent.name for path in (ROOT / "bundles").glob("*/variant.json"))
    if not args.bundles:
        parser.error("name a bundle, or give --all")
    if args.weights_url and len(args.bundles) > 1 and "{name}" not in args.weights_url:
        parser.error("--weights_url for several bundles must contain {name}, such as https://example.org/{name}.pt")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Pack all bundles that can be packed; a mistake of the user is reported in one sentence."""
    args = parse(arguments)
    failed = 0
    for name in dict.fromkeys(args.bundles):
        try:
            zip_file = pack(find_bundle(name), args.output, args.weights_url, args.overwrite, args.zoo_style)
            print(f"{zip_file}  {zip_file.stat().st_size / 1e6:.1f} MB", flush=True)
        except Exception as error:  # MONAI wraps a config component's error in its own
            report_mistake(f"pack_bundle: {Path(name).name}", error)
            failed += 1
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
