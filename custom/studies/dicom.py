"""Reading of DICOM images: a film, the files of a series, or a multi-frame file.

Geometry comes from the headers, pixels from ITK (GDCM), which decodes JPEG, JPEG-LS, JPEG 2000 and RLE.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileDataset

from custom.studies.dicom_geometry import Plane, numbers, pixel_spacing, plane_of, stack_affine, stack_order
from custom.studies.dicom_headers import PROJECTIONS, has_all_fragments, object_name, quiet_dicom, read_header
from custom.studies.formats import check_access, check_memory, load_error, unreadable

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
        `view`, `spacing_known` and `sides_known`.

    Raises:
        NomalyError: if a file cannot be read, is not an image, or the files do not form one volume.
    """
    headers = [_header(file) for file in files]
    files, headers = _without_copies(files, headers)
    if len({header.get("SeriesInstanceUID") for header in headers}) > 1:
        raise load_error(path, "all files must belong to one series, but they do not", "Use each series separately.")
    check_memory(path, sum(_frames(header) * header.Rows * header.Columns * _channels(header) for header in headers))
    if any(_frames(header) > 1 for header in headers):
        order, planes = [0], _frame_planes(files, headers, path)
    else:
        order, planes = _slice_planes(headers, path)
    files, headers = [files[index] for index in order], [headers[index] for index in order]
    spacing = pixel_spacing(headers[0], "PixelSpacing", "ImagerPixelSpacing")
    meta: dict[str, object] = {name: str(headers[0].get(tag) or "").strip().upper() for name, tag in FACTS.items()}
    meta |= {"source_files": [str(file) for file in files], "dicom": True}
    meta |= {"spacing_known": bool(planes) or spacing is not None, "sides_known": bool(planes)}
    affine = stack_affine(planes) if planes else _film_affine(spacing)
    return MetaTensor(_stack(files, headers, path), affine=torch.as_tensor(affine), meta=meta)


def _header(file: Path) -> FileDataset:
    """Read the header of a file that must be a complete image."""
    check_access(file)
    try:
        header, rest = read_header(file)
        name = object_name(header)
        missing = "" if name else _missing_pixels(file, header, rest)
    except (ValueError, TypeError) as error:  # its text contains the value, which may be a name
        raise unreadable(file, ValueError("a value in its header has the wrong type")) from error
    except Exception as error:  # pydicom raises anything on a broken file
        raise unreadable(file, error) from error
    if name:
        step = "Use the images that it was made from."
        raise load_error(file, f"the file must be an image, but it is another DICOM object ({name})", step)
    if missing:
        step = "The file is truncated: copy or export it again."
        raise load_error(file, f"the file must contain all its pixels, but {missing}", step)
    return header


def _missing_pixels(file: Path, header: FileDataset, rest: int) -> str:
    """Return what is missing from truncated pixels, "" if nothing: ITK would fill them with 0 or grey."""
    if not header.get("Rows") or not header.get("Columns"):
        return "its header does not state their number"
    syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
    if syntax and (syntax.is_deflated or syntax.is_compressed):
        complete = syntax.is_deflated or has_all_fragments(file, file.stat().st_size - rest)
        return "" if complete else "it ends within them"
    needed = _frames(header) * header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated // 8
    if "422" in str(header.PhotometricInterpretation):
        needed = needed * 2 // 3
    rest -= 8 if _is_implicit(header) else 12  # the element's own header: implicit or explicit VR (PS3.5, 7.1)
    return "" if rest >= needed else f"of {needed} bytes only {max(0, rest)} follow its header"


def _is_implicit(header: Dataset) -> bool:
    """Whether a file has implicit value types; pydicom 2, which MONAI Label needs, has another attribute for it."""
    return bool(header.original_encoding[0] if hasattr(header, "original_encoding") else header.is_implicit_VR)


def _frames(header: Dataset) -> int:
    """Return the number of frames of a file."""
    return int(header.get("NumberOfFrames") or 1)


def _channels(header: Dataset) -> int:
    """Return the number of values per pixel; a palette is expanded to 3."""
    return 3 if header.get("PhotometricInterpretation") == "PALETTE COLOR" else int(header.get("SamplesPerPixel") or 1)


def _without_copies(files: Sequence[Path], headers: list[FileDataset]) -> tuple[list[Path], list[FileDataset]]:
    """Omit repeated copies of a file; reject two images under one SOPInstanceUID."""
    first: dict[Any, int] = {}
    for index, header in enumerate(headers):
        twin = first.setdefault(header.get("SOPInstanceUID") or index, index)
        if twin != index and _pixel_data(files[twin]) != _pixel_data(files[index]):
            raise load_error(
                files[index],
                f"each image must have its own SOPInstanceUID, but {files[twin]} has the same and other pixels",
                "Export the series again.",
            )
    return [files[index] for index in first.values()], [headers[index] for index in first.values()]


