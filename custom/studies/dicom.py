"""Reading of DICOM images: a film, the files of a series, or a multi-frame file.

Geometry comes from the headers, pixels from ITK (GDCM), which decodes JPEG, JPEG-LS, JPEG 2000 and RLE.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileDataset

from custom.studies.dicom_checks import read_headers
from custom.studies.dicom_frames import count_channels, count_frames, plane_of_frame, plane_sources
from custom.studies.dicom_geometry import Plane, numbers, pixel_spacing, stack_affine, stack_order
from custom.studies.dicom_headers import PROJECTIONS, quiet_dicom
from custom.studies.dicom_mosaic import Mosaic, mosaic_mark, read_mosaic
from custom.studies.dicom_pixels import content_of, fill_padding, read_pixels
from custom.studies.dicom_view import film_affine, turn_note
from custom.studies.formats import check_memory, load_error

PLANE_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
TIME_TAGS = ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate")
FACTS = {"modality": "Modality", "body_part": "BodyPartExamined", "view": "ViewPosition"}


@quiet_dicom()
def read_dicom(files: Sequence[Path], path: Path) -> MetaTensor:
    """Read the files of one study as (C, X, Y, Z): X = column, Y = row, Z ascending along the normal of the slices.

    A multi-frame file keeps the order of its frames. Slope and intercept are applied file by file, frame by frame.

    Args:
        files: files of one series, in any order, or one film or multi-frame file.
        path: path of the study in errors.

    Returns:
        float32 with its affine (RAS); `meta` has `source_files` in the order of Z, `dicom`, `modality`, `body_part`,
        `view`, `spacing_known`, `sides_known`, `stored`: how a film was brought upright, and `content`: the part of a
        film inside its border of padding, see `content_of`.

    Raises:
        NomalyError: if a file cannot be read, is not an image, or the files do not form one volume.
    """
    headers = read_headers(files)
    files, headers = _without_copies(files, headers)
    if len({header.get("SeriesInstanceUID") for header in headers}) > 1:
        raise load_error(path, "all files must belong to one series, but they do not", "Use each series separately.")
    if len(files) > 1 and not headers[0].get("SeriesInstanceUID"):
        raise load_error(
            path,
            f"the {len(files)} slices in it must state their series, but SeriesInstanceUID is missing: they may be of "
            "several series",
            "Export them again with their UIDs (pseudonyms suffice), or convert each series to NIfTI.",
        )
    sizes = [count_frames(header) * header.Rows * header.Columns * count_channels(header) for header in headers]
    check_memory(path, sum(sizes))
    mosaic = _mosaic_of(headers, path)
    if mosaic:
        order, planes = [0], mosaic.planes
    elif any(count_frames(header) > 1 for header in headers):
        order, planes = [0], _frame_planes(files, headers, path)
    else:
        order, planes = _slice_planes(headers, path)
    files, headers = [files[index] for index in order], [headers[index] for index in order]
    spacing = pixel_spacing(plane_sources(headers[0])[2], "PixelSpacing", "ImagerPixelSpacing")
    meta: dict[str, object] = {name: str(headers[0].get(tag) or "").strip().upper() for name, tag in FACTS.items()}
    meta |= {"source_files": [str(file) for file in files], "dicom": True}
    meta |= {"spacing_known": bool(planes) or spacing is not None, "sides_known": bool(planes)}
    meta["stored"] = "" if planes else turn_note(headers[0])
    affine = stack_affine(planes) if planes else film_affine(headers[0], spacing)
    values = _stack(files, headers, path, mosaic)
    if not planes:
        meta["content"] = content_of(values)
    return MetaTensor(torch.from_numpy(fill_padding(values)), affine=torch.as_tensor(affine), meta=meta)


def _without_copies(files: Sequence[Path], headers: list[FileDataset]) -> tuple[list[Path], list[FileDataset]]:
    """Omit repeated copies of a file; reject two images under one SOPInstanceUID."""
    first: dict[Any, int] = {}
    for index, header in enumerate(headers):
        twin = first.setdefault(header.get("SOPInstanceUID") or index, index)
        if twin != index and not _same_pixels(*((files[number], headers[number]) for number in (twin, index))):
            raise load_error(
                files[index],
                f"each image must have its own SOPInstanceUID, but {files[twin]} has the same and other pixels",
                "Export the series again.",
            )
    return [files[index] for index in first.values()], [headers[index] for index in first.values()]


def _same_pixels(one: tuple[Path, FileDataset], other: tuple[Path, FileDataset]) -> bool:
    """Whether two files have the same pixels, also if only one of them is compressed, without loss."""
    first, second = (pydicom.dcmread(file, force=True).get("PixelData", b"") for file, _ in (one, other))
    return first == second or np.array_equal(read_pixels(*one), read_pixels(*other), equal_nan=True)


def _mosaic_of(headers: list[FileDataset], path: Path) -> Mosaic | None:
    """Return the tiles of a study that is a mosaic, None for others; reject several mosaics."""
    if not any(map(mosaic_mark, headers)):
        return None
    if len(headers) > 1:
        problem = f"a study must be one volume, but each of the {len(headers)} files is a mosaic, a volume of its own"
        raise load_error(path, problem, "Use one of the files.")
    return read_mosaic(headers[0])


def _slice_planes(headers: list[FileDataset], path: Path) -> tuple[list[int], list[Plane]]:
    """Return the order of single-frame files and their planes in it; a film has no planes."""
    planes = [plane_of_frame(header) for header in headers]
    if len(headers) == 1 and (planes[0] is None or headers[0].get("Modality") in PROJECTIONS):
        return [0], []
    known = _all_known([plane_sources(header) for header in headers], planes, "files", path)
    order = stack_order(known, path)
    return order, [known[index] for index in order]


def _frame_planes(files: Sequence[Path], headers: list[FileDataset], path: Path) -> list[Plane]:
    """Return the planes of the frames of one multi-frame file, in their order."""
    header, count = headers[0], count_frames(headers[0])
    if len(files) > 1:
        step = "Use each of its files separately."
        raise load_error(path, "a series of several files must have one frame per file, but it has more", step)
    if header.get("PerFrameFunctionalGroupsSequence") is None and any(header.get(tag) for tag in TIME_TAGS):
        raise load_error(
            path,
            f"the file must be one image or one volume, but it contains {count} frames over time "
            f"({header.get('Modality') or 'no modality'}, {header.SOPClassUID.name})",
            "Export the frame to analyse as a single image.",
        )
    planes = [plane_of_frame(header, number) for number in range(count)]
    known = _all_known([plane_sources(header, number) for number in range(count)], planes, "frames", path)
    order = stack_order(known, path)
    if order not in (list(range(count)), list(range(count))[::-1]):
        step = "Export the volume as one file per slice, or as NIfTI."
        raise load_error(path, f"the {count} frames must be stored in the order of their positions", step)
    return known


def _all_known(
    sources: Sequence[tuple[Dataset | None, ...]], planes: list[Plane | None], what: str, path: Path
) -> list[Plane]:
    """Return the planes; reject a volume in which the position of a slice is missing."""
    known = [plane for plane in planes if plane is not None]
    missing_count = len(planes) - len(known)
    if missing_count:
        source = sources[planes.index(None)]
        counts = zip(PLANE_TAGS, source, (3, 6, 2), strict=True)
        missing = [tag for tag, group, count in counts if numbers(group, tag, count) is None]
        raise load_error(
            path,
            f"a volume must specify the position of each slice, but in {missing_count} of {len(planes)} {what} "
            f"these tags are missing or wrong: {', '.join(missing or PLANE_TAGS[1:])}",
            "Export it again with its geometry, or as NIfTI.",
        )
    return known


def _stack(files: Sequence[Path], headers: list[FileDataset], path: Path, mosaic: Mosaic | None) -> np.ndarray:
    """Read the pixels of all files, float32 (C, X, Y, Z); padding is NaN."""
    volume: np.ndarray | None = None
    for z, (file, header) in enumerate(zip(files, headers, strict=True)):
        pixels = read_pixels(file, header)
        if mosaic:
            pixels = mosaic.split(pixels)
        if len(files) == 1:
            return np.ascontiguousarray(pixels, dtype=np.float32)
        if volume is None:
            volume = np.empty((*pixels.shape[:3], len(files)), dtype=np.float32)
        if pixels.shape != (*volume.shape[:3], 1):
            step = "Export the series again."
            raise load_error(path, "all slices must have the same number of channels, but they do not", step)
        volume[..., z] = pixels[..., 0]
    assert volume is not None  # a study has at least one file
    return volume
