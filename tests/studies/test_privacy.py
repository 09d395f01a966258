"""Nothing that tells who a patient is: paths and names of private studies are replaced by their case."""

from __future__ import annotations

import pytest
import torch

from custom.errors import NomalyError
from custom.studies.privacy import failure, without_identifiers, without_studies

FILE = {"image": "in/Doe^Jane.dcm", "case": "case-1", "private": True}
SERIES = {"image": ["in/Doe Jane/1.dcm", "in/Doe Jane/2.dcm"], "case": "case-2", "private": True}


@pytest.mark.parametrize(
    ("item", "text", "expected"),
    [
        (FILE, "Study in/Doe^Jane.dcm: the file is empty. Copy it.", "Study case-1: the file is empty. Copy it."),
        (FILE, "cannot open Doe^Jane.dcm", "cannot open case-1"),
        (SERIES, "Study in/Doe Jane/2.dcm: in/Doe Jane has a gap", "Study case-2: case-2 has a gap"),
        ({**FILE, "private": False}, "Study in/Doe^Jane.dcm", "Study in/Doe^Jane.dcm"),
        ({"image": "x.png", "case": "x"}, "Study x.png", "Study x.png"),
    ],
)
def test_error_of_a_private_study_names_its_case_alone(item: dict, text: str, expected: str) -> None:
    assert without_identifiers(text, item) == expected


def test_absolute_path_of_a_relative_one_is_replaced_too(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert without_identifiers(f"no {tmp_path}/in/Doe^Jane.dcm", FILE) == "no case-1"


def test_error_of_a_study_that_was_read_names_its_case_alone() -> None:
    study = {**FILE, "image": torch.zeros(1, 2, 2, 1), "source": FILE["image"]}
    error = NomalyError("Study in/Doe^Jane.dcm: in/Doe^Jane.dcm is dark")
    assert failure(error, study) == "case-1 is dark"


@pytest.mark.parametrize(
    ("studies", "words"),
    [
        ("in/Doe", ["nomaly", "detect", "STUDIES", "--output", "out"]),
        (["in/Doe", "other"], ["nomaly", "detect", "STUDIES", "--output", "out"]),
        (None, ["nomaly", "detect", "in/Doe", "--output", "out"]),
    ],
)
def test_command_is_told_without_the_studies(studies, words) -> None:
    assert without_studies(["nomaly", "detect", "in/Doe", "--output", "out"], studies) == words


def test_studies_inside_a_word_are_hidden_with_it() -> None:
    words = ["run", "--studies", "['in/Doe', 'b']"]
    assert without_studies(words, ["in/Doe", "b"]) == ["run", "--studies", "STUDIES"]
