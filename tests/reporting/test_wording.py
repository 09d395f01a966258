from __future__ import annotations

import pytest

from custom.reporting.wording import date, decimals, headed, interval, p_value, plain, size, stat


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (0.004, "4.0e-03"), (0.5, "0.50"), (12.34, "12.3"), (426.4, "426")],
)
def test_size_has_about_three_digits(value, text):
    assert size(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.05, "0.050"), (0.0002, "2.0e-04")])
def test_small_p_value_is_not_rounded_to_nothing(value, text):
    assert p_value(value) == text


def test_small_statistics_get_a_further_decimal():
    assert (stat({"value": 0.41}), stat({"value": 0.031})) == ("0.41", "0.031")
    assert interval({"value": 0.031, "low": 0.027, "high": 0.0351}) == "0.027 – 0.035"
    assert stat({"value": 0.0625}, percent=True) == "6.2 %" and stat({"value": 0.62}, percent=True) == "62 %"
    assert interval({"value": 0.0625, "low": 0.0, "high": 0.302}, percent=True) == "0 – 30 %"


@pytest.mark.parametrize("entry", [None, {}, {"value": None, "low": 0.1, "high": 0.2}])
def test_a_missing_statistic_is_a_dash(entry):
    assert stat(entry) == "–"


def test_an_interval_without_ends_is_empty():
    assert interval({"value": 0.5, "low": None, "high": None}) == interval({"value": 0.5}) == ""


def test_names_read_as_words_and_keep_their_capitals():
    assert (headed("mean_intensity"), headed("pca"), headed("Scanner A")) == ("Mean intensity", "PCA", "Scanner A")


def test_date_is_shown_in_utc_and_any_other_text_unchanged():
    assert date("2026-11-21T10:12:44+01:00") == "21 November 2026, 09:12 UTC"
    assert (date("yesterday"), date(None)) == ("yesterday", "")


def test_plain_joins_lists_and_drops_noise():
    assert plain([0.1 + 0.2, None, True, "x"]) == "0.3, –, yes, x"


def test_decimals_line_up_four_digits_of_the_largest():
    assert [decimals(values) for values in ([0.5, 0.01], [12.0], [4000.0], [], [0.0])] == [4, 2, 0, 1, 1]
