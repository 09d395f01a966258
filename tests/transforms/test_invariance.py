"""A positive affine change of the intensities, and the way in which they are stored, change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image

from custom.commands.bundle import BUNDLES
from custom.runs.source_geometry import source_arrays, to_source
from dicom import write_film

FILMS = ("ra_chest", "ra_wrist", "memmc_pneumonia", "memmc_covid")
CHANGES = [(1, -1024), (1, 4000), (1, 32768), (0.25, 0), (3, -70), (16, 32768), (0.1, 1000)]


def preparation(bundle: str) -> Compose:
    """The preprocessing of a bundle, as shipped."""
    parser = ConfigParser(ConfigParser.load_config_file(str(BUNDLES / bundle / "configs" / "inference.json")))
    return parser.get_parsed_content("preprocessing")


def film(width: int = 150, height: int = 210) -> np.ndarray:
    """A film (X, Y) of 12 bits whose lowest value is not at its border and not 0."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height), indexing="ij")
    noise = np.random.default_rng(0).normal(0, 40, x.shape)
    return np.clip(1500 + 900 * np.cos(3 * x) * y + noise - 1200 * (x**2 + y**2 < 0.1), 130, 4000).round()


def prepared(bundle: str, path: Path) -> MetaTensor:
    """An image as given to the network."""
    return preparation(bundle)({"image": str(path)})["image"]


def save_nifti(path: Path, values: np.ndarray, step: float) -> Path:
    affine = np.diag([-step, -step, step, 1.0])
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), path)
    return path


@pytest.fixture
def study(head_array) -> Callable[[str], tuple[np.ndarray, float]]:
    """Values and voxel size of an image for a bundle; the head's square leaves its image."""

    def make(bundle: str) -> tuple[np.ndarray, float]:
        head = np.round(16 * head_array(shape=(110, 124, 100), centre=(38, 62, 46), radii=(42, 54, 48)))
        return (head, 1.9) if bundle == "ra_brain" else (film()[..., None], 1.0)

    return make


@pytest.mark.parametrize("bundle", ["ra_brain", *FILMS])
def test_affine_change_of_the_intensities_changes_nothing(bundle: str, study, tmp_path: Path) -> None:
    values, step = study(bundle)
    plain = prepared(bundle, save_nifti(tmp_path / "plain.nii", values, step))
    for slope, constant in CHANGES:
        other = prepared(bundle, save_nifti(tmp_path / "other.nii", slope * values + constant, step))
        torch.testing.assert_close(other.as_tensor(), plain.as_tensor(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("bundle", ["ra_brain", *FILMS])
def test_pseudo_healthy_image_has_the_intensities_of_its_file_and_the_map_has_none(bundle, study, tmp_path) -> None:
    values, step = study(bundle)
    found = []
    for slope, constant in ((1, 0), (2, -1024), (1, 32768)):
        image = prepared(bundle, save_nifti(tmp_path / "study.nii", slope * values + constant, step))
        arrays = source_arrays(image, {"pseudo_healthy": image.as_tensor(), "map": image.as_tensor()})
        found.append(((arrays["pseudo_healthy"] - constant) / slope, arrays["map"]))
        outside = to_source(torch.ones(1, *image.shape[1:]), image, "nearest") == 0
        np.testing.assert_allclose(arrays["pseudo_healthy"][outside], slope * values.min() + constant)
        assert not arrays["map"][outside].any()
    for intensities, anomaly_map in found[1:]:
        np.testing.assert_allclose(intensities, found[0][0], atol=0.1)
        np.testing.assert_allclose(anomaly_map, found[0][1], atol=2e-5)


def film_files(folder: Path) -> list[Path]:
    """One film as MONOCHROME2 and MONOCHROME1, signed and unsigned, with offsets in the pixels and in the header."""
    pixels = film().astype(np.int32)
    negative = 4095 - pixels
    return [
        write_film(folder / "plain.dcm", pixels.astype(np.uint16), 12),
        write_film(folder / "signed.dcm", pixels.astype(np.int16), 13),
        write_film(folder / "below_zero.dcm", (pixels - 2048).astype(np.int16), 12),
        write_film(folder / "offset.dcm", (pixels + 32768).astype(np.uint16), 16),
        write_film(folder / "intercept.dcm", pixels.astype(np.uint16), 12, RescaleSlope="1", RescaleIntercept="-1024"),
        write_film(folder / "slope.dcm", pixels.astype(np.uint16), 12, RescaleSlope="0.5", RescaleIntercept="7"),
        *(
            write_film(folder / f"{name}.dcm", stored, bits, PhotometricInterpretation="MONOCHROME1", **tags)
            for name, stored, bits, tags in (
                ("negative", negative.astype(np.uint16), 12, {}),
                ("negative_signed", negative.astype(np.int16), 13, {}),
                ("negative_below_zero", (negative - 2048).astype(np.int16), 12, {}),
                (
                    "negative_rescaled",
                    negative.astype(np.uint16),
                    12,
                    {"RescaleSlope": "2", "RescaleIntercept": "-1024"},
                ),
            )
        ),
    ]


@pytest.mark.parametrize("bundle", FILMS)
def test_polarity_sign_and_offset_of_stored_pixels_change_nothing(bundle: str, tmp_path: Path) -> None:
    plain, *others = film_files(tmp_path)
    wanted = prepared(bundle, plain)
    for path in others:
        found = prepared(bundle, path)
        torch.testing.assert_close(found.as_tensor(), wanted.as_tensor(), rtol=0, atol=2e-5, msg=path.name)


def test_polarity_sign_and_offset_of_stored_pixels_leave_score_p_value_and_decision(nomaly, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    film_files(tmp_path / "films")
    output = tmp_path / "results"
    nomaly("detect", "ra_chest", tmp_path / "films", "--output", output, write_images=False, input_check=False)
    rows = [line.split(",") for line in (output / "results.csv").read_text().splitlines()]
    names, rows = rows[0], rows[1:]
    columns = {name: [row[names.index(name)] for row in rows] for name in ("status", "score", "p_value", "decision")}
    assert len(rows) == 10 and set(columns["status"]) == {"ok"}
    assert len(set(columns["p_value"])) == len(set(columns["decision"])) == 1 and columns["p_value"][0]
    scores = [float(score) for score in columns["score"]]
    assert scores == pytest.approx([scores[0]] * 10, abs=1e-3)  # in standard deviations


def test_black_of_eight_bit_image_files_is_zero_whatever_their_lowest_value(save_picture) -> None:
    pixels = (film() / 20).astype(np.uint8).T  # 6 to 200
    image = prepared("ra_chest", save_picture(pixels))
    assert image.meta["eight_bit"] and image.meta["intensity_lowest"] == 0
    sixteen = prepared("ra_chest", save_picture(pixels.astype(np.uint16) * 257, name="sixteen.png"))
    assert not sixteen.meta["eight_bit"] and sixteen.meta["intensity_lowest"] == 257 * int(pixels.min())


def test_frames_keep_their_fixed_range(tmp_path: Path) -> None:
    """Colour frames mean the same in every study: an equal image that is darker is another image."""
    frame = np.random.default_rng(0).integers(60, 200, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    Image.fromarray(frame - 50).save(tmp_path / "darker.png")
    plain, darker = (prepared("memmc_colonoscopy", tmp_path / f"{name}.png") for name in ("frame", "darker"))
    torch.testing.assert_close(plain.as_tensor() - darker.as_tensor(), torch.full(plain.shape, 50 / 255))
