"""Synthetic DICOM files for tests: a film, a series of slices, a multi-frame file, a cine.

Arrays are (X, Y) or (X, Y, Z) of integers, X = column, Y = row; affines are in RAS, as in the rest of the project.
Further arguments are tags by their DICOM keyword; None leaves the tag out. The files know one patient, Doe^Jane.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.valuerep import format_number_as_ds

from custom.errors import NomalyError
from custom.studies.dicom import read_dicom

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
VOLUME = np.random.default_rng(0).integers(-900, 900, (6, 5, 4)).astype(np.int16)
GRID = np.diag([-1.5, -2.0, 3.0, 1.0])
PATIENT = "Doe^Jane"
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
STUDY_TAGS = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": PATIENT,
    "PatientID": "P-0001",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
    "StudyDate": "20260304",
    "StudyTime": "101112",
    "ReferringPhysicianName": "",
    "StudyID": "1",
    "AccessionNumber": "A-0001",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
    "Manufacturer": "Test",
    "ManufacturerModelName": "Test",
    "DeviceSerialNumber": "1",
    "SoftwareVersions": "1",
    "ImageType": ["ORIGINAL", "PRIMARY"],
    "ContentDate": "20260304",
    "ContentTime": "101112",
}
FILM_TAGS = {"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientOrientation": ["L", "F"]}
MR_TAGS = {
    "Modality": "MR",
    "BodyPartExamined": "HEAD",
    "PatientPosition": "HFS",
    "PositionReferenceIndicator": "",
    "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
    "ScanningSequence": "GR",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "MRAcquisitionType": "3D",
    "RepetitionTime": 10,
    "EchoTime": 3,
    "EchoTrainLength": 1,
}
ENHANCED_MR_TAGS = {
    "ImageType": ["ORIGINAL", "PRIMARY", "T1", "NONE"],
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "T1",
    "ContentQualification": "RESEARCH",
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "PresentationLUTShape": "IDENTITY",
}


def write_film(path: Path, pixels: np.ndarray, bits: int = 0, syntax: str = uid.ExplicitVRLittleEndian, **tags) -> Path:
    """Write pixels (X, Y) as a film of computed radiography, with `bits` bits stored (0 = all of the type)."""
    study = {"StudyInstanceUID": uid.generate_uid(), "SeriesInstanceUID": uid.generate_uid()}
    tags = {**STUDY_TAGS, **FILM_TAGS, **study, "PixelSpacing": [0.2, 0.2], **tags}
    return _write(path, pixels[..., None], bits, syntax, uid.ComputedRadiographyImageStorage, tags)


def write_series(
    folder: Path,
    volume: np.ndarray,
    affine: np.ndarray,
    bits: int = 0,
    syntax: str = uid.ExplicitVRLittleEndian,
    **tags,
) -> list[Path]:
    """Write a volume (X, Y, Z) as one MR series, a file a slice; a tag may be a function of the slice's number."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: uid.generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    paths = []
    for z in range(volume.shape[2]):
        plane = {**_plane(affine), "ImagePositionPatient": _position(affine, z), "InstanceNumber": z + 1}
        own = {name: value(z) if callable(value) else value for name, value in tags.items()}
        all_tags = {**STUDY_TAGS, **MR_TAGS, **made, **plane, **own}
        path = folder / f"{z:04}.dcm"
        paths.append(_write(path, volume[..., z : z + 1], bits, syntax, uid.MRImageStorage, all_tags))
    return paths


def write_multiframe(
    path: Path,
    volume: np.ndarray,
    affine: np.ndarray,
    bits: int = 0,
    edit: Callable[[Dataset, int], Any] = lambda frame, number: None,
    **tags,
) -> Path:
    """Write a volume (X, Y, Z) as one enhanced MR file; `edit` may change each frame's functional groups."""
    plane = _plane(affine)
    shared, measures, orientation, transformation, kind = (Dataset() for _ in range(5))
    measures.PixelSpacing, measures.SliceThickness = plane["PixelSpacing"], plane["SliceThickness"]
    orientation.ImageOrientationPatient = plane["ImageOrientationPatient"]
    transformation.RescaleIntercept, transformation.RescaleSlope, transformation.RescaleType = "0", "1", "US"
    kind.update({"FrameType": ENHANCED_MR_TAGS["ImageType"], "PixelPresentation": "MONOCHROME"})
    kind.update({name: ENHANCED_MR_TAGS[name] for name in list(ENHANCED_MR_TAGS)[2:6]})
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence, shared.MRImageFrameTypeSequence = [transformation], [kind]
    made = {name: uid.generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    groups = {
        "NumberOfFrames": volume.shape[2],
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": [_frame(affine, z, edit) for z in range(volume.shape[2])],
    }
    tags = {**STUDY_TAGS, **MR_TAGS, **ENHANCED_MR_TAGS, **made, **groups, **tags}
    return _write(path, volume, bits, uid.ExplicitVRLittleEndian, uid.EnhancedMRImageStorage, tags)


def write_mosaic(
    path: Path, volume: np.ndarray, affine: np.ndarray, edit: Callable[[Dataset], Any] | None = None
) -> Path:
    """Write a volume (X, Y, Z) as a Siemens mosaic: tiles of one image, the normal of the slices in the CSA header.

    `edit` may change the file before it is written.
    """
    side = int(np.ceil(np.sqrt(volume.shape[2])))
    padded = np.zeros((*volume.shape[:2], side * side), volume.dtype)
    padded[..., : volume.shape[2]] = volume
    image = (
        padded.reshape(*volume.shape[:2], side, side)
        .transpose(3, 0, 2, 1)
        .reshape(*np.multiply(volume.shape[:2], side))
    )
    centred = affine.copy()  # the position stated is that of an image of the mosaic's size with the same centre
    centred[:3, 3] -= affine[:3, :2] @ (np.subtract(image.shape, volume.shape[:2]) / 2)
    columns = (TO_LPS @ affine)[:3, :3]
    spacing = float(np.linalg.norm(columns[:, 2]))
    tags = {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"],
        "Manufacturer": "SIEMENS",
        "SpacingBetweenSlices": spacing,
    }
    write_series(path.parent, image[..., None], centred, **tags)[0].rename(path)
    file = pydicom.dcmread(path)
    normal = [f"{number:.8f}" for number in columns[:, 2] / spacing]
    csa = _csa_header({"NumberOfImagesInMosaic": ("US", [str(volume.shape[2])]), "SliceNormalVector": ("FD", normal)})
    file.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa)
    file.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", volume.shape[2])
    if edit is not None:
        edit(file)
    file.save_as(path)
    return path


