"""Whether what DICOM tells of an image's modality, body part and view is what a detector was made for."""

from __future__ import annotations

from collections.abc import Sequence

# Words that tell nothing; a missing tag tells nothing either.
UNTOLD = ("", "OT", "OTHER", "UNKNOWN", "UNSPECIFIED", "NONE", "NA", "DEFAULT", "WHOLEBODY")
TAGS = {
    "modality": ("modality", "Modality"),
    "body_part": ("body part", "BodyPartExamined"),
    "view": ("view", "ViewPosition"),
}


def tag_reason(name: str, found: str, accepted: Sequence[str] | None) -> str | None:
    """Why an image with this tag is not of the accepted kind; None if it is, or nothing is told or asked.

    Args:
        name: "modality", "body_part" or "view".
        found: what the file tells.
        accepted: words; None = all.
    """
    told = letters(found)
    if accepted is None or told in UNTOLD:
        return None
    fits = {"modality": is_one_of, "body_part": names_part, "view": has_word}[name]
    if fits(found, accepted):
        return None
    meaning, keyword = TAGS[name]
    return f"the {meaning} is {found} (DICOM {keyword}); this detector is made for {', '.join(accepted)}"


def letters(words: str) -> str:
    """Upper-case letters alone."""
    return "".join(letter for letter in words.upper() if letter.isalpha())


def is_one_of(found: str, accepted: Sequence[str]) -> bool:
    """Whether it is one of the words."""
    return letters(found) in map(letters, accepted)


def names_part(found: str, accepted: Sequence[str]) -> bool:
    """Whether it holds one of the words, or is a part of one: BodyPartExamined is written as each site likes.

    HEADNECK names the head, EXTREMITY may be the UPPER EXTREMITY; the LOWER EXTREMITY is not.
    """
    told = letters(found)
    return any(word in told or (told in word and len(told) > 2) for word in map(letters, accepted))


def has_word(found: str, accepted: Sequence[str]) -> bool:
    """Whether one of its words is accepted, as in "AP ERECT"."""
    words = "".join(letter if letter.isalpha() else " " for letter in found.upper()).split()
    return not set(words).isdisjoint(map(letters, accepted))
