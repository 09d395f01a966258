"""Healthy and abnormal studies of a user divided into the sections of a data set, each patient in one section only."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from custom.errors import NomalyError

SECTIONS = ("training", "validation", "calibration", "test")
SHARES = (0.6, 0.1, 0.2, 0.1)
# Fewest calibration studies for decisions at the default false-alarm rate of 5 %.
DECISIONS_FROM = 19


@dataclass
class Member:
    """A study to place.

    Args:
        image: its path within the data set.
        subject: its patient.
        abnormal: whether it is abnormal.
    """

    image: str
    subject: str
    abnormal: bool


def united(subjects: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[str]:
    """Subjects after studies of each pair of positions were given one subject."""
    parent = {subject: subject for subject in subjects}

    def root(subject: str) -> str:
        while parent[subject] != subject:
            subject = parent[subject]
        return subject

    for one, other in pairs:
        first, second = sorted((root(subjects[one]), root(subjects[other])))
        parent[second] = first
    return [root(subject) for subject in subjects]


def split(members: Sequence[Member], shares: Sequence[float] = SHARES, seed: int = 0) -> list[str]:
    """The section of each study.

    Patients with an abnormal study go to the test section with all their studies; the others are drawn at random, so
    that the sections have about their shares of the healthy studies, and the calibration section at least 19 studies
    where this leaves half of the studies for training.

    Args:
        members: the studies.
        shares: of training, validation, calibration and test.
        seed: of the draw; the same studies and seed give the same sections.

    Raises:
        NomalyError: wrong shares, or fewer than four healthy patients.
    """
    if len(shares) != len(SECTIONS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or not shares[0]:
        raise NomalyError(
            f"--shares must be four numbers >= 0 that sum to 1 for {', '.join(SECTIONS)}, got {list(shares)}."
        )
    abnormal = {member.subject for member in members if member.abnormal}
    sizes = Counter(member.subject for member in members if member.subject not in abnormal)
    if len(sizes) < len(SECTIONS):
        raise NomalyError(
            f"the healthy studies must be of at least {len(SECTIONS)} patients without abnormal studies, got "
            f"{len(sizes)}: add studies, or check --subject."
        )
    section_of: dict[Hashable, str] = dict.fromkeys(abnormal, "test")
    section_of |= _drawn(sizes, _targets(sum(sizes.values()), shares), seed)
    return [section_of[member.subject] for member in members]


def _targets(studies: int, shares: Sequence[float]) -> dict[str, int]:
    """Number of healthy studies of each section but training, which takes the rest."""
    wanted = {name: max(1, round(share * studies)) if share else 0 for name, share in zip(SECTIONS[1:], shares[1:])}
    others = wanted["validation"] + wanted["test"]
    if 0 < wanted["calibration"] < DECISIONS_FROM and DECISIONS_FROM + others <= studies / 2:
        wanted["calibration"] = DECISIONS_FROM
    return wanted


def _drawn(sizes: Mapping[str, int], targets: Mapping[str, int], seed: int) -> dict[Hashable, str]:
    """Sections of the healthy patients: each section takes patients until it has its number of studies."""
    subjects = sorted(sizes)
    random.Random(seed).shuffle(subjects)
    counts: dict[str, int] = defaultdict(int)
    found: dict[Hashable, str] = {}
    for subject in subjects:
        open_ = [name for name, target in targets.items() if counts[name] < target]
        name = open_[0] if open_ else "training"
        found[subject] = name
        counts[name] += sizes[subject]
    if not counts["training"]:
        raise NomalyError(
            "no patient is left for training, as single patients have many of the studies: add patients, or lower the "
            "other --shares."
        )
    return found
