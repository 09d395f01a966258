"""Compare the geometry of DICOM series as Nomaly and dcm2niix read them.

    pip install dcm2niix
    python scripts/compare_geometry.py EXPORT --output geometry.csv

Every cross-sectional series and every multi-frame volume below a folder is read by both: the shape, the corners in
patient coordinates (mm), and the values at random voxels must be equal. What one of them does not read is listed with
the reason and is not a disagreement. The exit code is 1 if some disagree, 2 if there is nothing to compare.

dcm2niix (github.com/rordenlab/dcm2niix) is an optional program; its path may be given with --dcm2niix.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from monai.data import MetaTensor

from custom.errors import NomalyError
from custom.studies.dicom_headers import scan_file
from custom.studies.discovery import find_studies
from custom.studies.formats import is_dicom
from custom.studies.readers import read_study

AGREES, DISAGREES, REFUSED, NOT_CONVERTED = "agree", "DISAGREE", "not read by Nomaly", "not converted by dcm2niix"
POINTS = 500  # voxels whose values are compared
VALUE_TOLERANCE = 1e-5  # of the range of the values


@dataclass
class Comparison:
    """One series.

    Attributes:
        series: its folder, or its file, below the corpus.
        files: number of its files.
        verdict: see the constants above.
        nomaly: shape (X, Y, Z) as Nomaly reads it.
        dcm2niix: shape of the nearest volume of dcm2niix.
        corner_mm: largest distance of a corner from the same one of dcm2niix.
        value_difference: largest difference of a value, in parts of the range.
        note: why it was not read, or what differs.
    """

    series: str
    files: int
    verdict: str
    nomaly: str = ""
    dcm2niix: str = ""
    corner_mm: float | None = None
    value_difference: float | None = None
    note: str = ""


def find_program(path: str | None) -> str | None:
    """Return the path of dcm2niix: as given, on the search path, or of its Python package; None if not found."""
    if path is not None:
        return shutil.which(path)
    try:
        return str(importlib.import_module("dcm2niix").bin)
    except ImportError:
        return shutil.which("dcm2niix")


def volumes(corpus: Path) -> Iterator[list[Path]]:
    """Files of each cross-sectional series and of each other DICOM image below a folder."""
    for item in find_studies(corpus):
        image = item["image"]
        if isinstance(image, list):
            yield [Path(file) for file in image]
        elif os.path.isfile(image) and is_dicom(Path(image)) and scan_file(Path(image)) is not None:
            yield [Path(image)]


def compare(files: Sequence[Path], corpus: Path, program: str, tolerance: float) -> Comparison | None:
    """Read one series by both programs; None for an image without a position, such as a film."""
    place = files[0] if len(files) == 1 else Path(os.path.commonpath([file.parent for file in files]))
    result = Comparison(os.path.relpath(place, corpus), len(files), AGREES)
    try:
        image = read_study([str(file) for file in files])
    except NomalyError as error:
        result.verdict, result.note = REFUSED, str(error).partition(": ")[2]
        return result if len(files) > 1 or is_volume(files[0]) else None
    if not image.meta["sides_known"]:
        return None
    result.nomaly = shape_text(image.shape[1:])
    files = [Path(file) for file in image.meta["source_files"]]  # without second copies of an image
    with tempfile.TemporaryDirectory() as folder:
        converted, messages = convert(files, Path(folder), program)
        if not converted:
            result.verdict, result.note = NOT_CONVERTED, messages
            return result
        found = min((differences(image, volume) for volume in converted), key=lambda each: each[1])
    result.dcm2niix, result.corner_mm, result.value_difference = found
    faults = {
        "shape": sorted(result.nomaly.split(" x ")) != sorted(result.dcm2niix.split(" x ")),  # in any order of axes
        "corners": result.corner_mm > tolerance,
        "values": not result.value_difference <= VALUE_TOLERANCE,
    }
    result.note = ", ".join(name for name, fault in faults.items() if fault)
    if result.note:
        result.verdict = DISAGREES
        result.note += f"; dcm2niix made {len(converted)}, the nearest of {result.dcm2niix}"
    return result


def is_volume(file: Path) -> bool:
    """Whether a file is a slice with a position, or has several frames."""
    header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    return "ImagePositionPatient" in header or int(header.get("NumberOfFrames") or 1) > 1


def convert(files: Sequence[Path], folder: Path, program: str) -> tuple[list[nib.Nifti1Image], str]:
    """Convert files with dcm2niix; return its volumes, without resampled copies, and its last message."""
    (folder / "in").mkdir()
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / "in" / f"{number:06}.dcm")
    words = [program, "-z", "n", "-b", "n", "-f", "volume", "-o", str(folder), str(folder / "in")]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    paths = [path for path in sorted(folder.glob("*.nii")) if not path.stem.endswith(("_Eq", "_Eq_1"))]
    messages = [line for line in done.stdout.splitlines() if line.startswith(("Error", "Warning"))]
    return [load(path) for path in paths], (messages or [f"exit code {done.returncode}, no volume"])[-1][:200]


def load(path: Path) -> nib.Nifti1Image:
    """Load a volume with its values, as the file is removed afterwards."""
    volume = nib.load(path)
    return nib.Nifti1Image(np.asarray(volume.get_fdata()), volume.affine)


def differences(image: MetaTensor, volume: nib.Nifti1Image) -> tuple[str, float, float]:
    """Shape of a converted volume, distance of its corners (mm), and difference of values in parts of the range.

    dcm2niix may store rows and slices in the opposite order, so that voxels are compared by their position.
    """
    array = np.asarray(volume.dataobj)
    shape = (*array.shape, 1, 1)[:3] if array.ndim <= 3 else array.shape
    mine, other = np.asarray(image.affine, dtype=np.float64), volume.affine
    sides = np.array(image.shape[1:])
    corners = positions(np.array(list(product(*[(0, side - 1) for side in sides]))), mine)
    others = positions(np.array(list(product(*[(0, side - 1) for side in shape[:3]]))), other)
    distance = np.linalg.norm(corners[:, None] - others[None], axis=2).min(axis=1).max()
    voxels = np.random.default_rng(0).integers(0, sides, (POINTS, 3))
    values = image.numpy()[0][tuple(voxels.T)] if image.shape[0] == 1 else np.full(POINTS, np.nan)
    places = np.rint(positions(positions(voxels, mine), np.linalg.inv(other))).astype(int)
    if array.ndim > 3 or (places < 0).any() or (places >= shape[:3]).any():
        return shape_text(shape), float(distance), float("inf")
    found = array.reshape(shape)[tuple(places.T)]
    spread = float(np.ptp(image.numpy())) or 1.0
    return shape_text(shape), float(distance), float(np.abs(values - found).max() / spread)


def positions(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Apply an affine (4, 4) to points (n, 3)."""
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def shape_text(shape: Sequence[int]) -> str:
    """Shape as text, as "256 x 256 x 30"."""
    return " x ".join(str(int(side)) for side in shape)


