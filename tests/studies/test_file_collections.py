"""Every file that pydicom and nibabel carry for their own tests has the outcome of one table, file_collections.json.

The table gives the outcomes of each collection with their files: "ok" with the shape (C, X, Y, Z), "refused" with the
class of the reason, or "skipped" where a folder with the file has no study. An intended change is written with

    python tests/studies/test_file_collections.py
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_rescale

from custom.errors import NomalyError
from custom.studies.dicom_headers import quiet_dicom
from custom.studies.discovery import find_studies
from custom.studies.loading import LoadStudy
from custom.studies.readers import read_study

TABLE = Path(__file__).with_name("file_collections.json")
COLLECTIONS = {"pydicom": Path(pydicom.__file__).parent / "data", "nibabel": Path(nib.__file__).parent}
# Classes of reasons, each with words of its text that do not depend on the wording around them.
REASONS = {
    "pixels missing": r"bytes only \d+ follow",
    "pixels cut off": r"ends within",
    "no rows and columns": r"header does not \w+ their number",
    "codec": r"could not be decoded \(",
    "format not supported": r"format not supported",
    "half of a pair": r"needs both .hdr and .img",
    "mosaic": r"mosaic",
    "deep colour": r"must have 8 bits per colour",
    "for processing": r"FOR PROCESSING",
    "frames over time": r"frames over time",
    "no geometry": r"tags are missing or wrong: .*ImagePositionPatient",
    "slices missing": r"every [\d.]+ mm, but \d+ (is|are) missing",
    "orientations": r"one orientation",
    "4-D or colour volume": r"4-D",
    "not finite": r"NaN",
    "constant": r"intensities equal",
    "not DICOM": r"InvalidDicomError",
    "DICOM RT": r"DICOM object \(RT\)",
}
POSITIONED = ("CT", "MR", "PT", "NM")
# Colour of 16 bits per channel lets ITK load all its modules, which takes half a minute on a busy machine.
ALL_COLLECTIONS = [pytest.param("pydicom", marks=pytest.mark.slow), "nibabel"]


@cache
def outcomes(collection: str) -> dict[str, str]:
    """Outcome of every file of a collection, by its path below the package."""
    root = COLLECTIONS[collection]
    return {path.relative_to(root).as_posix(): outcome(path) for path in files_of(root)}


def files_of(root: Path) -> Iterator[Path]:
    """Data files of a package, without its code."""
    folders = [root] if root.name == "data" else sorted(root.rglob("tests/data"))
    paths = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    return (path for path in paths if path.suffix not in (".py", ".pyc", ".m") and not path.name.startswith("."))


def outcome(path: Path) -> str:
    """What becomes of a file that is found in a folder by itself."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / path.name).symlink_to(path)
        try:
            (item,) = find_studies(folder)
        except NomalyError:
            return "skipped"
    return reading(path)


def reading(image: Path | list[str]) -> str:
    """Shape of a study that can be loaded, else the class of the reason."""
    try:
        channels = read_study(image).shape[0]
        loaded = LoadStudy(channels if channels in (1, 3) else 1, min_size=1)(image)
    except NomalyError as error:
        text = str(error)
        return f"refused: {next((name for name, words in REASONS.items() if re.search(words, text)), text)}"
    return "ok " + "x".join(map(str, loaded.shape))


def by_outcome(found: dict[str, str]) -> dict[str, list[str]]:
    """Files of each outcome."""
    table: dict[str, list[str]] = defaultdict(list)
    for name, result in found.items():
        table[result].append(name)
    return dict(sorted(table.items()))


def expected(collection: str) -> dict[str, str]:
    """Outcome by file of the committed table."""
    table = json.loads(TABLE.read_text())[collection]["outcomes"]
    return {name: result for result, names in table.items() for name in names}


def write_table() -> None:
    """Write the table that the installed packages give, one outcome per line."""
    parts = []
    for collection in COLLECTIONS:
        lines = [f"{json.dumps(key)}: {json.dumps(names)}" for key, names in by_outcome(outcomes(collection)).items()]
        content = ",\n".join(f"   {line}" for line in lines)
        parts.append(
            f' "{collection}": {{\n  "version": "{version(collection)}",\n  "outcomes": {{\n{content}\n  }}\n }}'
        )
    TABLE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


