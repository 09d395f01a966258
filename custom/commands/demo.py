"""The demonstration: a bundle from training to detection on synthetic images, in five minutes on two CPU cores."""

from __future__ import annotations

import json
import logging
import shlex
import time
from pathlib import Path
from typing import Any

from custom.commands.bundle import find_bundle, path_of, run_bundle
from custom.commands.demo_parameters import split_overrides
from custom.commands.next_step import to_open
from custom.reporting.wording import count
from custom.runs.tables import StudyResult, read_results_csv
from custom.synthetic.dataset import make_phantom
from custom.synthetic.phantoms import find_phantom

logger = logging.getLogger(__name__)

CALIBRATION_STUDIES = 60  # with fewer, the false-alarm rate differs much from one calibration set to another


def run(bundle: str, output: str, overrides: dict[str, Any]) -> int:
    """Train with the demo overlay, calibrate, evaluate, detect in an unseen study with a lesion, print the key figures.

    It may be run again: training resumes where it stopped, results are replaced.
    """
    given = split_overrides(bundle, overrides)
    started = time.perf_counter()
    folder = Path(output)
    print(
        f"Demonstration of {bundle} on synthetic images: trains, calibrates, evaluates and detects in about five "
        f"minutes on two cores. The results go to {folder}; the key figures come last. Run it again to resume.",
        flush=True,
    )
    models = str(folder / "models")
    config = json.loads(path_of(find_bundle(bundle), "train").read_text(encoding="utf-8"))
    phantom = find_phantom(config["anatomy"])
    data = make_phantom(
        folder / "phantom", config["anatomy"], groups=config["lesion_groups"], num_calibration=CALIBRATION_STUDIES
    )
    common: dict[str, Any] = {"ckpt_dir": models, "dataset_dir": data}
    run_bundle(bundle, ["train", "demo"], {**common, **given["train"], "output_dir": str(folder / "train")})
    calibration = {"calibration_file": str(folder / "calibration" / "calibration.json"), "overwrite": True}
    run_bundle(bundle, ["calibrate", "demo"], {**common, **given["calibrate"], **calibration})
    common |= calibration
    results: dict[str, Any] = {"output_dir": str(folder / "evaluation")}
    run_bundle(bundle, ["evaluate", "demo"], {**common, **given["evaluate"], **results})
    unseen = str(Path(data) / "unseen" / f"{phantom.unseen}{phantom.suffix}")
    results = {
        "output_dir": str(folder / "unseen_study"),
        "studies": unseen,
    }
    run_bundle(bundle, ["inference", "demo"], {**common, **given["inference"], **results})
    print(summary(bundle, folder, time.perf_counter() - started))
    return 0


def summary(bundle: str, folder: Path, seconds: float) -> str:
    """The key figures, and where the results are."""
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    baseline = metrics["best_baseline"]
    best = metrics["baselines"][baseline["name"]]["auroc"]["value"]
    pixel, alarms = metrics["pixel"], metrics["false_alarm_rate"]
    study = read_results_csv(folder / "unseen_study" / "results.csv")[0]
    maps = [str(path.resolve()) for path in (folder / "unseen_study" / study.study).glob("map.*")]
    lines = [
        "",
        f"Done in {seconds / 60:.1f} minutes. {bundle} on synthetic images with synthetic lesions: this shows that "
        "the software works, not how well it detects disease.",
        f"  image AUROC      {_with_interval(metrics['image']['auroc'])}; "
        f"{metrics['n_healthy']} healthy, {metrics['n_abnormal']} with a lesion",
        f"  best baseline    {best:.3f} ({baseline['name']})",
        f"  pixel AP         {pixel['ap']['value']:.3f}; Dice at the calibrated threshold "
        f"{pixel['dice']['value']:.3f}",
        f"  false alarms     {alarms['value']:.3f} of the healthy studies at alpha {metrics['alpha']}",
        f"  unseen study     {_outcome(study)}",
        "",
        f"  to open it       {to_open(folder / 'evaluation' / 'report.html')}",
        f"  report           {(folder / 'evaluation' / 'report.html').resolve()}",
        f"  training         {(folder / 'train' / 'training.html').resolve()}",
        f"  unseen study     {(folder / 'unseen_study' / 'report.html').resolve()}",
        f"  its map          {maps[0] if maps else 'none'}",
        f"  TensorBoard      tensorboard --logdir {shlex.quote(str((folder / 'train').resolve()))}",
    ]
    return "\n".join(lines)


def _with_interval(stat: dict[str, float | None]) -> str:
    """A value and its interval; no interval where there are too few studies."""
    interval = "" if stat["low"] is None else f" (95 % CI {stat['low']:.3f} to {stat['high']:.3f})"
    return f"{stat['value']:.3f}{interval}"


def _outcome(study: StudyResult) -> str:
    """Key figures of a study, or the reason why it has none."""
    if study.score is None:
        return study.error or study.note
    found = study.region_count
    regions = "" if found is None else f", {count(found, 'significant region', 'significant regions')}"
    return f"score {study.score:.4g}, {_p_value(study)}, {study.decision or 'no decision'}{regions}"


def _p_value(study: StudyResult) -> str:
    """The p-value of a study, or the reason why it has none."""
    if study.p_value is not None:
        return f"p = {study.p_value:.3f}"
    reason = study.note.rstrip(".") or "no p-value"
    return reason[0].lower() + reason[1:]
