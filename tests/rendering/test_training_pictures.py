"""Pictures of a validation study that are kept during a training: the slice, the lesion, the map with its scale."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from custom.rendering.training_pictures import SIDE, StudyPicture, study_picture


def study(side: int = 16, slices: int = 5, channels: int = 1) -> dict:
    """A grey volume whose pseudo-healthy image is darker; the map is 0.5 in the first column of each slice."""
    shape = (side, side, slices)
    anomaly_map = torch.zeros(1, *shape)
    anomaly_map[:, 0] = 0.5
    image, healthy = torch.full((channels, *shape), 0.6), torch.full((channels, *shape), 0.2)
    return {"image": image, "reconstruction": healthy, "pred": anomaly_map, "label": 0}


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)


def test_pictures_show_image_and_pseudo_healthy_image_in_their_grey() -> None:
    picture = study_picture(study())
    assert (picture.lesion, picture.marked, picture.peak, picture.palette) == (None, None, 0.5, "grey")
    assert np.abs(pixels(picture.image) - 0.6 * 255).max() <= 3
    assert np.abs(pixels(picture.healthy) - 0.2 * 255).max() <= 3


def test_map_takes_the_colours_of_the_scale_that_is_given() -> None:
    picture = study_picture(study())
    strong, weak = (pixels(picture.map_over_image(vmax))[8, 0] for vmax in (0.5, 50.0))
    assert strong[0] > 200 > strong[2]  # the last colour, bright yellow
    assert np.abs(weak - 0.6 * 255).max() <= 4  # below a tenth of the scale the map is transparent
    assert np.abs(pixels(picture.map_over_image(0.5))[8, 12] - 0.6 * 255).max() <= 4


def test_lesion_is_outlined_in_the_slice_that_has_most_of_it() -> None:
    item = {**study(), "label": 1, "group": "opacity", "mask": torch.zeros(1, 16, 16, 5)}
    item["mask"][0, 4:10, 4:12, 3] = 1
    item["mask"][0, 0, 0, 2] = 1
    item["image"][..., 3] = 0.9
    picture = study_picture(item)
    assert picture.lesion == "opacity"
    changed = np.abs(pixels(picture.marked) - 0.9 * 255).max(-1) > 60  # (rows, columns)
    assert changed[8, 3] and not changed[8, 7] and not changed[1].any()


def test_large_images_are_reduced_and_colours_kept() -> None:
    picture = study_picture(study(side=2 * SIDE, slices=1, channels=3))
    assert pixels(picture.image).shape == (SIDE, SIDE, 3) and picture.palette == "colour"


def test_map_without_any_value_can_be_drawn() -> None:
    item = study()
    item["pred"] = torch.full((1, 16, 16, 5), float("nan"))
    assert pixels(study_picture(item).map_over_image(1e-8)).shape == (16, 16, 3)


def test_picture_survives_json() -> None:
    picture = study_picture(study())
    assert StudyPicture(**json.loads(json.dumps(asdict(picture)))) == picture
    assert len(json.dumps(asdict(picture))) == pytest.approx(700, abs=500)  # a flat picture is small
