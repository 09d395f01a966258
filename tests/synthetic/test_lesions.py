"""Lesions are drawn as an item asks, and healthy studies get twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.errors import NomalyError
from custom.synthetic.head import head_volume
from custom.synthetic.head_lesions import HeadLesion
from custom.synthetic.lesions import SyntheticLesiond, with_synthetic_twins
from custom.synthetic.phantoms import PHANTOMS

SPACING = (2.2, 2.2, 3.0)


@pytest.fixture(scope="module")
def slab():
    """Four slices through the ventricles of one phantom head, (1, 80, 96, 4)."""
    return np.clip(head_volume(5)[..., 30:34] / 1.25, 0.0, 1.0)


@pytest.fixture(scope="module")
def plane(slab):
    return slab[..., :1]


def test_dictionary_twin_matches_the_array_version_in_type_and_value(slab):
    affine = torch.diag(torch.tensor([-2.2, -2.2, 3.0, 1.0], dtype=torch.float64))
    item = {"image": MetaTensor(slab, affine=affine), "synthetic": {"anatomy": "head", "group": "mass", "seed": 5}}
    result = SyntheticLesiond()(item)
    image, mask = HeadLesion("mass")(slab, 5, SPACING)
    assert isinstance(result["image"], MetaTensor) and isinstance(result["mask"], MetaTensor)
    torch.testing.assert_close(result["mask"].affine, affine)
    np.testing.assert_allclose(result["image"].numpy(), image, atol=1e-6)
    np.testing.assert_array_equal(result["mask"].numpy(), mask)
    np.testing.assert_array_equal(item["image"].numpy(), slab)


def test_item_without_lesion_gets_zeros_or_keeps_its_mask(plane):
    image = torch.as_tensor(plane)
    assert SyntheticLesiond()({"image": image})["mask"].sum() == 0
    kept = SyntheticLesiond()({"image": image, "mask": torch.ones_like(image)})
    assert kept["mask"].all() and kept["image"] is image


def test_twins_follow_healthy_items_with_groups_in_turn():
    items = [{"image": f"{i}.png", "label": int(i == 1), "case": str(i), "subject": "s"} for i in range(4)]
    paired = with_synthetic_twins(items, "head", seed=1, groups=("mass", "oedema"))
    assert [item["case"] for item in paired] == ["0", "0_mass", "1", "2", "2_oedema", "3", "3_mass"]
    twin = paired[1]
    assert (twin["label"], twin["group"], twin["subject"], twin["synthetic"]["group"]) == (1, "mass", "s", "mass")
    assert paired == with_synthetic_twins(items, "head", seed=1, groups=("mass", "oedema"))
    seeds = {item["synthetic"]["seed"] for item in paired if "synthetic" in item}
    assert len(seeds) == 3
    assert "synthetic" not in items[0]


def test_unknown_group_of_twins_is_rejected():
    with pytest.raises(NomalyError, match="groups must be some of"):
        with_synthetic_twins([], "head", groups=("bruise",))


def test_unknown_anatomy_is_rejected_with_the_known_ones():
    with pytest.raises(NomalyError, match="anatomy must be one of head, colon, chest.*got 'knee'"):
        with_synthetic_twins([], "knee")


@pytest.mark.parametrize("anatomy", ["colon", "chest", "wrist"])
def test_pictures_get_lesions_of_each_of_their_groups(anatomy):
    phantom = PHANTOMS[anatomy]
    healthy, _ = phantom.study(3, {**phantom.settings, "size": 48}, None)
    items = [{"image": "a.png", "case": str(number)} for number in range(len(phantom.groups))]
    twins = [item for item in with_synthetic_twins(items, anatomy) if "synthetic" in item]
    assert [item["group"] for item in twins] == list(phantom.groups)
    for item in twins:
        result = SyntheticLesiond()({**item, "image": torch.from_numpy(healthy)})
        changed = (result["image"].numpy() != healthy).any(0)
        assert result["mask"].shape == (1, 48, 48, 1) and result["mask"].any()
        assert changed[result["mask"][0].numpy() > 0].mean() > 0.5, item["group"]


def test_polyp_is_not_drawn_into_a_volume():
    with pytest.raises(
        NomalyError, match=r"image must be a single 2-D image \(C, X, Y, 1\), got the shape \(3, 8, 8, 2\)"
    ):
        PHANTOMS["colon"].add_lesion(np.zeros((3, 8, 8, 2)), "ulcer", 0, (0.5, 1.0))
