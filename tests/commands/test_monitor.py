"""nomaly monitor: which studies make the series, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from custom.commands.monitor import read_series
from custom.runs.tables import StudyResult, write_results_csv

CALM = np.tile([0.2, 0.5, 0.9, 0.4, 0.7], 2)


@pytest.fixture
def make_run(tmp_path: Path):
    """Write a run's folder."""

    def make(name: str, p_values, run=None, extra=(), **columns) -> Path:
        rows = [
            StudyResult(f"{name}_{i}", score=1 - float(p), p_value=float(p), decision="uncertain", **columns)
            for i, p in enumerate(p_values)
        ]
        write_results_csv([*rows, *extra], tmp_path / name / "results.csv")
        if run is not None:
            run = {"calibration": {"healthy_studies": 99}, "date": "2026-03-04T10:00:00+00:00", **run}
            (tmp_path / name / "run.json").write_text(json.dumps(run))
        return tmp_path / name

    return make


def test_series_in_control_ends_with_zero_and_one_sentence(nomaly, make_run, tmp_path: Path) -> None:
    done = nomaly("monitor", make_run("a", CALM, {}), make_run("b", CALM, {}), "--output", tmp_path / "o")
    assert done.code == 0 and done.out.startswith("In control: 20 studies, KS p = ")
    assert json.loads((tmp_path / "o" / "monitor.json").read_text())["in_control"] is True
    assert (tmp_path / "o" / "monitor.html").is_file()


def test_drift_ends_with_three_and_names_the_study(nomaly, make_run, tmp_path: Path) -> None:
    runs = [make_run("a", [*CALM, *CALM], {}), make_run("b", [0.01] * 20, {"date": "2026-04-05T01:02:03+00:00"})]
    done = nomaly("monitor", *runs, "--output", tmp_path / "o")
    assert done.code == 3
    assert done.out.startswith("Drift: alarm at case b_") and ", 2026-04-05), onset near case b_0; " in done.out
    assert "scores are higher than at calibration" in done.out


def test_runs_are_one_series_in_the_given_order(make_run) -> None:
    b, a = make_run("b", CALM, {}), make_run("a", CALM[:3], {})
    names = [study.study for study in read_series([str(b), str(a / "results.csv")]).studies]
    assert names == [f"b_{i}" for i in range(10)] + ["a_0", "a_1", "a_2"]


def test_failed_studies_and_those_without_a_p_value_are_left_out_and_counted(nomaly, make_run, tmp_path: Path) -> None:
    extra = [StudyResult("cut", "failed", error="cut off"), StudyResult("large", score=1.0, note="of another size")]
    done = nomaly("monitor", make_run("a", CALM, {}, extra), "--output", tmp_path / "o")
    assert done.code == 0 and "10 studies" in done.out and "Left out: 1 failed, 1 without a p-value." in done.out


@pytest.mark.parametrize(("healthy_only", "studies"), [("true", 10), ("false", 12)])
def test_studies_known_to_be_abnormal_are_left_out_unless_the_case_mix_is_monitored(
    healthy_only: str, studies: int, nomaly, make_run, tmp_path: Path
) -> None:
    folder = make_run("a", [*CALM, 0.01, 0.01], {})
    scores = [{"case": f"a_{i}", "label": int(i >= 10)} for i in range(12)]
    (folder / "metrics.json").write_text(json.dumps({"scores": scores}))
    done = nomaly("monitor", folder, "--output", tmp_path / "o", "--healthy_only", healthy_only)
    assert f"{studies} studies" in done.out and ("2 known to be abnormal" in done.out) == (studies == 10)


def test_number_of_calibration_studies_may_be_given_where_no_run_json_is(nomaly, make_run, tmp_path: Path) -> None:
    table = make_run("a", CALM) / "results.csv"
    done = nomaly("monitor", table, "--output", tmp_path / "o")
    assert done.code == 2 and done.err == (
        f"nomaly: the number of healthy calibration studies must be known, but no run.json beside {table} states it: "
        "give --healthy_studies N.\n"
    )
    assert not (tmp_path / "o").exists()
    assert nomaly("monitor", table, "--output", tmp_path / "o", "--healthy_studies", 99).code == 0


def test_group_has_its_own_number_of_calibration_studies(nomaly, make_run, tmp_path: Path) -> None:
    run = {"calibration": {"healthy_studies": 148, "groups": {"north": 99, "south": 49}}}
    runs = [make_run("n", CALM, run, group="north"), make_run("s", CALM, run, group="south")]
    done = nomaly("monitor", *runs, "--output", tmp_path / "o")
    assert done.code == 2 and "one calibration group, got north, south: choose one with --group." in done.err
    done = nomaly("monitor", *runs, "--output", tmp_path / "o", "--group", "south")
    assert done.code == 0 and "Left out: 10 of other groups." in done.out
    assert json.loads((tmp_path / "o" / "monitor.json").read_text())["healthy_studies"] == 49
    done = nomaly("monitor", *runs, "--output", tmp_path / "p", "--group", "west")
    assert done.code == 2 and "--group must be a group of the results, but no study belongs to west" in done.err


