"""How values and compressed pixels are stored in a DICOM file (PS3.5), checked before ITK (GDCM) decodes them.

GDCM ends the process on some damaged files, or reserves as much memory as a damaged length states.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import RLELossless
from pydicom.valuerep import VR

from custom.studies.dicom_frames import count_frames
from custom.studies.dicom_geometry import numbers

FRAGMENT, END_OF_FRAGMENTS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
TYPES = frozenset(VR)
INTEGERS = tuple(
    "Rows Columns SamplesPerPixel BitsAllocated BitsStored HighBit PixelRepresentation NumberOfFrames".split()
)
TEXTS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "PhotometricInterpretation")
UNDEFINED = 0xFFFFFFFF  # length of a value that ends with a delimiter
RLE_HEADER = 64  # bytes: the number of segments, and 15 offsets


def storage_fault(header: FileDataset) -> str:
    """Return which value of a header has an unknown type or is cut off, "" if none; values in sequences count, too."""
    for element in (*_stored_values(header.file_meta), *_stored_values(header)):
        if element.VR is not None and element.VR not in TYPES:
            return f"the type of the value {element.tag} is {element.VR!r}, which DICOM does not define"
        if element.length != UNDEFINED and len(element.value or b"") < element.length:
            return f"the value {element.tag} must have {element.length} bytes, but is cut off"
    return ""


def value_fault(header: Dataset) -> str:
    """Return which of the tags that reading relies on is not one integer or one text, "" if none.

    Raises:
        Exception: of any kind, if a value cannot be converted.
    """
    found = {tag: header[tag] for tag in (*INTEGERS, *TEXTS) if header.get(tag) not in (None, "")}
    wrong = [
        tag for tag, each in found.items() if each.VM != 1 or (tag in INTEGERS and not isinstance(each.value, int))
    ]
    return f"{wrong[0]} is not one {'integer' if wrong[0] in INTEGERS else 'text'}" if wrong else ""


def _stored_values(dataset: Dataset) -> Iterator[RawDataElement]:
    """Yield the values as they are stored, also those in sequences, except what pydicom has converted."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        kind = element.VR if element is not None else None
        if isinstance(element, RawDataElement):
            yield element
            kind = kind or (dictionary_VR(tag) if dictionary_has_tag(tag) else None)
        if kind == VR.SQ:
            for item in dataset[tag].value or ():
                yield from _stored_values(item)


def palette_fault(header: Dataset) -> str:
    """Return what is wrong with the colours of a palette (PS3.3 C.7.6.3.1.5), "" if nothing or if it has none."""
    if header.get("PhotometricInterpretation") != "PALETTE COLOR":
        return ""
    for colour in ("Red", "Green", "Blue"):
        descriptor = numbers(header, f"{colour}PaletteColorLookupTableDescriptor", 3)
        tables = [header.get(f"{kind}{colour}PaletteColorLookupTableData") for kind in ("", "Segmented")]
        if descriptor is None or not any(isinstance(table, bytes) and table for table in tables):
            return f"the table of {colour.lower()} of its palette is missing"
        if tables[0] and len(tables[0]) < (descriptor[0] or 2**16) * descriptor[2] // 8:
            return f"the table of {colour.lower()} of its palette is too short"
    return ""


def fragment_fault(path: Path, offset: int, header: FileDataset) -> str:
    """Return what is wrong with the fragments of compressed pixels (annex A.4), "" if nothing.

    Args:
        path: path of the file.
        offset: where the first item, the table of offsets, begins.
        header: header of the file.
    """
    table_and_fragments = _items(path, offset)
    fragments = [item for item in table_and_fragments[1:] if item[1]]
    if not fragments:
        return "it ends within them"
    return _rle_fault(path, fragments, header) if header.file_meta.TransferSyntaxUID == RLELossless else ""


def _items(path: Path, offset: int) -> list[tuple[int, int]]:
    """Return position and length of each item from `offset` on; none if the file ends within one."""
    found: list[tuple[int, int]] = []
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(offset)
        while stream.tell() < size:
            mark, length = stream.read(4), int.from_bytes(stream.read(4), "little")
            if mark != FRAGMENT:
                return found if mark == END_OF_FRAGMENTS else []
            found.append((stream.tell(), length))
            stream.seek(length, 1)
        return found if stream.tell() == size else []  # some writers omit the last delimiter


def _rle_fault(path: Path, fragments: list[tuple[int, int]], header: FileDataset) -> str:
    """Return what is wrong with the headers of RLE frames (annex G.5): one segment for each byte of a pixel."""
    wanted = int(header.SamplesPerPixel) * -(-int(header.BitsAllocated) // 8)
    if count_frames(header) == 1:  # which may be in several fragments
        fragments = [(fragments[0][0], sum(length for _, length in fragments))]
    with path.open("rb") as stream:
        for number, (position, length) in enumerate(fragments, 1):
            stream.seek(position)
            head = np.frombuffer(stream.read(RLE_HEADER).ljust(RLE_HEADER, b"\0"), "<u4").astype(np.int64)
            if head[0] != wanted:
                return f"RLE frame {number} has {head[0]} segments instead of {wanted}"
            limits = [RLE_HEADER, *head[2 : wanted + 1], length]
            if head[1] != RLE_HEADER or (np.diff(limits) <= 0).any():
                return f"the segments of RLE frame {number} are not one after another"
    return ""