def _pixel_data(file: Path) -> bytes:
    """Return the pixels of a file as they are stored."""
    return pydicom.dcmread(file, force=True).get("PixelData", b"")


def _slice_planes(headers: list[FileDataset], path: Path) -> tuple[list[int], list[Plane]]:
    """Return the order of single-frame files and their planes in it; a film has no planes."""
    sizes = [(int(header.Columns), int(header.Rows)) for header in headers]
    planes = [plane_of(header, header, header, size) for header, size in zip(headers, sizes, strict=True)]
    if len(headers) == 1 and (planes[0] is None or headers[0].get("Modality") in PROJECTIONS):
        return [0], []
    known = _all_known(list(zip(headers, headers, headers, strict=True)), planes, "files", path)
    order = stack_order(known, path)
    return order, [known[index] for index in order]


def _frame_planes(files: Sequence[Path], headers: list[FileDataset], path: Path) -> list[Plane]:
    """Return the planes of the frames of one multi-frame file, in their order."""
    header, count = headers[0], _frames(headers[0])
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
    sources = [
        (
            _group(header, number, "PlanePosition"),
            _group(header, number, "PlaneOrientation"),
            _group(header, number, "PixelMeasures"),
        )
        for number in range(count)
    ]
    planes = [plane_of(*source, (int(header.Columns), int(header.Rows))) for source in sources]
    known = _all_known(sources, planes, "frames", path)
    order = stack_order(known, path)
    if order not in (list(range(count)), list(range(count))[::-1]):
        step = "Export the volume as one file per slice, or as NIfTI."
        raise load_error(path, f"the {count} frames must be stored in the order of their positions", step)
    return known


def _group(header: Dataset, number: int, name: str) -> Dataset | None:
    """Return a functional group of a frame, its own or the shared one."""
    for sequence, index in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        groups = header.get(sequence) or []
        found = groups[index].get(f"{name}Sequence") if index < len(groups) else None
        if found:
            return found[0]
    return None


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


def _film_affine(spacing: np.ndarray | None) -> np.ndarray:
    """Return the affine of an image without a position: as displayed, 1 mm if its spacing is unknown."""
    rows, columns = (1.0, 1.0) if spacing is None else spacing
    return np.diag([-columns, -rows, 1.0, 1.0])


def _stack(files: Sequence[Path], headers: list[FileDataset], path: Path) -> torch.Tensor:
    """Read the pixels of all files, (C, X, Y, Z)."""
    volume: np.ndarray | None = None
    for z, (file, header) in enumerate(zip(files, headers, strict=True)):
        pixels = _pixels(file, header)
        if len(files) == 1:
            return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
        if volume is None:
            volume = np.empty((*pixels.shape[:3], len(files)), dtype=np.float32)
        if pixels.shape != (*volume.shape[:3], 1):
            step = "Export the series again."
            raise load_error(path, "all slices must have the same number of channels, but they do not", step)
        volume[..., z] = pixels[..., 0]
    return torch.from_numpy(volume)


def _pixels(file: Path, header: FileDataset) -> np.ndarray:
    """Decode the pixels of one file, (C, X, Y, frames), in the units of its modality."""
    itk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name files
    reader = itk.GDCMImageIO.New()
    try:
        image = itk.imread(str(file), imageio=reader)
    except Exception as error:  # ITK raises RuntimeError, its wrapping others
        syntax = getattr(getattr(header.file_meta, "TransferSyntaxUID", None), "name", "unknown encoding")
        step = "Export the file again, without compression or with a common one."
        raise load_error(file, f"the pixels must be readable, but could not be decoded ({syntax})", step) from error
    array = itk.array_from_image(image)
    array = array[..., None] if image.GetNumberOfComponentsPerPixel() == 1 else array
    array = array.transpose(3, 2, 1, 0)
    applied = np.array([reader.GetRescaleSlope(), reader.GetRescaleIntercept()])
    wanted = np.array([_rescale(header, number) for number in range(_frames(header))])
    if np.allclose(wanted, applied, rtol=1e-12, atol=0):
        return array
    # ITK applies one slope per file, not per frame: undo it, exactly, as stored values are integers.
    stored = np.round((array - applied[1]) / applied[0])
    return stored * wanted[:, 0] + wanted[:, 1]


def _rescale(header: FileDataset, number: int) -> tuple[float, float]:
    """Return slope and intercept of a frame."""
    group = _group(header, number, "PixelValueTransformation") or header
    slope, intercept = (numbers(group, f"Rescale{name}", 1) for name in ("Slope", "Intercept"))
    return float(slope[0]) if slope is not None and slope[0] != 0 else 1.0, (
        0.0 if intercept is None else float(intercept[0])
    )
