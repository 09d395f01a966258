"""Damaged headers: every study either loads or is refused with a reason, in bounded time and memory.

Files of each format are mutated by a seeded generator and read in another process, whose crash is an outcome, too.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from dicom import write_film, write_mosaic, write_multiframe, write_series
from tests.support.fuzzing import mutate, read_folders

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")

VOLUME = np.random.default_rng(0).integers(0, 1000, (16, 16, 4)).astype(np.uint16)
IMAGE = (VOLUME[..., 0] // 4).astype(np.uint8)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SECONDS, MEMORY = 20, 256  # processor time and MiB, of one input


UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}


def write_dicom_film(folder: Path, syntax: str = uid.ExplicitVRLittleEndian) -> Path:
    return write_film(folder / "film.dcm", VOLUME[..., 0], syntax=syntax, SOPInstanceUID="1.2.3.6", **UIDS)


def write_middle_slice(folder: Path) -> Path:
    return write_series(folder, VOLUME, AFFINE, SOPInstanceUID=lambda z: f"1.2.3.6.{z}", **UIDS)[1]


def write_frames(folder: Path) -> Path:
    return write_multiframe(folder / "frames.dcm", VOLUME, AFFINE, SOPInstanceUID="1.2.3.6", **UIDS)


def write_nifti(folder: Path, name: str = "volume.nii") -> Path:
    nib.save(nib.Nifti1Image(VOLUME.astype(np.int16), AFFINE), folder / name)
    return folder / name


def write_image(folder: Path, name: str, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name


# Writer of a valid file in a folder, and the number of bytes that count as its header.
FORMATS: dict[str, tuple[Callable[[Path], Path], int]] = {
    "film": (write_dicom_film, 1000),
    "rle_film": (lambda folder: write_dicom_film(folder, uid.RLELossless), 1200),
    "jpeg_2000_film": (lambda folder: write_dicom_film(folder, uid.JPEG2000Lossless), 1200),
    "series": (write_middle_slice, 1200),
    "multi_frame": (write_frames, 2500),
    "nifti": (write_nifti, 352),
    "nifti_gz": (lambda folder: write_nifti(folder, "volume.nii.gz"), 352),
    "mosaic": (lambda folder: write_mosaic(folder / "mosaic.dcm", VOLUME, AFFINE), 2500),
    "png": (lambda folder: write_image(folder, "image.png", IMAGE), 60),
    "png_16_bit": (lambda folder: write_image(folder, "image.png", VOLUME[..., 0]), 60),
    "tiff": (lambda folder: write_image(folder, "image.tif", VOLUME[..., 0]), 200),
}


def mutated_folders(root: Path, count: int) -> list[Path]:
    """`count` folders of one study each, its file mutated."""
    folders = []
    for number in range(count):
        name = list(FORMATS)[number % len(FORMATS)]
        folder = root / f"{name}_{number:04}"
        folder.mkdir(parents=True)
        write, header = FORMATS[name]
        path = write(folder)
        content = path.read_bytes()
        path.write_bytes(mutate(content, min(header, len(content)), np.random.default_rng([7, number])))
        folders.append(folder)
    return folders


def check(tmp_path: Path, count: int) -> None:
    """Read mutated files: no exception but ours, no crash, no hang, nothing written."""
    folders = mutated_folders(tmp_path / "inputs", count)
    before = contents(tmp_path / "inputs")
    (tmp_path / "work").mkdir()
    found = read_folders(folders, tmp_path / "work")
    assert [line["folder"] for line in found] == [str(folder) for folder in folders]
    assert [line for line in found if line["outcome"] not in ("ok", "refused")] == []
    assert [line for line in found if line["seconds"] > SECONDS] == []
    assert [line for line in found if line["memory"] > MEMORY] == []
    outcomes = Counter(line["outcome"] for line in found)
    assert min(outcomes["ok"], outcomes["refused"]) > count / 10  # the mutations are neither harmless nor all fatal
    assert contents(tmp_path / "inputs") == before and contents(tmp_path / "work") == {}


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder."""
    status = {str(path): path.stat() for path in folder.rglob("*")}
    return {name: (facts.st_size, facts.st_mtime_ns) for name, facts in status.items()}


