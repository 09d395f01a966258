"""Names that were replaced still work where users' files and commands hold them, with one warning each."""

from __future__ import annotations

import logging

from custom import earlier_names
from custom.commands.overrides import parse_overrides
from custom.earlier_names import COLUMNS, current_name


def test_earlier_parameters_of_a_command_line_are_accepted_with_one_warning_each(caplog) -> None:
    earlier_names._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert parse_overrides(["--gate", "false", "--floor_epochs=3"]) == {"input_check": False, "baseline_epochs": 3}
        parse_overrides(["--gate", "true"])
    assert [record.getMessage() for record in caplog.records] == [
        "'gate' is now called 'input_check': the earlier name is accepted for one more release.",
        "'floor_epochs' is now called 'baseline_epochs': the earlier name is accepted for one more release.",
    ]


def test_name_of_today_is_taken_as_it_is(caplog) -> None:
    assert current_name("region_count", COLUMNS) == "region_count" and not caplog.records


def test_keeping_identifiers_is_the_opposite_of_pseudonyms(caplog) -> None:
    earlier_names._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        for words, value in (
            (["--keep_identifiers", "true"], False),
            (["--keep_identifiers=false"], True),
            (["--keep-identifiers"], False),
        ):
            assert parse_overrides(words) == {"pseudonymise": value}
    assert [record.getMessage() for record in caplog.records] == [
        "'keep_identifiers' is now called 'no_pseudonymise': the earlier name is accepted for one more release."
    ]
