"""What is wrong with a file, as far as its header tells; needs neither PyTorch nor MONAI."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from PIL import Image

from custom.errors import NomalyError
from custom.studies.formats import IMAGE_SUFFIXES, TIFF_SUFFIXES, check_access, check_format, is_dicom, unreadable


def problem_of(path: Path) -> NomalyError | None:
    """The reason why a file or folder cannot be read, in the words of its reader; None if none is found."""
    try:
        check_access(path)
        check_format(path)
        if os.path.isfile(path) and path.name.lower().endswith((*IMAGE_SUFFIXES, *TIFF_SUFFIXES)):
            _identify(path)
    except NomalyError as error:
        return error
    except OSError as error:
        return unreadable(path, error)
    return None


def _identify(path: Path) -> None:
    """Let Pillow recognise a 2-D image; the size is checked by the reader.

    Raises:
        OSError: if it does not.
    """
    with warnings.catch_warnings(), path.open("rb") as stream:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            if not is_dicom(path):
                Image.open(stream).close()
        except Image.DecompressionBombError:
            return
