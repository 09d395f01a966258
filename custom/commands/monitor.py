"""Monitoring of a detector in use: do healthy studies still score as they did at calibration?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom.calibration.monitor import monitor
from custom.commands.next_step import step, to_open
from custom.errors import NomalyError
from custom.reporting.monitor_report import MonitoredStudy, monitor_sentence, write_monitor_report
from custom.runs.tables import StudyResult, read_results_csv

DRIFT = 3  # exit code


@dataclass
class Series:
    """The studies of several runs in chronological order, and the size of their calibration.

    Args:
        healthy_studies: number of calibration studies; 0 until known.
        studies: those with a p-value.
        left_out: number of the others, by reason.
        notes: remarks for the reader.
    """

    healthy_studies: int
    studies: list[MonitoredStudy] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def run(
    results: Sequence[str],
    output: str,
    alarm_rate: float = 0.01,
    healthy_only: bool = True,
    healthy_studies: int | None = None,
    group: str | None = None,
    kind: str | None = None,
    planned_studies: int | None = None,
    overwrite: bool = False,
) -> int:
    """Test the p-values of runs for drift, write monitor.json and monitor.html, print the result.

    Args:
        results: results.csv files, or folders of runs, in chronological order.
        output: folder for the two files.
        alarm_rate: maximum false-alarm probability of this check, or of all checks of a planned series.
        healthy_only: leave out studies that are known to be abnormal (metrics.json beside results.csv).
        healthy_studies: number of calibration studies; None = as in results.csv or run.json.
        group: calibration group to monitor, if there are several.
        kind: kind of study to monitor, "image" or "volume", if there are both.
        planned_studies: planned length of the series; None = one check of the given studies.
        overwrite: replace an earlier monitor.json.

    Returns:
        0 = in control, 3 = alarm.

    Raises:
        NomalyError: a missing file, an unknown number of calibration studies, several calibrations, too few studies.
    """
    folder = Path(output)
    if (folder / "monitor.json").exists() and not overwrite:
        raise NomalyError(f"--output {folder} already contains monitor.json: give another folder, or --overwrite.")
    series = read_series(results, healthy_only, healthy_studies, group, kind)
    p_values = [study.p_value for study in series.studies]
    found = monitor(p_values, series.healthy_studies, alarm_rate, planned_studies)
    write_monitor_report(folder, found, series.studies, series.left_out, series.notes)
    print(monitor_sentence(found, series.studies))
    left_out = ", ".join(f"{number} {reason}" for reason, number in series.left_out.items())
    if left_out:
        print(f"Left out: {left_out}.")
    print(step("To open the page", to_open(folder / "monitor.html")))
    if found.drifted:
        print(step("To calibrate on recent healthy studies", "nomaly calibrate BUNDLE --healthy HEALTHY --output NEW"))
    return DRIFT if found.drifted else 0


def read_series(
    results: Sequence[str],
    healthy_only: bool = True,
    healthy_studies: int | None = None,
    group: str | None = None,
    kind: str | None = None,
) -> Series:
    """The studies of all runs, in the given order.

    Raises:
        NomalyError: as :func:`run`.
    """
    series = Series(healthy_studies or 0)
    infos: dict[str, dict[str, Any]] = {}
    tables = [path / "results.csv" if path.is_dir() else path for path in map(Path, results)]
    _check_given_once(tables)
    for table in tables:
        rows, infos[str(table)] = read_results_csv(table), _read_json(table.parent / "run.json")
        abnormal = _abnormal_cases(table.parent) if healthy_only else set()
        _add(series, table, rows, infos[str(table)], abnormal, group, kind)
    _check_one_kind(series)
    if kind is None and series.studies:
        kind = series.studies[0].kind
    _check_one_calibration(infos, kind)
    _check_one_group(series, group)
    if healthy_studies is None:
        series.healthy_studies = _count_of_calibration(infos, series.studies, kind)
    series.notes += [note for info in infos.values() for note in info.get("notes") or []]
    dates = [info["date"] for info in infos.values() if info.get("date")]
    if dates != sorted(dates):
        series.notes.append("The dates of the runs are not in order of time: was an older run given after a newer one?")
    return series


def _check_given_once(tables: Sequence[Path]) -> None:
    """Refuse a table that was given twice, even by different paths: its studies would count twice."""
    for table, count in Counter(table.resolve() for table in tables).items():
        if count > 1:
            raise NomalyError(
                f"RESULTS must name each results table once, but {table} was given {count} times: give it once."
            )


def _add(
    series: Series,
    table: Path,
    rows: Sequence[StudyResult],
    info: dict[str, Any],
    abnormal: set[str],
    group: str | None,
    kind: str | None,
) -> None:
    """Add the rows of one run."""
    for row in rows:
        reason = _reason_to_leave_out(row, abnormal, group, kind)
        if reason is not None:
            series.left_out[reason] += 1
        elif row.p_value is not None:  # which the reason has checked
            facts = (row.score, row.p_value, row.decision, row.group, row.kind, row.healthy_studies)
            series.studies.append(MonitoredStudy(row.study, str(table), info.get("date"), *facts))


def _reason_to_leave_out(row: StudyResult, abnormal: set[str], group: str | None, kind: str | None) -> str | None:
    """Why a row is not part of the series; None if it is."""
    if row.status != "ok":
        return row.status.replace("_", " ")
    if row.p_value is None:
        return "without a p-value"
    if group is not None and row.group != group:
        return "of other groups"
    if kind is not None and row.kind not in (kind, None):
        return "of the other kind"
    return "known to be abnormal" if row.study in abnormal else None


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON object; empty if the file does not exist.

    Raises:
        NomalyError: if it is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NomalyError(f"{path} must be JSON: {error}. Give the folder of a whole run.") from None
    if not isinstance(content, dict):
        raise NomalyError(
            f"{path} must be a JSON object, got {type(content).__name__}. Give the folder of a whole run."
        )
    return content


def _abnormal_cases(folder: Path) -> set[str]:
    """Studies that the run's evaluation lists as abnormal; empty if it has no ground truth."""
    scores = _read_json(folder / "metrics.json").get("scores") or []
    return {row["case"] for row in scores if row.get("label")}


