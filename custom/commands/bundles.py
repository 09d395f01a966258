"""nomaly bundles: what each bundle is for, what its weights learned from, how well it detects, and its licence."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom.commands.bundle import METADATA, bundle_folders
from custom.commands.help import line_width

PROVENANCE = Path("models") / "provenance.json"
FIGURES = {
    "image_auroc": "AUROC",
    "sensitivity_at_alpha_0.05": "sensitivity at alpha 0.05",
    "false_alarm_rate_at_alpha_0.05": "false-alarm rate at alpha 0.05",
}
CODE_LICENCE = "code: Apache-2.0"


def run(as_json: bool = False) -> int:
    """Print all bundles, as text or as JSON."""
    bundles = {folder.name: facts_of(folder) for folder in bundle_folders()}
    if as_json:
        print(json.dumps(bundles, indent=2))
        return 0
    for name, facts in bundles.items():
        print(name)
        for title, text in facts.items():
            print(textwrap.fill(f"{title:9}{text}", line_width(), initial_indent="  ", subsequent_indent=" " * 11))
        print()
    print("Figures: on test studies, with 95 % intervals.")
    print("The parameters of a bundle: nomaly parameters BUNDLE. Data, measurements and limits: its docs/README.md.")
    return 0


def facts_of(folder: Path) -> dict[str, str]:
    """Method, images, weights, figures and licence of a bundle in words."""
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    path = folder / PROVENANCE
    provenance = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    data = provenance.get("data", [])
    return {
        "method": metadata["name"].rpartition(" with ")[2],
        "images": metadata["image_classes"],
        "weights": "; ".join(source["name"] for source in data) or "none: train the bundle first",
        "figures": figures_of(provenance.get("eval_metrics", {})) or "not measured with these weights",
        "licence": "; ".join([CODE_LICENCE, *(f"data of the weights: {source['terms']}" for source in data)]),
    }


def figures_of(metrics: Mapping[str, Any]) -> str:
    """The figures of an evaluation in words, those that were measured; empty without one."""
    parts = [f"{title} {measured(metrics[name])}" for name, title in FIGURES.items() if name in metrics]
    for name, figure in metrics.items():
        if name.startswith("best_baseline_"):
            baseline = name.removeprefix("best_baseline_").removesuffix("_image_auroc").replace("_", " ")
            parts.append(f"AUROC of the best baseline {figure['value']:.2f} ({baseline})")
    if studies := metrics.get("test_studies"):
        counts = f"{studies['healthy']} healthy and {studies['abnormal']} abnormal"
        parts.append(f"{counts} studies ({studies['abnormalities']} abnormalities)")
    return "; ".join(parts)


def measured(figure: Mapping[str, Any]) -> str:
    """A value with its interval, if it has one."""
    low, high = figure.get("low"), figure.get("high")
    return f"{figure['value']:.2f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")
