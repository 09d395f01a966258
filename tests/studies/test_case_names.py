"""Names of studies."""

from __future__ import annotations

import pytest

from custom.studies.case_names import UniqueNames, pseudonym, safe_name


def test_pseudonym_is_the_hash_of_the_identity() -> None:
    # printf 1.2.3 | sha256sum
    assert pseudonym("1.2.3") == "case-c47f5b18b8a4"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("head 7", "head 7"),
        ('a/b\\c:d*e?"<f>|g\n', "a_b_c_d_e___f__g_"),
        ("con", "_con"),
        ("LPT1.left", "_LPT1.left"),
        ("console", "console"),
        ("..", "_"),
        (".hidden", "_.hidden"),
        ("-rf", "_-rf"),
        ("ends. . ", "ends"),
        ("", "_"),
        ("x" * 300, "x" * 100),
        ("体" * 83, "体" * 66),  # 3 bytes each: 198 of at most 200
        ("gnp.\u202enhoj", "gnp._nhoj"),
        ("a\u200bb\x85", "a_b_"),
        ("Records", "_Records"),
        ("results.csv", "_results.csv"),
        ("runs", "runs"),
        ("\udcff", "_"),
        ("Röntgen", "Röntgen"),
    ],
)
def test_name_is_safe_as_a_folder(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("name", ["records", "RESULTS", "lesions", "run", "report", "metrics", "key"])
def test_study_never_takes_the_name_of_what_lies_beside_it(name: str) -> None:
    assert UniqueNames()(name) == f"_{name}"


def test_name_with_a_number_and_a_suffix_fits_a_file_system() -> None:
    names = UniqueNames()
    assert [len(f"{names('体' * 83)}.json".encode()) for _ in range(2)] == [203, 205]


def test_names_are_unique_whatever_their_case() -> None:
    names = UniqueNames()
    assert [names(name) for name in ("a", "A", "a_2", "a")] == ["a", "A_2", "a_2_2", "a_3"]