def _calibration_of(info: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """What a run.json states of the calibration on studies of a kind; earlier releases had one for all studies."""
    calibration = info.get("calibration") or {}
    return calibration.get(kind or "") or (calibration if "healthy_studies" in calibration else {})


def _check_one_kind(series: Series) -> None:
    """Refuse studies of both kinds: their p-values refer to different healthy studies."""
    if len({study.kind for study in series.studies} - {None}) > 1:
        raise NomalyError("studies must be of one kind, got 2-D images and volumes: choose one with --kind.")


def _check_one_calibration(infos: dict[str, dict[str, Any]], kind: str | None) -> None:
    """Refuse runs of different weights or calibrations: their ranks cannot be compared."""
    for key in ("model_hash", "weight_hash", "pixel_threshold"):
        found = {table: info.get(key) or _calibration_of(info, kind).get(key) for table, info in infos.items()}
        values = {table: value for table, value in found.items() if value is not None}
        first = next(iter(values), "")
        other = next((table for table, value in values.items() if value != values[first]), None)
        if other is not None:
            raise NomalyError(
                f"RESULTS must be runs of one calibrated detector, but the {key} of {first} is {values[first]} and "
                f"that of {other} is {values[other]}: monitor each separately."
            )


def _check_one_group(series: Series, group: str | None) -> None:
    """Refuse studies of several calibration groups: their p-values refer to different healthy studies."""
    names = list(dict.fromkeys(study.group for study in series.studies))
    if len(names) > 1:
        raise NomalyError(
            f"studies must belong to one calibration group, got {', '.join(map(str, names))}: choose one with --group."
        )
    if group is not None and not series.studies:
        raise NomalyError(
            f"--group must be a group of the results, but no study belongs to {group}: see the column group."
        )


def _count_of_calibration(infos: dict[str, dict[str, Any]], studies: Sequence[MonitoredStudy], kind: str | None) -> int:
    """Number of calibration studies according to results.csv, or to run.json for tables of earlier releases."""
    group = studies[0].group if studies else None
    found = {study.run: study.healthy_studies for study in studies if study.healthy_studies}
    for table, info in infos.items():
        calibration = _calibration_of(info, kind)
        count = (calibration.get("groups") or {}).get(group, calibration.get("healthy_studies"))
        if count:
            found.setdefault(table, int(count))
    if not found:
        raise NomalyError(
            "the number of healthy calibration studies must be known, but no run.json beside "
            f"{', '.join(infos)} states it: give --healthy_studies N."
        )
    if len(set(found.values())) > 1:
        counts = ", ".join(f"{count} ({table})" for table, count in found.items())
        raise NomalyError(
            f"RESULTS must be runs of one calibration, got healthy_studies {counts}: monitor each separately."
        )
    return next(iter(found.values()))