@pytest.mark.parametrize("collection", ALL_COLLECTIONS)
def test_every_file_has_its_outcome_of_the_table(collection: str) -> None:
    found, wanted = outcomes(collection), expected(collection)
    if not found:
        pytest.skip(f"{collection} is installed without its test files")
    shared = found.keys() & wanted.keys()
    assert {name: found[name] for name in shared} == {name: wanted[name] for name in shared}
    if version(collection) == json.loads(TABLE.read_text())[collection]["version"]:
        assert found.keys() == wanted.keys()


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_every_class_of_reasons_is_known(collection: str) -> None:
    refused = {result.removeprefix("refused: ") for result in expected(collection).values() if "refused" in result}
    assert refused <= REASONS.keys()


def image_headers(root: Path) -> Iterator[tuple[Path, pydicom.Dataset]]:
    """Images below a folder with their headers, by pydicom."""
    for path in sorted(root.rglob("*")):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, force=path.suffix == ".dcm")
        except Exception:  # not DICOM, or a folder
            continue
        if "Rows" in header and not header.get("Modality", "").startswith(("RT", "SEG")):
            yield path, header


@pytest.mark.parametrize(
    "folder, count",
    [("data/test_files/dicomdirtests", 13), ("data/test_files", 58), ("data/charset_files", 15)],
)
def test_studies_are_the_series_that_pydicom_counts(folder: str, count: int) -> None:
    root = COLLECTIONS["pydicom"].parent / folder
    series: dict[str, set[str]] = defaultdict(set)
    with quiet_dicom():
        for path, header in image_headers(root):
            is_slice = header.get("Modality") in POSITIONED and "ImagePositionPatient" in header
            series[str(header.SeriesInstanceUID) if is_slice else str(path)].add(str(path))
    items = [[item["image"]] if isinstance(item["image"], str) else item["image"] for item in find_studies(root)]
    known = set().union(*series.values())
    studies = [set(files) for files in items if known & set(files)]  # others have neither rows nor pixels
    assert sorted(map(sorted, studies)) == sorted(map(sorted, series.values()))
    assert len(studies) == count


SERIES = {
    "77654033/CT2": "refused: slices missing",
    "98892001/CT2N": "refused: orientations",
    "98892001/CT5N": "ok 1x16x16x5",
    "98892003/MR700": "refused: orientations",
}


@pytest.mark.parametrize("folder, result", SERIES.items())
def test_series_have_their_outcome(folder: str, result: str) -> None:
    (item,) = find_studies(COLLECTIONS["pydicom"] / "test_files" / "dicomdirtests" / folder)
    assert reading(item["image"]) == result


@pytest.mark.slow
def test_pixels_equal_those_of_pydicom() -> None:
    compared = [name for name, result in outcomes("pydicom").items() if result.startswith("ok") and is_same(name)]
    assert len(compared) >= 70


def is_same(name: str) -> bool:
    """Compare the pixels of a file with those of pydicom's decoders; return whether they can read it."""
    path = COLLECTIONS["pydicom"] / name
    with quiet_dicom():
        header = pydicom.dcmread(path)
        if header.PhotometricInterpretation == "PALETTE COLOR" or "PixelPaddingValue" in header:  # padding is replaced
            return False
        try:
            pixels = apply_rescale(header.pixel_array, header).astype(np.float64)
        except Exception:  # no decoder installed for its encoding
            return False
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    image = read_study(path).numpy()[..., 0].astype(np.float64).T
    if header.PhotometricInterpretation == "MONOCHROME1":  # inverted in reading: the sum is the same everywhere
        total = image + pixels
        np.testing.assert_allclose(total, total.flat[0], atol=1e-3, err_msg=name)
    else:
        np.testing.assert_allclose(image, pixels, atol=1e-3, err_msg=name)
    return True


def test_twelve_bit_jpeg_has_the_values_of_its_reference_decoder() -> None:
    # pydicom cannot decode 12 bits itself; its tests have these values from pylibjpeg and GDCM.
    for name in ("JPGExtended.dcm", "JPEG-lossy.dcm"):
        image = read_study(COLLECTIONS["pydicom"] / "test_files" / name)[0, ..., 0]
        assert (float(image[140, 420]), float(image[120, 230])) == (244, 95)


def test_mosaic_is_refused() -> None:
    path = COLLECTIONS["nibabel"] / "nicom" / "tests" / "data" / "0.dcm"
    if not path.is_file():
        pytest.skip("nibabel is installed without its test files")
    assert "MOSAIC" in pydicom.dcmread(path, stop_before_pixels=True).ImageType
    with pytest.raises(NomalyError, match="mosaic"):
        read_study(path)


if __name__ == "__main__":
    write_table()