def _csa_header(tags: dict[str, tuple[str, list[str]]]) -> bytes:
    """Siemens' CSA header (SV10) of tags with their type and values."""
    parts = [b"SV10\4\3\2\1", struct.pack("<II", len(tags), 77)]
    for name, (kind, values) in tags.items():
        parts.append(struct.pack("<64si4siii", name.encode(), len(values), kind.encode(), 4, 6, 77))
        for value in [*values, *[""] * (6 - len(values))]:
            data = (value.encode() + b"\0") if value else b""
            parts += [struct.pack("<4i", len(data), len(data), 77, len(data)), data, bytes(-len(data) % 4)]
    return b"".join(parts)


def write_cine(path: Path, frames: np.ndarray, **tags) -> Path:
    """Write frames (X, Y, T) as an ultrasound cine of 40 ms a frame, which has no geometry."""
    study = {"StudyInstanceUID": uid.generate_uid(), "SeriesInstanceUID": uid.generate_uid()}
    cine = {
        "Modality": "US",
        "PatientOrientation": "",
        "NumberOfFrames": frames.shape[2],
        "FrameTime": 40,
        "FrameIncrementPointer": 0x00181063,
    }
    tags = {**STUDY_TAGS, **study, **cine, **tags}
    return _write(path, frames, 0, uid.ExplicitVRLittleEndian, uid.UltrasoundMultiFrameImageStorage, tags)


def _frame(affine: np.ndarray, z: int, edit: Callable[[Dataset, int], Any]) -> Dataset:
    """The functional groups of frame `z`."""
    frame, content, position = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", z + 1
    position.ImagePositionPatient = _position(affine, z)
    frame.FrameContentSequence, frame.PlanePositionSequence = [content], [position]
    edit(frame, z)
    return frame


def _plane(affine: np.ndarray) -> dict[str, Any]:
    """Orientation, pixel spacing and thickness of the slices of a RAS affine."""
    columns = (TO_LPS @ affine)[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    cosines = columns / spacing
    return {
        "ImageOrientationPatient": _decimal(np.concatenate([cosines[:, 0], cosines[:, 1]])),
        "PixelSpacing": _decimal(spacing[[1, 0]]),  # between rows, then between columns
        "SliceThickness": _decimal(spacing[2:])[0],
    }


def _position(affine: np.ndarray, z: int) -> list[str]:
    """Where the first pixel of slice `z` lies, LPS mm."""
    return _decimal((TO_LPS @ affine @ [0, 0, z, 1])[:3])


def _decimal(values: np.ndarray) -> list[str]:
    """Numbers as decimal strings of at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]


def _write(path: Path, frames: np.ndarray, bits: int, syntax: str, sop_class: str, tags: dict[str, Any]) -> Path:
    """Write frames (X, Y, Z) with all their tags in one file."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = sop_class, uid.generate_uid()
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.Columns, file.Rows = frames.shape[:2]
    file.BitsAllocated = 8 * frames.dtype.itemsize
    file.BitsStored = bits or file.BitsAllocated
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(frames.dtype.kind == "i")
    pixels = np.ascontiguousarray(frames.transpose(2, 1, 0))
    file.add_new("PixelData", "OB" if pixels.itemsize == 1 else "OW", pixels.tobytes() + b"\0" * (pixels.nbytes % 2))
    for name, value in tags.items():
        if value is not None:
            setattr(file, name, value)
        elif name in file:
            delattr(file, name)
    if syntax == uid.JPEG2000Lossless:
        _compress_jpeg_2000(file, pixels[0])
    elif syntax != uid.ExplicitVRLittleEndian:
        file.compress(syntax, generate_instance_uid=False)
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return path


def _compress_jpeg_2000(file: Dataset, pixels: np.ndarray) -> None:
    """Compress one frame by Pillow, as pydicom has no free encoder of this format."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True, irreversible=False)
    file.PixelData = encapsulate([stream.getvalue()])
    file["PixelData"].is_undefined_length = True
    file.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless


def refused(files: list[Path], message: str) -> None:
    """Check that the reader rejects the files of a series with this message, a regular expression."""
    with pytest.raises(NomalyError, match=message):
        read_dicom(files, Path("series"))
