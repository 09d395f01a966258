"""The demonstration: everything on synthetic heads, in about five minutes on two CPU cores."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from custom.cli import find_bundle, path_of, run_bundle
from custom.data.phantom import make_head_phantom
from custom.errors import NomalyError
from custom.reporting.results import read_results_csv

logger = logging.getLogger(__name__)

BUNDLE = "ra_brain"
CONFIGS = ("train", "calibrate", "evaluate", "inference")


def run(output: str, overrides: dict[str, Any]) -> int:
    """Train with the demo overlay, calibrate, evaluate, infer on an unseen head with a lesion, and say what came of it.

    It may be run again: training goes on where it stopped, results are made anew in the same folder.
    """
    started = time.perf_counter()
    folder = Path(output)
    models = str(folder / "models")
    given = split_overrides(overrides)
    data = make_head_phantom(folder / "phantom")
    common = {"ckpt_dir": models, "dataset_dir": data}
    run_bundle(BUNDLE, ["train", "demo"], {**common, **given["train"], "output_dir": str(folder / "train")})
    run_bundle(BUNDLE, ["calibrate", "demo"], {**common, **given["calibrate"]})
    results = {"output_dir": str(folder / "evaluation"), "overwrite": True}
    run_bundle(BUNDLE, ["evaluate", "demo"], {**common, **given["evaluate"], **results})
    unseen = str(Path(data) / "unseen" / "head_with_lesion.nii.gz")
    results = {"output_dir": str(folder / "unseen_head"), "overwrite": True, "studies": unseen}
    run_bundle(BUNDLE, ["inference", "demo"], {**common, **given["inference"], **results})
    print(summary(folder, time.perf_counter() - started))
    return 0


def split_overrides(overrides: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each config of the demonstration those overrides that are its knobs.

    Raises:
        NomalyError: if one is a knob of none.
    """
    folder = find_bundle(BUNDLE)
    known = {config: set(json.loads(path_of(folder, config).read_text())) for config in CONFIGS}
    unknown = sorted(name for name in overrides if not any(name.split("#")[0] in knobs for knobs in known.values()))
    if unknown:
        raise NomalyError(f"no knob of {', '.join(CONFIGS)} is called {', '.join(unknown)}: see {folder / 'configs'}.")
    return {
        config: {name: value for name, value in overrides.items() if name.split("#")[0] in knobs}
        for config, knobs in known.items()
    }


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
