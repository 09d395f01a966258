"""What to try next: each rule speaks where it applies, and only there."""

from __future__ import annotations

import pytest
from trainings import history

from custom.reporting.training_advice import advice
from custom.reporting.training_history import FittedStatistics

ENOUGH = {"training": 100, "validation": 40, "calibration": 50}
GOOD = {2: (0.8, 9.0), 4: (0.9, 7.0), 6: (0.88, 7.5)}


def of(validations, healthy=ENOUGH, settings=None, finished: bool = True, **rest) -> str:
    return "\n".join(advice(history(validations, **rest), healthy, settings or {}, finished))


def test_training_without_a_fault_goes_on_to_calibration() -> None:
    assert of(GOOD) == "Nothing stands out. Calibrate, then evaluate on real abnormal studies."


@pytest.mark.parametrize(
    ("validations", "words"),
    [
        ({2: (0.8, 9.0), 4: (0.9, 8.0)}, "The best epoch is the last one that was validated, 4: train longer, with"),
        ({2: (0.9, 10.0), 4: (0.88, 10.5)}, "healthy error, 10, is not below that of PCA with eight components, 10"),
        ({2: (0.68, 8.0), 4: (0.69, 8.5)}, "The synthetic AUROC never exceeded 0.69. Look at the pictures"),
        ({2: (0.9, 8.0), 4: (0.95, 9.0)}, "healthy error rose from 8 at epoch 2 to 9 at the last validation"),
        ({2: (1.0, 7.0), 4: (1.0, 7.5), 6: (0.99, 7.5)}, "At 2 validations the synthetic AUROC is 1.000: the"),
    ],
)  # fmt: skip
def test_rule_of_the_curves_speaks_alone(validations, words: str) -> None:
    (sentence,) = of(validations).splitlines()
    assert words in sentence


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latent_size": 64}, "a --latent_size below 64 may help; where"),
        ({"mask_ratio": 0.75}, "a --mask_ratio above 0.75 may help; where"),
        ({}, "copies its input; where"),
    ],
)
def test_network_that_copies_its_input_is_told_its_own_parameter(settings, words: str) -> None:
    assert words in of({2: (0.6, 9.0), 4: (0.6, 9.5)}, settings=settings)


def test_adversarial_phase_that_finds_nothing_better_is_named() -> None:
    words = (
        "network is that of epoch 4, in the warm-up: no validation of the adversarial phase had a lower healthy error"
    )
    assert words in of(GOOD, warmup=4)
    assert words not in of(GOOD, warmup=2)  # its own best is chosen
    assert words not in of({2: (0.8, 9.0), 4: (0.9, 8.0)}, warmup=4)  # not validated yet


def test_reconstruction_error_that_still_falls_asks_for_more_epochs() -> None:
    falling = [100.0 * 0.95**number for number in range(20)]
    # the mean of the last two of these against the two before: 1 - 0.95^2
    assert "still falling, by 10 % in the last 2 epochs" in of({10: (0.9, 8.0), 20: (0.89, 8.5)}, losses=falling)
    assert "still falling" not in of({10: (0.9, 8.0), 20: (0.89, 8.5)}, losses=[5.0] * 20)


@pytest.mark.parametrize(
    ("healthy", "words"),
    [
        ({"validation": 9, "calibration": 50}, "Only 9 healthy validation studies: add at least 1. With fewer than 10"),
        ({"validation": 29, "calibration": 50}, "With 29 healthy validation studies small differences "),
        ({"validation": 30, "calibration": 18}, "The calibration section, on which nomaly calibrate works, has 18 "),
    ],
)  # fmt: skip
def test_small_sections_are_named_with_what_they_need(healthy, words: str) -> None:
    (sentence,) = of(GOOD, healthy).splitlines()
    assert words in sentence


def test_without_calibration_studies_the_validation_section_counts() -> None:
    assert "The validation section, on which nomaly calibrate works, has 12 healthy" in of(GOOD, {"validation": 12})


def test_running_training_is_told_about_its_data_only() -> None:
    lines = of({2: (0.6, 20.0)}, {"validation": 9, "calibration": 50}, finished=False).splitlines()
    assert (
        lines[0].startswith("Only 9 healthy")
        and lines[1].startswith("The training is still running")
        and len(lines) == 2
    )


def test_what_was_not_fitted_is_repeated_with_the_next_step() -> None:
    made = history(GOOD)
    made.fitted = FittedStatistics(0, {}, ["too few images."], 1.0)
    assert advice(made, ENOUGH, {}, True) == ["Not fitted: too few images. Then run nomaly adapt."]


def test_training_without_validation_asks_for_one() -> None:
    assert of({}, epochs=2).startswith("No epoch was validated, so that the network is the latest one")