def table(results: Sequence[Comparison]) -> str:
    """Comparisons as text, one per line, and the number of each verdict."""
    lines = [f"{'verdict':26}{'files':>6}  {'shape':18}{'corner mm':>10}{'value diff.':>12}  series"]
    for result in results:
        numbers = [("" if value is None else f"{value:.2g}") for value in (result.corner_mm, result.value_difference)]
        line = (
            f"{result.verdict:26}{result.files:6}  {result.nomaly:18}{numbers[0]:>10}{numbers[1]:>12}  {result.series}"
        )
        lines.append(line + (f": {result.note}" if result.note else ""))
    counts = Counter(result.verdict for result in results)
    return "\n".join([*lines, "", ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))])


def write_csv(path: Path, results: Sequence[Comparison]) -> None:
    """Write all comparisons."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Comparison)])
        writer.writeheader()
        writer.writerows(map(asdict, results))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all series below a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder with DICOM files at any depth")
    parser.add_argument("--output", type=Path, help="CSV file for the comparisons")
    parser.add_argument("--dcm2niix", help="path of the program (default: the installed package, or the search path)")
    parser.add_argument("--tolerance", type=float, default=0.02, help="allowed distance of corners in mm (%(default)s)")
    options = parser.parse_args(arguments)
    program = find_program(options.dcm2niix)
    if program is None:
        parser.error("dcm2niix was not found. Install it with `pip install dcm2niix`, or give its path by --dcm2niix.")
    try:
        found = [compare(files, options.corpus, program, options.tolerance) for files in volumes(options.corpus)]
    except NomalyError as error:  # nothing to read
        parser.error(str(error))
    results = [result for result in found if result is not None]
    if not results:
        parser.error(f"no cross-sectional DICOM series was found below {options.corpus}.")
    print(table(results))
    if options.output:
        write_csv(options.output, results)
    return int(any(result.verdict == DISAGREES for result in results))


if __name__ == "__main__":
    sys.exit(main())
