"""Names of studies that are safe as folder names and reveal nothing about a patient."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import count

MAX_LENGTH, MAX_BYTES = 100, 200  # file systems allow 255 bytes, including a number and a suffix
# Device names reserved by Windows, and the files and folders next to those of the studies.
RESERVED = re.compile(
    r"(con|prn|aux|nul|com\d|lpt\d|records|results|lesions|run|report|metrics|key)(\..*)?", re.IGNORECASE
)
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control and format characters: text direction marks can disguise names


def pseudonym(identity: str) -> str:
    """Return "case-" and 12 hex digits of the SHA-256 of a study's identity."""
    return f"case-{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()[:12]}"


def safe_name(name: str) -> str:
    """Return a valid folder name on every system: no special characters, not too long, not reserved."""
    visible = ("_" if unicodedata.category(letter) in INVISIBLE else letter for letter in name[:MAX_LENGTH])
    name = re.sub(r'[<>:"/\\|?*]', "_", "".join(visible)).encode()[:MAX_BYTES].decode(errors="ignore")
    name = name.rstrip(". ").lstrip(" ")
    return f"_{name}" if not name or name.startswith((".", "-")) or RESERVED.fullmatch(name) else name


class UniqueNames:
    """Gives each name once; a repeated name gets a number appended. Upper and lower case are the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        """Return the name, or the first of NAME_2, NAME_3, ... that is free."""
        name = safe_name(name)
        numbered = (f"{name}_{number}" for number in count(2))
        free = name if name.lower() not in self._taken else next(n for n in numbered if n.lower() not in self._taken)
        self._taken.add(free.lower())
        return free
