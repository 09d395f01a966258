"""The demonstration: everything on synthetic heads, in about five minutes on two CPU cores."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from custom.cli import run_bundle
from custom.reporting.results import read_results_csv

logger = logging.getLogger(__name__)

BUNDLE = "ra_brain"


def run(output: str, overrides: dict[str, Any]) -> int:
    """Train with the demo overlay, calibrate, evaluate, infer on an unseen head with a lesion, and say what came of it.

    It may be run again: training goes on where it stopped, results are made anew in the same folder.
    """
    started = time.perf_counter()
    folder = Path(output)
    models = str(folder / "models")
    data = str(folder / "phantom")
    common = {"ckpt_dir": models, **overrides}
    run_bundle(BUNDLE, ["train", "demo"], {**common, "output_dir": str(folder / "train"), "phantom_dir": data})
    run_bundle(BUNDLE, ["calibrate", "demo"], {**common, "phantom_dir": data})
    results = {"output_dir": str(folder / "evaluation"), "overwrite": True, "phantom_dir": data}
    run_bundle(BUNDLE, ["evaluate", "demo"], {**common, **results})
    unseen = str(Path(data) / "unseen" / "head_with_lesion.nii.gz")
    results = {"output_dir": str(folder / "unseen_head"), "overwrite": True, "studies": unseen}
    run_bundle(BUNDLE, ["inference", "demo"], {**common, **results})
    print(summary(folder, time.perf_counter() - started))
    return 0


def summary(folder: Path, seconds: float) -> str:
    """What a person wants to know at the end."""
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    auroc, floor = metrics["image"]["auroc"], metrics["best_floor"]
    best = metrics["floors"][floor["name"]]["auroc"]["value"]
    pixel, alarms = metrics["pixel"], metrics["false_alarm_rate"]
    head = read_results_csv(folder / "unseen_head" / "results.csv")[0]
    lines = [
        "",
        f"Done in {seconds / 60:.1f} minutes. Synthetic heads with synthetic lesions: it shows that the "
        "software works.",
        f"  image AUROC      {auroc['value']:.3f} (95 % CI {auroc['low']:.3f} to {auroc['high']:.3f}); "
        f"{metrics['n_healthy']} healthy, {metrics['n_abnormal']} with a lesion",
        f"  best floor       {best:.3f} ({floor['name']})",
        f"  pixel AP         {pixel['ap']['value']:.3f}; Dice at the healthy-fixed threshold "
        f"{pixel['dice']['value']:.3f}",
        f"  false alarms     {alarms['value']:.3f} of the healthy at alpha {metrics['alpha']}",
        f"  unseen head      score {head.score:.4g}, p = {head.p_value:.3f}, {head.decision}, "
        f"{head.lesion_count} regions",
        "",
        f"  report           {(folder / 'evaluation' / 'report.html').resolve()}",
        f"  unseen head      {(folder / 'unseen_head' / 'report.html').resolve()}",
        f"  its map (NIfTI)  {(folder / 'unseen_head' / 'head_with_lesion' / 'map.nii.gz').resolve()}",
        f"  TensorBoard      tensorboard --logdir {(folder / 'train').resolve()}",
    ]
    return "\n".join(lines)
