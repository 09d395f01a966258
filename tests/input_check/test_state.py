"""What the input check learns from healthy studies, and how it is kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from custom.calibration.state import CalibrationState
from custom.input_check.file import input_check_content, read_input_check
from custom.input_check.healthy_model import fit, held_out
from custom.input_check.state import CHECKS, MARGINS, InputCheckState, wasserstein_to

UNKNOWN = np.full(3, np.nan)


def studies(n: int, seed: int = 0, colours: bool = False) -> list[dict[str, np.ndarray]]:
    """Descriptors of n studies that differ by chance."""
    generator = np.random.default_rng(seed)
    usual, turned = generator.random(128), generator.random((7, 128))
    found = []
    for _ in range(n):
        study = {
            "histogram": np.sort(generator.random(64)),
            "edges": np.vstack([usual, turned]) + 0.05 * generator.normal(size=(8, 128)),
            "detail": generator.normal(size=10),
            "latent": generator.normal(size=32),
        }
        found.append(study | ({"colours": generator.normal(size=128)} if colours else {}))
    return found


def learned(healthy: list[dict[str, np.ndarray]], measures: np.ndarray = UNKNOWN) -> InputCheckState:
    state = InputCheckState()
    state.learn([measures] * len(healthy), healthy)
    return state


@pytest.mark.parametrize("n", [19, 60])
def test_no_study_that_was_learned_from_is_refused(n: int) -> None:
    healthy = studies(n, colours=True)
    state = learned(healthy)
    for study in healthy:
        assert all(value <= state.limit(name) for name, value in state.distances(study).items())
    assert set(state.distances(healthy[0])) == set(CHECKS)


def test_no_study_would_be_refused_by_the_model_of_the_others() -> None:
    healthy = studies(60)
    values = np.stack([study["latent"] for study in healthy])
    outside = held_out(values, lambda others, left: fit(others).distance(left))
    assert learned(healthy).limit("latent") >= MARGINS["latent"] * outside.max()


def test_far_study_is_over_the_limit_of_what_is_unlike_alone() -> None:
    healthy = studies(60)
    state = learned(healthy)
    strange = {**healthy[0], "latent": healthy[0]["latent"] + 50}
    assert [name for name, value in state.distances(strange).items() if value > state.limit(name)] == ["latent"]
    turned = {**healthy[0], "edges": healthy[0]["edges"][[2, 3, 0, 1, 6, 7, 4, 5]]}
    assert state.distances(turned)["pose"] > state.limit("pose")


def test_shifted_grey_values_are_so_far_as_they_are_shifted() -> None:
    centre = np.linspace(0, 1, 64)
    assert float(wasserstein_to(centre)(centre + 0.25)) == pytest.approx(0.25)
    assert float(wasserstein_to(centre)(0.5 * centre)) == pytest.approx(0.25)  # mean of half a ramp


def test_limits_of_few_studies_are_wider() -> None:
    healthy = studies(20)
    state, values = learned(healthy), np.stack([study["detail"] for study in healthy])
    outside = held_out(values, lambda others, left: fit(others).distance(left))
    largest = max(outside.max(), fit(values).distance(values).max())
    assert state.limit("detail") == pytest.approx(MARGINS["detail"] * largest * 50 / 20)
    assert state.limit("pose") >= 1.25


def test_too_few_studies_leave_the_spacing_alone(caplog) -> None:
    state = learned(studies(18), np.array([1.0, 2.0, 200.0]))
    assert state.is_learned and not state.limits.any() and state.distances(studies(1)[0]) == {}
    assert state.ranges.tolist() == [[1, 1], [2, 2], [200, 200]]
    assert "it needs at least 19 healthy calibration studies, got 18" in caplog.text


def test_learning_is_the_same_every_time_and_forgets_what_was_before() -> None:
    state, again = learned(studies(30)), learned(studies(40, seed=1, colours=True))
    again.learn([UNKNOWN] * 30, studies(30))
    for name, tensor in state.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("n", [0, 5, 30])
def test_state_and_file_give_back_what_they_were_made_of(n: int) -> None:
    state = learned(studies(n), np.array([0.1, np.nan, 1 / 3])) if n else InputCheckState()
    loaded = InputCheckState()
    loaded.load_state_dict(state.state_dict())
    read = read_input_check(json.loads(json.dumps(input_check_content(state), allow_nan=False)))
    for name, tensor in state.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
        assert torch.equal(read.state_dict()[name], tensor), name


def test_file_stays_small_with_many_studies() -> None:
    assert len(json.dumps(input_check_content(learned(studies(200))))) < 60_000


def test_calibration_that_is_older_than_the_gate_loads_and_leaves_it_empty() -> None:
    old = {
        name: value for name, value in CalibrationState().state_dict().items() if not name.startswith("input_check.")
    }
    state = CalibrationState()
    state.input_check.learn([UNKNOWN] * 20, studies(20))
    state.load_state_dict(old)
    assert (
        not state.input_check.is_learned
        and not state.input_check.limits.any()
        and state.input_check.latent_mean.numel() == 0
    )
    assert not read_input_check(None).is_learned


def test_part_of_a_gate_does_not_load() -> None:
    state = learned(studies(20)).state_dict()
    state.pop("limits")
    with pytest.raises(RuntimeError, match='Missing key\\(s\\) in state_dict: "limits"'):
        InputCheckState().load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limits": {}}, "'histogram'"),
        ({"arrays": {"weights": {"shape": [1], "float32": "AAAAAA=="}}}, "no unknown arrays"),
        ({"arrays": {"latent_mean": {"shape": [1], "float32": "AADAfw=="}}}, "input_check must contain finite numbers"),
        ({"arrays": {"latent_mean": {"shape": [2], "float32": "AAAAAA=="}}}, "cannot reshape array"),
    ],
    ids=["cut off", "foreign", "not a number", "another shape"],
)
def test_content_that_is_not_whole_is_refused(change: dict, message: str) -> None:
    with pytest.raises((KeyError, ValueError), match=message):
        read_input_check(input_check_content(learned(studies(20))) | change)