def test_each_kind_of_study_is_monitored_by_its_own_calibration(nomaly, make_run, tmp_path: Path) -> None:
    thresholds = {"image": {"healthy_studies": 99, "pixel_threshold": 0.1}, "volume": {"healthy_studies": 49}}
    runs = [
        make_run("i", CALM, {"calibration": thresholds}, kind="image", healthy_studies=99),
        make_run("v", CALM, {"calibration": thresholds}, kind="volume", healthy_studies=49),
    ]
    done = nomaly("monitor", *runs, "--output", tmp_path / "o")
    assert done.code == 2 and "of one kind, got 2-D images and volumes: choose one with --kind." in done.err
    for kind, count in ("image", 99), ("volume", 49):
        done = nomaly("monitor", *runs, "--output", tmp_path / kind, "--kind", kind)
        assert done.code == 0 and "Left out: 10 of the other kind." in done.out
        assert json.loads((tmp_path / kind / "monitor.json").read_text())["healthy_studies"] == count


@pytest.mark.parametrize("again", ["a", "a/results.csv", "a/../a", "link"])
def test_table_given_twice_under_any_name_is_refused(again: str, nomaly, make_run, tmp_path: Path) -> None:
    runs = [make_run("a", CALM, {}), make_run("b", CALM, {})]
    (tmp_path / "link").symlink_to(runs[0])
    done = nomaly("monitor", *runs, tmp_path / again, "--output", tmp_path / "o")
    table = (runs[0] / "results.csv").resolve()
    assert done.code == 2 and done.err == (
        f"nomaly: RESULTS must name each results table once, but {table} was given 2 times: give it once.\n"
    )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"model_hash": "ff"}, "RESULTS must be runs of one calibrated detector, but the model_hash of "),
        ({"calibration": {"healthy_studies": 99, "pixel_threshold": 0.4}}, "detector, but the pixel_threshold of "),
        ({"calibration": {"healthy_studies": 19}}, "RESULTS must be runs of one calibration, got healthy_studies 99 ("),
    ],
)
def test_runs_of_several_calibrations_are_refused(second: dict, message: str, nomaly, make_run, tmp_path: Path) -> None:
    first = {"model_hash": "ee", "calibration": {"healthy_studies": 99, "pixel_threshold": 0.3}}
    runs = make_run("a", CALM, first), make_run("b", CALM, {**first, **second})
    done = nomaly("monitor", *runs, "--output", tmp_path / "o")
    assert done.code == 2 and message in done.err


def test_dates_out_of_order_are_pointed_out_on_the_page(nomaly, make_run, tmp_path: Path) -> None:
    runs = make_run("a", CALM, {"date": "2026-05-01T00:00:00"}), make_run("b", CALM, {"date": "2026-04-01T00:00:00"})
    assert nomaly("monitor", *runs, "--output", tmp_path / "o").code == 0
    assert "was an older run given after a newer one?" in (tmp_path / "o" / "monitor.html").read_text()
    assert nomaly("monitor", *runs[::-1], "--output", tmp_path / "p").code == 0
    assert "older run" not in (tmp_path / "p" / "monitor.html").read_text()


def test_notes_of_the_runs_are_on_the_page(nomaly, make_run, tmp_path: Path) -> None:
    nomaly("monitor", make_run("a", CALM, {"notes": ["Synthetic images."]}), "--output", tmp_path / "o")
    assert "Synthetic images." in (tmp_path / "o" / "monitor.html").read_text()


def test_earlier_results_are_replaced_only_where_asked(nomaly, make_run, tmp_path: Path) -> None:
    words = ["monitor", make_run("a", CALM, {}), "--output", tmp_path / "o"]
    assert nomaly(*words).code == 0
    done = nomaly(*words)
    assert done.code == 2 and "already contains monitor.json: give another folder, or --overwrite." in done.err
    assert nomaly(*words, "--overwrite").code == nomaly(*words, "--overwrite", "true").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing"], "results table not found: missing. Name the results.csv of a run."),
        (["."], "results table not found: results.csv."),
        (["missing", "--alpha", "1"], "monitor has no option --alpha: choose one of --help"),
    ],
)
def test_missing_results_and_unknown_options_are_refused(words, message: str, nomaly, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = nomaly("monitor", *words, "--output", "o")
    assert done.code == 2 and done.err.startswith(f"nomaly: {message}") and not Path("o").exists()


def test_planned_length_reaches_the_limit(nomaly, make_run, tmp_path: Path) -> None:
    words = ["monitor", make_run("a", CALM, {}), "--output", tmp_path / "o", "--overwrite"]
    limits = []
    for planned in (10, 200):
        assert nomaly(*words, "--planned_studies", planned).code == 0
        limits.append(json.loads((tmp_path / "o" / "monitor.json").read_text())["cusum"]["limit"])
    assert limits[0] < limits[1]


def test_too_few_studies_are_refused(nomaly, make_run, tmp_path: Path) -> None:
    done = nomaly("monitor", make_run("a", CALM[:9], {}), "--output", tmp_path / "o")
    assert done.code == 2 and "p_values must cover at least 10 studies, got 9: wait for more." in done.err


def test_broken_run_json_is_refused(nomaly, make_run, tmp_path: Path) -> None:
    folder = make_run("a", CALM, {})
    (folder / "run.json").write_text("{")
    done = nomaly("monitor", folder, "--output", tmp_path / "o")
    assert done.code == 2 and f"{folder / 'run.json'} must be JSON: " in done.err


def test_help_gives_the_exit_codes_and_which_studies_to_give(capsys) -> None:
    from custom import cli

    with pytest.raises(SystemExit):
        cli.main(["monitor", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "0 = in control, 3 = alarm" in text
        and "later found healthy" in text
        and "monitors the case mix instead" in text
    )
