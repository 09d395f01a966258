"""Whether an exported graph says of studies what the detector itself says, and how fast."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from custom.engines.detection_evaluator import DetectionEvaluator
from custom.errors import NomalyError
from custom.export.detector import DECISIONS, NONE
from custom.export.formats import Runner

EAGER = "eager"


@dataclass
class FormatParity:
    """How far a format is from the detector: the largest differences over the studies, and the median seconds of one.

    map, score: relative to the study's largest map value, and to its score; reconstruction: absolute.
    """

    map: float = 0.0
    reconstruction: float = 0.0
    score: float = 0.0
    p_values_differ: list[str] = field(default_factory=list)
    decisions_differ: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, item: Mapping[str, Any], outputs: Sequence[Tensor], seconds: float) -> None:
        """Compare a study's item after DetectionEvaluator with a graph's outputs for it."""
        anomaly_map, reconstruction, score, p_value, decision = outputs
        largest = item[Keys.PRED].abs().max().clamp(min=1e-12)
        self.map = worst(self.map, (stacked(item[Keys.PRED]) - anomaly_map).abs().max() / largest)
        self.reconstruction = worst(self.reconstruction, (stacked(item["reconstruction"]) - reconstruction).abs().max())
        self.score = worst(self.score, abs(item["score"] - float(score)) / max(abs(item["score"]), 1e-12))
        if abs(float(p_value) - (NONE if item["p_value"] is None else item["p_value"])) > 1e-12:
            self.p_values_differ.append(item["case"])
        if int(decision) != (NONE if item["decision"] is None else DECISIONS[item["decision"]]):
            self.decisions_differ.append(item["case"])
        self.seconds.append(seconds)

    def report(self, tolerances: Mapping[str, float]) -> dict[str, Any]:
        """What parity.json tells, with ``passed``: all within the tolerances, and every decision equal."""
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
    """Run studies through the evaluator and each runner, one after the other, on one thread.

    Args:
        evaluator: with the studies; only those on the network's grid and of the exported group are compared.
        module: what was exported, as it is: its time is the one to compare with.
        runners: of each format.
        tolerances: of map, score and reconstruction, see FormatParity.

    Returns:
        What parity.json tells.

    Raises:
        NomalyError: if there is no study to compare.
    """
    found = {EAGER: FormatParity(), **{name: FormatParity() for name in runners}}
    functions = {EAGER: module, **runners}
    left_out = {}
    for item in evaluator.data_loader.dataset:
        item = dict(item)
        reason = reason_to_leave_out(evaluator, item)
        if reason is not None:
            left_out[item["case"]] = reason
            continue
        slices = stacked(torch.as_tensor(item[Keys.IMAGE]).as_subclass(torch.Tensor)).contiguous()
        for name, function in functions.items():
            started = time.perf_counter()
            with torch.no_grad():
                outputs = function(slices)
            found[name].add(item, outputs, time.perf_counter() - started)
    studies = len(found[EAGER].seconds)
    if not studies:
        reason = next(iter(left_out.values()), "none was given")
        raise NomalyError(f"the parity check needs at least one study that can be scored, got none ({reason}).")
    formats = {name: parity.report(tolerances) for name, parity in found.items()}
    return {
        "passed": all(parity["passed"] for parity in formats.values()),
        "studies": studies,
        "left_out": left_out,
        "tolerances": dict(tolerances),
        "threads": torch.get_num_threads(),
        "formats": formats,
    }


def reason_to_leave_out(evaluator: DetectionEvaluator, item: dict[str, Any]) -> str | None:
    """Why a study cannot be compared; None if it can, and then its item holds what the detector says of it."""
    if "error" in item:
        return item["error"]
    side, plane = tuple(evaluator.network.reconstructor.image_size), tuple(item[Keys.IMAGE].shape[1:3])
    if plane != side:
        return f"its slices have {plane[0]} x {plane[1]} pixels, the graph's {side[0]} x {side[1]}"
    if evaluator.network.calibration.group_names and evaluator.group_of(item) != evaluator.study_group:
        return f"it is of the calibration group {evaluator.group_of(item)}"
    evaluator.detect([item])
    return item.get("error")


def tolerances_of(map_head: nn.Module) -> dict[str, float]:
    """What is allowed of map and score, relative, and of the reconstruction.

    Adaptive equalisation counts grey levels in small tiles: where the last bit of a pixel moves it to the next level,
    its neighbours change by a count. The exported equalisation itself is exact (equal on all of 62 chest films); its
    input is not. Noise of 1e-6 on these films changes 15 of them, by up to 0.03 of [0, 1], in PyTorch too, noise of
    1e-7 none, and onnxruntime's reconstructions are up to 2e-6 off: 4.8 % of a map's maximum and 0.7 % of the score at
    most (618 chest films, ra_chest).
    """
    equalised = getattr(map_head, "residual", None) == "clahe" or getattr(map_head, "perceptual_clahe", False)
    return {"map": 0.1 if equalised else 1e-3, "score": 0.02 if equalised else 1e-4, "reconstruction": 1e-4}


def table(report: Mapping[str, Any]) -> str:
    """A few lines for the terminal."""
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
    """The larger one; what is not a number is infinitely far."""
    return max(before, math.inf if math.isnan(now) else float(now))


def number(value: float) -> float | None:
    """For JSON, which has no infinity."""
    return value if math.isfinite(value) else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Times that can be compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
