"""The page about a training: training.html."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

import custom
from custom.reporting.page import RESEARCH_NOTE, write_page
from custom.reporting.training_advice import LINEAR_MODEL, advice
from custom.reporting.training_curves import epochs_svg
from custom.reporting.training_history import Epoch, TrainingHistory, Validation
from custom.reporting.wording import duration, headed, plain, size, words

SYNTHETIC_NOTE = (
    "The AUROC is of synthetic lesions that are drawn into healthy validation studies. It does not measure the "
    "detection of disease, and it does not choose the epoch: the healthy error does."
)
MODELS = {"mean_image": "mean image", "pca_8": "PCA, 8", "pca_32": "PCA, 32"}  # as they fit into a figure


@dataclass(frozen=True)
class Training:
    """What a training is, as far as its history does not tell.

    Args:
        title: of the page.
        bundle: folder of the bundle.
        dataset_dir: folder of the data set; None = the phantom.
        weights: file of the chosen network.
        max_epochs: planned number of epochs.
        settings: parameters by name.
        defaults: parameters of the bundle by name.
        sections: number of studies in each section of the data set, and how many of them are healthy.
        slices: number of training slices, or windows of a 3-D network.
        notes: warnings about the data; each becomes a banner.
        facts: further entries of the technical section.
    """

    title: str
    bundle: str
    dataset_dir: str | None
    weights: str
    max_epochs: int
    settings: Mapping[str, Any]
    defaults: Mapping[str, Any]
    sections: Mapping[str, tuple[int, int]]
    slices: int
    notes: Sequence[str]
    facts: Mapping[str, Any]

    @property
    def calibration(self) -> str:
        """The command that calibrates the trained detector."""
        root, bundle = Path(custom.__file__).resolve().parents[1], Path(self.bundle).resolve()
        shipped = bundle.parent in (root / "bundles", root / "nomaly" / "bundles")
        overlay = ["--overlay", "inference_3d"] if self.settings.get("spatial_dims") == 3 else []
        data = [] if self.dataset_dir is None else ["--dataset_dir", self.dataset_dir]
        output = str(Path(self.weights).parent / "calibration")
        words = [bundle.name if shipped else self.bundle, *overlay, *data, "--weights", self.weights]
        return shlex.join(["nomaly", "calibrate", *words, "--output", output])


def write_training_page(
    path: str | os.PathLike[str], training: Training, history: TrainingHistory, finished: bool
) -> None:
    """Write the page.

    Args:
        path: of the page; an existing one is replaced.
        training: what the training is.
        history: of at least one epoch.
        finished: whether the training has ended.

    Raises:
        NomalyError: the file cannot be written.
    """
    chosen = history.chosen
    healthy = {name: number for name, (_, number) in training.sections.items()}
    write_page(
        path,
        "training.html.jinja",
        title=training.title,
        summary=training_sentence(history, training.max_epochs, finished),
        banners=[*training.notes, SYNTHETIC_NOTE, RESEARCH_NOTE],
        advice=advice(history, healthy, training.settings, finished),
        cards=_cards(history, training.max_epochs),
        plots=_validation_plots(history),
        losses=_loss_plots(history.epochs),
        phased=bool(_phase_ends(history.epochs)),
        columns=picture_columns(history),
        studies=_pictures(history),
        fitted=history.fitted,
        calibration=training.calibration,
        changed=changed_settings(training.settings, training.defaults),
        facts=_facts(training, history),
        chosen=None if chosen is None else chosen[0],
        headed=headed,
        plain=plain,
        size=size,
        version=custom.__version__,
    )


def training_sentence(history: TrainingHistory, max_epochs: int, finished: bool) -> str:
    """State and result of a training in words."""
    last = history.epochs[-1].epoch
    taken = duration(total_seconds(history))
    if not finished:
        fitting = " The comparison with healthy studies is fitted." if last >= max_epochs else ""
        state = f"Running: {last} of {max_epochs} epochs in {taken}.{fitting}"
    else:
        early = f" of {max_epochs}, ended early," if last < max_epochs else ""
        state = f"Finished: {last} epochs{early} in {taken}."
    if history.chosen is None:
        return f"{state} No epoch was validated yet."
    number, best = history.chosen
    linear = best.references.get(LINEAR_MODEL)
    reference = "" if linear is None else f" (PCA with eight components: {linear:.3g})"
    return (
        f"{state} Best is the network of epoch {number}: healthy error {best.healthy_error:.3g}"
        f"{reference}, synthetic AUROC {best.auroc:.3f}."
    )


def total_seconds(history: TrainingHistory) -> float:
    """Duration of all epochs, validations and the fit of the statistics."""
    seconds = sum(epoch.seconds for epoch in history.epochs)
    seconds += sum(validation.seconds for _, validation in history.validated)
    return seconds + (history.fitted.seconds if history.fitted else 0.0)


def changed_settings(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and default of the parameters that differ from the bundle's, except those that an expression sets."""
    return [
        (name, plain(value), plain(defaults.get(name, "not in the bundle's config")))
        for name, value in settings.items()
        if value != defaults.get(name) and not str(defaults.get(name)).startswith(("$", "@"))
    ]


