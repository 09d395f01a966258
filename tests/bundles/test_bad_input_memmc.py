"""What a user can get wrong with a MemMC-MAE bundle, through the command line: exit code, sentence, nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from custom.runs.tables import StudyResult, read_results_csv

FRAMES, FILMS = "memmc_colonoscopy", "memmc_pneumonia"


def says(outcome, code: int, *phrases: str) -> None:
    """A command ended with this code, and its last line, which names the software, has these phrases."""
    last = outcome.err.strip().splitlines()[-1] if outcome.err.strip() else ""
    assert outcome.code == code, outcome.err
    assert [phrase for phrase in phrases if phrase not in last] == [], last
    assert last.startswith("nomaly: ") and "Traceback" not in outcome.err


def converted(source: Path, target: Path, mode: str | None = None, size: tuple[int, int] | None = None) -> Path:
    """A copy of a picture in another mode or size."""
    with Image.open(source) as picture:
        picture.convert(mode or picture.mode).resize(size or picture.size).save(target)
    return target


@pytest.fixture
def detect(nomaly, trained, tiny_network, tmp_path: Path) -> Callable[..., tuple]:
    """Detect on studies into tmp_path/results: the outcome and its rows."""

    def run(bundle: str, *studies: Path, **parameters) -> tuple:
        words = ("--output", tmp_path / "results")
        weights = {"weights": trained(bundle) / "models" / "model.pt"}
        done = nomaly("detect", bundle, *studies, *words, **tiny_network(bundle) | weights | parameters)
        table = tmp_path / "results" / "results.csv"
        return done, read_results_csv(table) if table.exists() else []

    return run


# Settings


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"image_size": 36},
            "patch_size must divide image_size along each axis, got [8, 8] for [36, 36]: choose an image_size that is "
            "a multiple of patch_size.",
        ),
        ({"mask_ratio": 0}, "mask_ratio must be in (0, 1), got 0: 0.75 masks three patches of four."),
        ({"mask_ratio": 1.2}, "mask_ratio must be in (0, 1), got 1.2: 0.75 masks three patches of four."),
        (
            {"masks": 6},
            "masks must be a multiple of 4, so that each of 16 patches is masked equally often when a mask leaves 4 "
            "visible, got 6: use 8, or another mask_ratio.",
        ),
        (
            {"levels": 3},
            "levels must be from 0 to the encoder's depth 2, or null for all, got 3.",
        ),
        ({"masks_per_pass": 0}, "masks_per_pass must be >= 1, or null for all masks at once, got 0."),
        ({"score_mode": "median"}, "score_mode must be one of fused, top_q, mean, max, ms_ssim, got 'median'."),
        ({"anatomy": "knee"}, "anatomy must be one of head, colon, chest, wrist, got 'knee'."),
        ({"lesion_groups": ["polyp"]}, "groups must be some of consolidation, ground_glass,"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "refused",
)
def test_setting_out_of_range_is_refused_before_the_training(
    parameters: dict, message: str, train_tiny, tiny_data, tmp_path: Path
) -> None:
    says(train_tiny(FILMS, tiny_data(FILMS), tmp_path / "run", **parameters), 2, message)
    assert not (tmp_path / "run" / "models").exists()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"crop_margin": [0.5, 0, 0.5, 0]}, "crop_margin must be the fractions (left, top, right, bottom) to crop"),
        ({"source_range": [255, 0]}, "source_range must be (low, high) with low < high, or null for percentiles"),
        ({"frame_size": 20}, "each side of a slice must have at least the window's 32 pixels, got 20"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "refused",
)
def test_preparation_of_frames_that_cannot_be_is_refused(
    parameters: dict, message: str, train_tiny, tiny_data, tmp_path: Path
) -> None:
    says(train_tiny(FRAMES, tiny_data(FRAMES), tmp_path / "run", **parameters), 2, message)
    assert not (tmp_path / "run" / "models").exists()


# Studies


@pytest.mark.parametrize(
    ("bundle", "mode", "reason"),
    [
        (FRAMES, "L", "the image must be colour (3 channels), but it is grey (1 channel)"),
        (FILMS, "RGB", "the image must be grey (1 channel), but it is colour (3 channels)"),
    ],
)
def test_picture_of_the_wrong_kind_fails_alone(
    bundle: str, mode: str, reason: str, detect, tiny_data, tmp_path: Path
) -> None:
    other = FILMS if bundle == FRAMES else FRAMES
    wrong = converted(tiny_data(other) / "images" / "healthy_000.png", tmp_path / "wrong.png", mode)
    right = [tiny_data(bundle) / "images" / f"healthy_00{number}.png" for number in (0, 1)]
    done, rows = detect(bundle, right[0], wrong, right[1])
    assert (done.code, [row.status for row in rows]) == (1, ["ok", "failed", "ok"])
    assert rows[1].error.startswith(f"Study {wrong}: {reason}") and "Use a model made for such images" in rows[1].error
    assert f"Study wrong failed: {rows[1].error}" in done.err and "Traceback" not in done.err


def test_grey_film_that_is_stored_in_colour_is_taken(detect, tiny_data, tmp_path: Path) -> None:
    film = converted(tiny_data(FILMS) / "images" / "healthy_000.png", tmp_path / "stored.png", "RGB")
    done, rows = detect(FILMS, film, tiny_data(FILMS) / "images" / "healthy_000.png")
    assert done.code == 0 and rows[0].score == rows[1].score


def check_failed(rows: list[StudyResult], done, reason: str) -> None:
    """One study failed for this reason, the next one went well."""
    assert (done.code, [row.status for row in rows]) == (1, ["failed", "ok"])
    assert reason in rows[0].error and reason in done.err and "Traceback" not in done.err


def test_frame_smaller_than_the_window_fails_alone(detect, tiny_data, tmp_path: Path) -> None:
    frame = tiny_data(FRAMES) / "images" / "healthy_000.png"
    small = converted(frame, tmp_path / "small.png", size=(40, 31))
    done, rows = detect(FRAMES, small, frame)
    check_failed(rows, done, "each in-plane side must have at least min_size = 32 pixels, but the plane is 40 x 31")


def test_frame_that_its_margin_makes_smaller_than_the_window_fails_alone(detect, tiny_data, tmp_path: Path) -> None:
    frame = tiny_data(FRAMES) / "images" / "healthy_000.png"
    large = converted(frame, tmp_path / "large.png", size=(64, 64))
    done, rows = detect(FRAMES, frame, large, crop_margin=[0.1, 0, 0, 0])
    reason = "each side of a slice must have at least the window's [32, 32] pixels, got [29, 32]: crop less"
    check_failed(rows, done, reason)


# Weights


def test_run_of_another_patch_size_is_not_continued(train_tiny, trained, tiny_data, tmp_path: Path) -> None:
    models = Path(shutil.copytree(trained(FILMS) / "models", tmp_path / "run" / "models"))
    before = {path.name: path.read_bytes() for path in models.iterdir()}
    done = train_tiny(FILMS, tiny_data(FILMS), models.parent, max_epochs=3, patch_size=16)
    says(done, 2, f"{models}/checkpoint.pt were made with other parameters: patch_size is 8, not 16. Use")
    assert {path.name: path.read_bytes() for path in models.iterdir()} == before


def test_weights_of_another_patch_size_are_refused(detect, tiny_data) -> None:
    done, rows = detect(FILMS, tiny_data(FILMS) / "images" / "healthy_000.png", patch_size=16)
    says(done, 2, "model.pt were made with other parameters: patch_size is 8, not 16. Use the overlays")
    assert rows == []


def test_weights_of_another_score_judge_nothing(detect, tiny_data) -> None:
    done, rows = detect(FILMS, tiny_data(FILMS) / "images" / "healthy_000.png", sigma=3.0)
    assert done.code == 0 and rows[0].score is not None and (rows[0].p_value, rows[0].decision) == (None, None)
