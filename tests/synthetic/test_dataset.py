from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage, Orientation
from PIL import Image

from custom.errors import NomalyError
from custom.studies.datalist import load_datalist
from custom.synthetic.dataset import dataset_or_phantom, is_phantom, make_phantom
from custom.synthetic.head import head_volume

SMALL = {"shape": (36, 44, 28), "spacing": (4.9, 4.8, 6.0)}
FEW = {
    "num_training": 2,
    "num_validation": 1,
    "num_calibration": 0,
    "num_test_healthy": 1,
    "num_test_abnormal": 8,
    **SMALL,
    "seed": 3,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_phantom(tmp_path_factory.mktemp("phantom") / "heads", "head", **FEW)


def test_equal_seeds_give_equal_heads_and_others_differ():
    first, again, other = (head_volume(seed, **SMALL) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.05


def test_head_has_shape_type_and_layers_from_outside_in():
    volume = head_volume(0)
    assert volume.shape == (1, 80, 96, 56) and volume.dtype == np.float32 and volume.min() >= 0
    heads = [head_volume(seed)[0] for seed in range(4)]
    # along the ray from the middle to the left ear: fat, skull, brain; 60 mm below the top
    for head in heads:
        top = np.flatnonzero((head > 0.15).sum(axis=(0, 1)) > 20).max()
        ray = head[40:, 48, top - 20]
        outside = np.flatnonzero(ray > 0.35).max()
        assert ray[outside - 2 : outside + 1].max() > 0.45  # scalp
        assert ray[outside - 8 : outside - 1].min() < 0.3  # skull and fluid
        assert np.median(ray[8 : outside - 10]) > 0.45  # brain tissue
        assert ray[outside + 3 :].max(initial=0.0) < 0.2  # air


def test_ventricles_are_dark_and_paired_in_the_slab():
    for seed in range(4):
        head = head_volume(seed)[0]
        top = np.flatnonzero((head > 0.15).sum(axis=(0, 1)) > 20).max()
        middle = head[28:52, 38:58, top - 21]
        dark = middle < 0.5 * np.median(head[20:60, 30:66, top - 21])
        assert dark[:12].sum() >= 3 and dark[12:].sum() >= 3


def test_heads_of_different_seeds_vary_in_size_and_ventricles():
    areas = [(head_volume(seed, **SMALL)[0, :, :, 12] > 0.2).sum() for seed in range(6)]
    assert np.std(areas) / np.mean(areas) > 0.02


def test_grid_too_small_for_a_head_is_rejected():
    with pytest.raises(NomalyError, match="shape x spacing must cover at least"):
        head_volume(0, shape=(32, 32, 32), spacing=(1.0, 1.0, 1.0))


def test_written_data_set_passes_the_datalist_checks(dataset):
    sections = load_datalist(dataset)
    assert [len(sections[name]) for name in ("training", "validation", "test")] == [2, 1, 9]
    groups = [item["group"] for item in sections["test"] if item["label"]]
    assert len(set(groups)) == 8
    assert all("mask" in item for item in sections["test"] if item["label"])


def test_images_are_int16_magnitudes_that_load_as_lps(dataset):
    path = load_datalist(dataset)["training"][0]["image"]
    stored = nib.load(path)
    assert stored.get_data_dtype() == np.int16 and nib.aff2axcodes(stored.affine) == ("L", "P", "S")
    array = np.asarray(stored.dataobj)
    assert 500 < array.max() <= 1000 and array.min() >= 0
    loaded = LoadImage(image_only=True, ensure_channel_first=True)(path)
    np.testing.assert_array_equal(Orientation("LPS", labels=None)(loaded)[0].numpy(), array)


def test_masks_mark_a_lesion_inside_the_slab(dataset):
    for item in load_datalist(dataset)["test"]:
        if item["label"]:
            mask = np.asarray(nib.load(item["mask"]).dataobj)
            assert set(np.unique(mask)) == {0, 1}
            # vertex 5-11 mm below the top (z = 27), slab 45-75 mm below it, six millimetres a slice
            assert mask[:, :, 27 - 15 : 27 - 7].any(), item["case"]


def test_unseen_study_is_oblique_anisotropic_and_unlisted(dataset):
    image = nib.load(Path(dataset) / "unseen" / "head_with_lesion.nii.gz")
    mask = nib.load(Path(dataset) / "unseen" / "head_with_lesion_mask.nii.gz")
    np.testing.assert_allclose(image.header.get_zooms(), (2.0, 2.4, 3.0), rtol=1e-5)
    np.testing.assert_array_equal(image.affine, mask.affine)
    # obliquity = largest angle between a voxel axis and its nearest world axis: 12 degrees about x, 7 about z
    assert 11.9 < np.rad2deg(nib.affines.obliquity(image.affine)).max() < 14.0
    assert np.asarray(mask.dataobj).sum() > 100
    assert "unseen" not in (Path(dataset) / "datalist.json").read_text()


def test_same_parameters_reuse_and_others_are_rejected(dataset):
    before = (Path(dataset) / "datalist.json").stat().st_mtime_ns
    assert make_phantom(dataset, "head", **FEW) == dataset
    assert (Path(dataset) / "datalist.json").stat().st_mtime_ns == before
    with pytest.raises(NomalyError, match=r"is a phantom with other parameters \(seed\)"):
        make_phantom(dataset, "head", **{**FEW, "seed": 4})


def test_same_seed_writes_the_same_voxels_again(dataset, tmp_path):
    again = make_phantom(tmp_path / "again", "head", **FEW)
    for first, second in zip(load_datalist(dataset)["test"], load_datalist(again)["test"]):
        for key in {"image", "mask"} & first.keys():
            np.testing.assert_array_equal(nib.load(first[key]).dataobj, nib.load(second[key]).dataobj)


def test_folder_with_other_content_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(NomalyError, match="must be new, empty or a phantom"):
        make_phantom(tmp_path, "head", **FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_failed_build_leaves_no_folder_behind(tmp_path):
    with pytest.raises(NomalyError, match="shape x spacing"):
        make_phantom(tmp_path / "heads", "head", **{**FEW, "spacing": (1.0, 1.0, 1.0)})
    assert list(tmp_path.iterdir()) == []


def test_negative_count_is_rejected_by_name(tmp_path):
    with pytest.raises(NomalyError, match="num_training must be a number of studies >= 0, got -1"):
        make_phantom(tmp_path / "heads", "head", num_training=-1)


def test_phantom_is_used_only_without_a_data_set_and_warns(tmp_path, caplog):
    assert dataset_or_phantom("/my/data", str(tmp_path / "cache"), "head") == "/my/data"
    assert not caplog.records and not (tmp_path / "cache").exists()
    one = {**SMALL, "num_training": 1, "num_validation": 0, "num_calibration": 0}
    one |= {"num_test_healthy": 0, "num_test_abnormal": 0}
    with caplog.at_level(logging.WARNING):
        made = dataset_or_phantom(None, str(tmp_path / "cache"), "head", **one)
    assert "SYNTHETIC" in caplog.text
    assert is_phantom(made) and not is_phantom(tmp_path)
    assert json.loads((Path(made) / "phantom.json").read_text())["synthetic"] is True
    assert Path(made).parent == tmp_path / "cache"


def test_empty_data_set_name_is_rejected_instead_of_taken_for_none(tmp_path):
    with pytest.raises(NomalyError, match="dataset_dir must be a folder with datalist.json, got an empty value"):
        dataset_or_phantom(" ", str(tmp_path), "head")


def test_unknown_setting_of_an_anatomy_is_rejected_with_the_known_ones(tmp_path):
    with pytest.raises(NomalyError, match="the phantom colon has no setting slab_mm: it has num_training, .*size"):
        make_phantom(tmp_path / "colon", "colon", slab_mm=[45, 75])


def test_only_the_asked_groups_take_turns_and_unknown_ones_are_rejected(tmp_path):
    few = {name: 0 for name in ("num_training", "num_validation", "num_calibration", "num_test_healthy")}
    settings = {**few, "num_test_abnormal": 3, "size": 32}
    folder = make_phantom(tmp_path / "chest", "chest", **settings, groups=["nodule", "effusion"])
    assert [item["group"] for item in load_datalist(folder, required=())["test"]] == ["nodule", "effusion", "nodule"]
    with pytest.raises(NomalyError, match=r"groups must be some of consolidation, .*got \['polyp'\]"):
        make_phantom(tmp_path / "other", "chest", **settings, groups=["polyp"])


@pytest.mark.parametrize(("anatomy", "mode", "scale"), [("colon", "RGB", 4), ("chest", "L", 2), ("wrist", "L", 2)])
def test_pictures_are_written_as_png_with_masks_and_a_larger_unseen_one(tmp_path, anatomy, mode, scale):
    few = {name: 2 for name in ("num_training", "num_validation", "num_calibration", "num_test_healthy")}
    folder = Path(make_phantom(tmp_path / anatomy, anatomy, **few, num_test_abnormal=3, size=32))
    sections = load_datalist(folder)
    assert {name: len(items) for name, items in sections.items()} == {
        "training": 2,
        "validation": 2,
        "test": 5,
        "calibration": 2,
    }
    for item in sections["test"]:
        with Image.open(item["image"]) as picture:
            assert (picture.size, picture.mode) == ((32, 32), mode)
        if item["label"]:
            values = np.unique(np.asarray(Image.open(item["mask"])))
            assert values.tolist() == [0, 255]
    unseen = sorted((folder / "unseen").iterdir())
    assert [Image.open(path).size for path in unseen] == [(32 * scale, 32 * scale)] * 2
