"""The soak run at tiny size, and its checks on results that are wrong."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from custom.runs.tables import StudyResult
from tests.support.scripts import load_script

soak = load_script("soak.py")
OK = [StudyResult(f"case-{number}", score=0.5, p_value=0.5, decision="likely_normal") for number in range(3)]
FAILED = StudyResult("case-3", "failed", error="the file is truncated")


@pytest.fixture
def finished(tmp_path: Path):
    """A run of four studies, one of them broken, without measurements."""
    return soak.Soak("ra_chest", tmp_path / "studies", tmp_path / "run", [], seed=0)


def failures(finished, rows: list[StudyResult], sample: list[StudyResult]) -> list[str]:
    return [check.name for check in soak.checks(rows, sample, 4, 1, finished) if not check.holds]


def test_complete_results_pass(finished) -> None:
    assert failures(finished, [*OK, FAILED], [OK[1], FAILED]) == []


@pytest.mark.parametrize(
    "rows, fault",
    [
        ([*OK[:2], FAILED], "studies in results.csv"),
        ([*OK, OK[0], FAILED], "studies listed twice"),
        ([*OK, replace(OK[0], study="case-3")], "failed studies"),
        ([replace(OK[0], decision="flag"), *OK[1:], FAILED], "results that differ from an uninterrupted run"),
        ([replace(OK[0], score=0.6), *OK[1:], FAILED], "results that differ from an uninterrupted run"),
    ],
)
def test_wrong_results_are_found(finished, rows: list[StudyResult], fault: str) -> None:
    assert failures(finished, rows, [OK[0]]) == [fault]


def test_temporary_file_that_is_left_is_found(finished) -> None:
    (finished.output / "case-0").mkdir(parents=True)
    (finished.output / "case-0" / ".map.png.01234567.tmp").touch()
    assert failures(finished, [*OK, FAILED], OK) == ["temporary files"]


@pytest.mark.parametrize("step, grows", [(0.0, False), (1.0, True)])
def test_memory_that_grows_with_the_studies_is_found(finished, step: float, grows: bool) -> None:
    """500 MiB and `step` MiB more with each of 100 studies: the medians of the quarters are 50 studies apart."""
    finished.measurements = [soak.Measurement(1, 42, 0.2 * done, 500 + step * done, done) for done in range(101)]
    assert failures(finished, [*OK, FAILED], OK) == (["memory, run 1, process 42"] if grows else [])
    (measured,) = soak.growth(finished.measurements)
    assert measured[3] - measured[2] == 50 * step and measured[4] == 500 + 100 * step


def test_two_percent_of_the_studies_are_broken(tmp_path: Path) -> None:
    broken = soak.write_studies(tmp_path / "studies", 100, 32)
    assert [path.name for path in broken] == ["film_00025.png", "film_00075.png"]
    assert len(list((tmp_path / "studies").iterdir())) == 100


@pytest.mark.slow
def test_killed_and_resumed_run_equals_one_left_alone(trained, tiny_network, tmp_path: Path, capsys) -> None:
    network = [word for name, value in tiny_network("ra_chest").items() for word in (f"--{name}", str(value))]
    weights = ["--weights", str(trained("ra_chest") / "models" / "model.pt"), "--alpha", "0.2", *network]
    output = tmp_path / "soak"
    words = ["--studies", "60", "--kills", "2", "--size", "32", "--output", str(output), *weights]
    assert soak.main(words) == 0, capsys.readouterr().out
    with open(output / "soak.csv", newline="") as stream:
        found = {row["name"]: row["found"] for row in csv.DictReader(stream)}
    assert (found["kills"], found["studies in results.csv"], found["failed studies"]) == ("2", "60", "1")
    with open(output / "memory.csv", newline="") as stream:
        assert {row["run"] for row in csv.DictReader(stream)} == {"1", "2", "3"}