def picture_columns(history: TrainingHistory) -> list[tuple[int, str]]:
    """Validated epochs of which pictures are shown, with what they are: first, middle, chosen and last."""
    numbers = [number for number, validation in history.validated if validation.pictures]
    if not numbers or history.chosen is None:
        return []
    roles = {numbers[0]: "first", numbers[len(numbers) // 2]: "", numbers[-1]: "last", history.chosen[0]: "chosen"}
    return sorted(roles.items())


def _pictures(history: TrainingHistory) -> list[dict[str, Any]]:
    """For each study: title, its input, and for each column pseudo-healthy image and map."""
    columns = [number for number, _ in picture_columns(history)]
    if not columns or history.chosen is None:
        return []
    shown = {number: validation.pictures for number, validation in history.validated if number in columns}
    scale = max(picture.peak for picture in shown[history.chosen[0]])
    rows, healthy = [], 0
    for index, first in enumerate(shown[columns[0]]):
        healthy += first.lesion is None
        title = f"Healthy study {healthy}" if first.lesion is None else f"Synthetic lesion: {words(first.lesion)}"
        pictures = [shown[number][index] for number in columns]
        cells = [(picture.healthy, picture.map_over_image(scale)) for picture in pictures]
        rows.append({"title": title, "image": first.image, "marked": first.marked, "cells": cells})
    return rows


def _cards(history: TrainingHistory, max_epochs: int) -> list[tuple[str, str, str]]:
    """Key figures: name, value, remark."""
    speeds = [epoch.images / epoch.seconds for epoch in history.epochs if epoch.seconds > 0]
    speed = f"{median(speeds):,.0f}".replace(",", " ") if speeds else "–"
    each = duration(median(epoch.seconds for epoch in history.epochs))
    time = [("Time", duration(total_seconds(history)), f"{each} per epoch, without validation")]
    time += [("Images per second", speed, "Training, median over the epochs")]
    epochs = f"{history.epochs[-1].epoch} of {max_epochs} epochs trained, {len(history.validated)} validated"
    if history.chosen is None:
        return [("Chosen epoch", "–", epochs), *time]
    number, best = history.chosen
    return [
        ("Chosen epoch", str(number), epochs),
        ("Synthetic AUROC", f"{best.auroc:.3f}", "At the chosen epoch; 0.5 is chance"),
        ("Healthy error", f"{best.healthy_error:.3g}", _reference_remark(best)),
        *time,
    ]


def _reference_remark(validation: Validation) -> str:
    """The errors of the simple models in words."""
    known = [f"{MODELS.get(name, words(name))}: {error:.3g}" for name, error in validation.references.items()]
    return "; ".join(known) or "Smaller is better"


def _validation_plots(history: TrainingHistory) -> list[tuple[str, Markup]]:
    """Title and figure of what each validation measures."""
    if history.chosen is None:
        return []
    number, best = history.chosen
    marks: dict[str, Any] = {"chosen": number, "phases": _phase_ends(history.epochs)}
    aurocs = [(epoch, found.auroc) for epoch, found in history.validated]
    errors = [(epoch, found.healthy_error) for epoch, found in history.validated]
    levels = {MODELS.get(name, words(name)): error for name, error in best.references.items()}
    lowest = min(0.5, *(value for _, value in aurocs))
    return [
        ("Synthetic AUROC", epochs_svg("Synthetic AUROC", aurocs, span=(lowest, 1.0), **marks)),
        ("Healthy error", epochs_svg("Healthy error", errors, levels=levels, **marks)),
    ]


def _loss_plots(epochs: Sequence[Epoch]) -> list[tuple[str, Markup]]:
    """Title and figure of each loss term, and of the learning rate."""
    names = dict.fromkeys(name for epoch in epochs for name in epoch.losses)
    phases = _phase_ends(epochs)
    series = {headed(name): [(e.epoch, e.losses[name]) for e in epochs if name in e.losses] for name in names}
    series["Learning rate"] = [(epoch.epoch, epoch.learning_rate) for epoch in epochs]
    return [(name, epochs_svg(name, points, phases=_within(phases, points))) for name, points in series.items()]


def _within(phases: Sequence[int], points: Sequence[tuple[int, float]]) -> list[int]:
    """Phases that end within a curve."""
    return [end for end in phases if points[0][0] <= end < points[-1][0]]


def _phase_ends(epochs: Sequence[Epoch]) -> list[int]:
    """Last epoch of each phase but the last one."""
    return [before.epoch for before, after in zip(epochs, epochs[1:]) if before.phase != after.phase]


def _facts(training: Training, history: TrainingHistory) -> dict[str, str]:
    """The technical section."""
    sections = [
        f"{name} {number}" + (f", of which {number - healthy} abnormal" if healthy < number else "")
        for name, (number, healthy) in training.sections.items()
    ]
    validations = [validation.seconds for _, validation in history.validated]
    return {
        "Data set": training.dataset_dir or "synthetic phantom",
        "Studies": "; ".join(sections),
        "Training images": str(training.slices),
        "Time": f"training {duration(sum(epoch.seconds for epoch in history.epochs))}, validation "
        f"{duration(sum(validations))}"
        + (f", statistics {duration(history.fitted.seconds)}" if history.fitted else ""),
        "Weights": training.weights,
        **{headed(name): plain(value) for name, value in training.facts.items()},
    }