def test_two_hundred_damaged_files_load_or_are_refused(tmp_path: Path) -> None:
    check(tmp_path, 200)


@pytest.mark.slow
def test_two_thousand_damaged_files_load_or_are_refused(tmp_path: Path) -> None:
    check(tmp_path, 2000)


# Single files, each with the one property that matters; all are read by one process.


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) == 1
    return content.replace(old, new)


def without_fragments(content: bytes, left: int) -> bytes:
    """Cut a compressed film off, `left` bytes behind the beginning of its pixels."""
    pixels = content.index(b"\xe0\x7f\x10\x00O") + 12
    assert content[pixels : pixels + 4] == b"\xfe\xff\x00\xe0"  # offset table, 12 bytes; then the fragment
    return content[: pixels + left]


def with_many_segments(content: bytes) -> bytes:
    """Let an RLE frame claim 2 + 2**22 segments."""
    segments = content.index(b"\xe0\x7f\x10\x00O") + 12 + 12 + 8  # behind the offset table and the fragment's header
    assert content[segments : segments + 4] == (2).to_bytes(4, "little")
    return content[: segments + 2] + b"\x40" + content[segments + 3 :]


def without_rows(content: bytes) -> bytes:
    """Set the second axis of a NIfTI file, dim[2], to 0."""
    return content[:44] + bytes(2) + content[46:]


SINGLE_FILES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    **{f"valid {name}": (name, lambda content: content) for name in FORMATS},
    "body part of unknown type": ("film", lambda c: replaced(c, b"\x18\0\x15\0CS", b"\x18\0\x15\0QQ")),
    "spacing of unknown type": ("film", lambda c: replaced(c, b"\x28\0\x30\0DS", b"\x28\0\x30\0QQ")),
    "date of unknown type": ("film", lambda c: replaced(c, b"\x08\0\x20\0DA", b"\x08\0\x20\0EA")),
    **{
        f"RLE without fragments {left}": ("rle_film", lambda c, n=left: without_fragments(c, n)) for left in (4, 12, 16)
    },
    **{
        f"J2K without fragments {left}": ("jpeg_2000_film", lambda c, n=left: without_fragments(c, n))
        for left in (4, 12)
    },
    "RLE of many segments": ("rle_film", with_many_segments),
    "NIfTI without rows": ("nifti", without_rows),
}


@pytest.fixture(scope="module")
def single_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What reading each single file gave, by its name."""
    root = tmp_path_factory.mktemp("single")
    (root / "work").mkdir()
    folders = []
    for name, (format_, change) in SINGLE_FILES.items():
        folder = root / "inputs" / name
        folder.mkdir(parents=True)
        path = FORMATS[format_][0](folder)
        path.write_bytes(change(path.read_bytes()))
        folders.append(folder)
    return dict(zip(SINGLE_FILES, read_folders(folders, root / "work"), strict=True))


@pytest.mark.parametrize("format_", FORMATS)
def test_valid_file_of_each_format_loads(single_files, format_: str) -> None:
    assert single_files[f"valid {format_}"]["outcome"] == "ok"


@pytest.mark.parametrize("tag", ["body part", "spacing"])
def test_tag_of_unknown_type_is_refused_or_ignored(single_files, tag: str) -> None:
    assert single_files[f"{tag} of unknown type"]["outcome"] in ("ok", "refused")


@pytest.mark.parametrize("name", [name for name in SINGLE_FILES if "without fragments" in name])
def test_compressed_film_without_fragments_is_refused(single_files, name: str) -> None:
    assert single_files[name]["outcome"] == "refused"


def test_rle_frame_of_too_many_segments_is_refused(single_files) -> None:
    assert single_files["RLE of many segments"]["outcome"] == "refused"


def test_nifti_axis_without_voxels_is_refused(single_files) -> None:
    assert single_files["NIfTI without rows"]["outcome"] == "refused"


def test_tag_of_damaged_type_takes_little_memory(single_files) -> None:
    found = single_files["date of unknown type"]
    assert found["outcome"] in ("ok", "refused") and found["memory"] < MEMORY
