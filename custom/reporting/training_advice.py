"""What to try next after a training: sentences that follow from its curves and its data by fixed rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from custom.calibration.conformal import minimum_n
from custom.reporting.training_history import Epoch, TrainingHistory
from custom.scoring.part_statistics import MINIMUM

LOW_AUROC = 0.7  # below it, most synthetic lesions are not told from healthy studies
RISE = 1.1  # of the healthy error after the chosen epoch, from which later epochs made the network worse
FEW_STUDIES = 30  # healthy validation studies, with fewer of which the figures of an epoch are uncertain
STILL_FALLING = 0.97  # of the reconstruction error in the last tenth of the epochs against the tenth before
PHASES = {"introspective": "adversarial phase"}
PERFECT = 0.9995
ALPHA = 0.05
LINEAR_MODEL = "pca_8"


def advice(
    history: TrainingHistory, healthy: Mapping[str, int], settings: Mapping[str, Any], finished: bool
) -> list[str]:
    """Sentences, the most important ones first; one that nothing stands out if no rule applies.

    Args:
        history: of the training.
        healthy: number of healthy studies in each section of the data set.
        settings: parameters of the training by name.
        finished: whether the training has ended; before, only the data are looked at.
    """
    found = list(_of_data(history, healthy))
    if not finished:
        return [*found, "The training is still running: what follows from its curves is listed at its end."]
    if history.chosen is None:
        return [*found, "No epoch was validated, so that the network is the latest one: give a lower --val_interval."]
    found = [*_of_curves(history, settings), *_of_losses(history.epochs), *found]
    return found or ["Nothing stands out. Calibrate, then evaluate on real abnormal studies."]


def _of_curves(history: TrainingHistory, settings: Mapping[str, Any]) -> Iterator[str]:
    """What the validations say."""
    assert history.chosen is not None
    number, best = history.chosen
    validated = history.validated
    linear = best.references.get(LINEAR_MODEL)
    if linear is not None and best.healthy_error >= linear:
        yield (
            f"At the chosen epoch the healthy error, {best.healthy_error:.3g}, is not below that of PCA with eight "
            f"components, {linear:.3g}: the network has learned little. Train longer, or with more healthy studies."
        )
    highest = max(validation.auroc for _, validation in validated)
    if highest < LOW_AUROC:
        yield (
            f"The synthetic AUROC never exceeded {highest:.2f}. Look at the pictures: where the pseudo-healthy "
            f"image still shows the lesion, the network copies its input{_narrower(settings)}; where it is blurred, "
            "train longer."
        )
    if len(validated) > 1 and number == validated[-1][0]:
        yield (
            f"The best epoch is the last one that was validated, {number}: train longer, with --max_epochs "
            f"{2 * history.epochs[-1].epoch}. The same command with it resumes this training."
        )
    phases = {epoch.epoch: epoch.phase for epoch in history.epochs}
    later = [each for each, _ in validated if phases[each] != phases.get(number)]
    last = validated[-1][1].healthy_error
    if later and number < min(later):
        yield (
            f"The chosen network is that of epoch {number}, in the {_phase(phases[number])}: no validation of the "
            f"{_phase(phases[later[0]])} had a lower healthy error, which is usual. Evaluate both if it matters."
        )
    elif last > RISE * best.healthy_error:
        yield (
            f"The healthy error rose from {best.healthy_error:.3g} at epoch {number} to {last:.3g} at the last "
            "validation: later epochs made the network worse. --patience 3 ends such a training early."
        )
    perfect = sum(validation.auroc >= PERFECT for _, validation in validated)
    if perfect > 1:
        yield (
            f"At {perfect} validations the synthetic AUROC is 1.000: the synthetic lesions are too easy to tell "
            "networks apart. Evaluate on real abnormal studies."
        )


def _of_losses(epochs: Sequence[Epoch]) -> Iterator[str]:
    """What the losses of the last phase say."""
    errors = [epoch.losses.get("reconstruction") for epoch in epochs if epoch.phase == epochs[-1].phase]
    known = [error for error in errors if error is not None]
    tenth = len(known) // 10
    if tenth >= 2 and fmean(known[-tenth:]) < STILL_FALLING * fmean(known[-2 * tenth : -tenth]):
        change = 1 - fmean(known[-tenth:]) / fmean(known[-2 * tenth : -tenth])
        fall = f"by {100 * change:.0f} % in the last {tenth} epochs"
        yield f"The reconstruction error is still falling, {fall}: train longer."


def _of_data(history: TrainingHistory, healthy: Mapping[str, int]) -> Iterator[str]:
    """What the numbers of studies say."""
    studies = healthy.get("validation", 0)
    if studies < MINIMUM:
        yield (
            f"Only {studies} healthy validation studies: add at least {MINIMUM - studies}. With fewer than {MINIMUM} "
            "the parts of the score are not standardised, and the chosen epoch is left to chance."
        )
    elif studies < FEW_STUDIES:
        yield (
            f"With {studies} healthy validation studies small differences between epochs are chance: {FEW_STUDIES} or "
            "more choose better."
        )
    needed, section = minimum_n(ALPHA), "calibration" if healthy.get("calibration") else "validation"
    if healthy.get(section, 0) < needed:
        yield (
            f"The {section} section, on which nomaly calibrate works, has {healthy.get(section, 0)} healthy studies: "
            f"{needed} are needed to flag anything at a false-alarm rate of {100 * ALPHA:g} %."
        )
    for reason in history.fitted.missing if history.fitted else ():
        yield f"Not fitted: {reason} Then run nomaly adapt."


def _phase(name: str | None) -> str:
    return PHASES.get(str(name), str(name))


def _narrower(settings: Mapping[str, Any]) -> str:
    """How to keep a network from copying its input."""
    if "latent_size" in settings:
        return f", and a --latent_size below {settings['latent_size']} may help"
    return f", and a --mask_ratio above {settings['mask_ratio']} may help" if "mask_ratio" in settings else ""
