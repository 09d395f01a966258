"""Comparison of exported graphs with the detector itself: differences in results, and speed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from custom.engines.detection_evaluator import DetectionEvaluator
from custom.errors import NomalyError
from custom.export.detector import DECISIONS, NONE, image_size_of
from custom.export.formats import Runner
from custom.studies.items import Study

EAGER = "eager"


@dataclass
class FormatParity:
    """Largest differences of a format from the detector over the studies, and the seconds per study.

    map: relative to the study's largest map value; score: relative to the score, if fused to 1 at least;
    reconstruction: absolute.
    """

    map: float = 0.0
    reconstruction: float = 0.0
    score: float = 0.0
    p_values_differ: list[str] = field(default_factory=list)
    decisions_differ: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, item: Study, outputs: Sequence[Tensor], seconds: float) -> None:
        """Compare a study scored by DetectionEvaluator with a graph's outputs for it."""
        anomaly_map, reconstruction, score, p_value, decision = outputs
        largest = item["pred"].abs().max().clamp(min=1e-12)
        self.map = worst(self.map, (stacked(item["pred"]) - anomaly_map).abs().max() / largest)
        self.reconstruction = worst(self.reconstruction, (stacked(item["reconstruction"]) - reconstruction).abs().max())
        unit = 1.0 if "score_parts" in item else 1e-12  # a fused score is in standard deviations, and may be 0
        self.score = worst(self.score, abs(item["score"] - float(score)) / max(abs(item["score"]), unit))
        if abs(float(p_value) - (NONE if item["p_value"] is None else item["p_value"])) > 1e-12:
            self.p_values_differ.append(item["case"])
        if int(decision) != (NONE if item["decision"] is None else DECISIONS[item["decision"]]):
            self.decisions_differ.append(item["case"])
        self.seconds.append(seconds)

    def report(self, tolerances: Mapping[str, float]) -> dict[str, Any]:
        """Content of parity.json; ``passed`` = all differences within the tolerances and all decisions equal."""
        near = all(getattr(self, name) <= tolerance for name, tolerance in tolerances.items())
        return {
            "passed": near and not self.decisions_differ,
            "map_difference": number(self.map),
            "reconstruction_difference": number(self.reconstruction),
            "score_difference": number(self.score),
            "p_values_differ": self.p_values_differ,
            "decisions_differ": self.decisions_differ,
            "median_seconds": round(statistics.median(self.seconds), 5),
        }


def check_parity(
    evaluator: DetectionEvaluator, module: nn.Module, runners: Mapping[str, Runner], tolerances: Mapping[str, float]
) -> dict[str, Any]:
    """Run studies through the evaluator and each runner.

    Args:
        evaluator: evaluator with the studies; only those on the network's grid and of the exported group are compared.
        module: the exported module in PyTorch, as the reference for times.
        runners: function of each format.
        tolerances: largest allowed differences of map, score and reconstruction, see FormatParity.

    Returns:
        Content of parity.json.

    Raises:
        NomalyError: if no study can be compared.
    """
    found = {EAGER: FormatParity(), **{name: FormatParity() for name in runners}}
    functions: dict[str, Runner] = {EAGER: module, **runners}
    left_out = {}
    for listed in getattr(evaluator.data_loader, "dataset"):
        item = cast(Study, dict(listed))
        reason = reason_to_leave_out(evaluator, item)
        if reason is not None:
            left_out[item["case"]] = reason
            continue
        slices = stacked(torch.as_tensor(item["image"]).as_subclass(torch.Tensor)).contiguous()
        for name, function in functions.items():
            started = time.perf_counter()
            with torch.no_grad():
                outputs = function(slices)
            found[name].add(item, outputs, time.perf_counter() - started)
    studies = len(found[EAGER].seconds)
    if not studies:
        reason = next(iter(left_out.values()), "none was given")
        raise NomalyError(
            f"the check against the detector needs at least one study that can be scored, but found none ({reason})."
        )
    formats = {name: parity.report(tolerances) for name, parity in found.items()}
    return {
        "passed": all(parity["passed"] for parity in formats.values()),
        "studies": studies,
        "left_out": left_out,
        "tolerances": dict(tolerances),
        "threads": torch.get_num_threads(),
        "formats": formats,
    }


def reason_to_leave_out(evaluator: DetectionEvaluator, item: Study) -> str | None:
    """Why a study cannot be compared; None if it can, and then its item has the detector's results."""
    if "error" in item:
        return item["error"]
    network = evaluator.detector
    side, plane = image_size_of(network), tuple(item["image"].shape[1:3])
    if plane != side:
        return f"its slices have {plane[0]} x {plane[1]} pixels, those of the graph {side[0]} x {side[1]}"
    if network.calibration.of(item["image"].shape).group_names and evaluator.group_of(item) != evaluator.study_group:
        return f"its calibration group is {evaluator.group_of(item)}"
    evaluator.detect([item])
    return item.get("error")


def tolerances_of(map_head: nn.Module, fused: bool = False) -> dict[str, float]:
    """Largest allowed differences: map and score relative, reconstruction absolute.

    A fused score is in standard deviations of healthy studies, which are a tenth to a fifth of its parts' logarithms:
    1.2e-4 was seen between onnxruntime and PyTorch (58 slices of heads, ra_brain).

    Adaptive equalisation counts grey levels in small tiles: if the last bit of a pixel moves it to the next level,
    the mapping of its neighbours changes. The exported equalisation itself is exact (equal on all of 62 chest films),
    but its input is not. Even in PyTorch, noise of 1e-6 changes 15 films by up to 0.03 of [0, 1], noise of 1e-7
    none. Reconstructions of onnxruntime differ by up to 2e-6, which gives differences of at most 4.8 % of the map's
    maximum and 0.7 % of the score (618 chest films, ra_chest).
    """
    equalised = getattr(map_head, "residual", None) == "clahe" or getattr(map_head, "perceptual_clahe", False)
    return {
        "map": 0.1 if equalised else 1e-3,
        "score": 0.02 if equalised else 1e-3 if fused else 1e-4,
        "reconstruction": 1e-4,
    }


def table(report: Mapping[str, Any]) -> str:
    """The report as a table for the terminal."""
    lines = [f"{'format':14}{'map':>10}{'image':>10}{'score':>10}{'p differ':>10}{'decisions differ':>18}{'ms':>9}"]
    for name, row in report["formats"].items():
        differences = [row[f"{key}_difference"] for key in ("map", "reconstruction", "score")]
        texts = "".join(f"{'none' if value is None else format(value, '.1e'):>10}" for value in differences)
        counts = f"{len(row['p_values_differ']):>10}{len(row['decisions_differ']):>18}"
        lines.append(f"{name:14}{texts}{counts}{1000 * row['median_seconds']:>9.1f}")
    return "\n".join(lines)


def stacked(study: Tensor) -> Tensor:
    """(C, X, Y, Z) -> (Z, C, X, Y)."""
    return study.movedim(-1, 0)


def worst(before: float, now: float | Tensor) -> float:
    """The larger difference; NaN counts as infinite."""
    return max(before, math.inf if math.isnan(now) else float(now))


def number(value: float) -> float | None:
    """The value, or None if it is infinite, which JSON cannot express."""
    return value if math.isfinite(value) else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that times can be compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
