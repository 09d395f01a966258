"""Synthetic lesions in healthy studies, for tests, checkpoint selection and labelled evaluation.

They are caricatures based only on grey levels; results that use them must be labelled synthetic.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from custom.studies.items import StudyItem
from custom.synthetic.phantoms import find_phantom


class SyntheticLesiond(MapTransform):
    """Draw the lesion specified by ``item["synthetic"] = {"anatomy", "group", "seed"}``; its mask is written to
    ``mask_key``.

    An item without ``synthetic`` keeps its mask, or gets a mask of zeros.

    Args:
        keys: the image, (C, X, Y, Z), values in [0, 1]; one key.
        mask_key: key of the mask (1, X, Y, Z).
        strength: range of strengths within (0, 1], small = subtle.
        synthetic_key: key of anatomy, group and seed.
        allow_missing_keys: leave items without the image unchanged.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        mask_key: str = "mask",
        strength: tuple[float, float] = (0.35, 1.0),
        synthetic_key: str = "synthetic",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key, self.synthetic_key = mask_key, synthetic_key
        self.strength = strength

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            image, wanted = item[key], item.get(self.synthetic_key)
            if wanted:
                item[key], item[self.mask_key] = self.draw(image, **wanted)
            elif self.mask_key not in item:
                zeros = np.zeros((1, *image.shape[1:]), np.float32)
                item[self.mask_key] = convert_to_dst_type(zeros, image, dtype=np.float32)[0]
        return item

    def draw(self, image: MetaTensor, anatomy: str, group: str, seed: int) -> tuple[MetaTensor, MetaTensor]:
        """Image with the lesion and its mask (1, X, Y, Z), both of the image's type."""
        spacing = tuple(float(side) for side in image.pixdim) if isinstance(image, MetaTensor) else (1.0, 1.0, 1.0)
        changed, mask = find_phantom(anatomy).add_lesion(np.asarray(image), group, int(seed), self.strength, spacing)
        mask = mask[None].astype(np.float32)
        return convert_to_dst_type(changed, image, np.float32)[0], convert_to_dst_type(mask, image, np.float32)[0]


def with_synthetic_twins(
    items: Sequence[StudyItem], anatomy: str, seed: int = 0, groups: Sequence[str] | None = None
) -> list[StudyItem]:
    """Every healthy item, followed by a twin with a synthetic lesion of each group in turn. Abnormal items get no twin.

    Args:
        items: datalist items with ``case``.
        anatomy: phantom whose lesions are drawn.
        seed: the twin of the n-th healthy item gets a lesion seed derived from it and n.
        groups: groups used in turn; None = all of the anatomy.

    Raises:
        NomalyError: if ``anatomy`` or a group is unknown.
    """
    phantom = find_phantom(anatomy)
    groups = phantom.check_groups(phantom.groups if groups is None else groups)
    paired: list[StudyItem] = []
    turn = 0
    for item in items:
        paired.append(item.copy())
        if item.get("label", 0):
            continue
        group = groups[turn % len(groups)]
        lesion_seed = int(np.random.SeedSequence([seed, turn]).generate_state(1)[0] >> 1)
        twin: StudyItem = {**item, "label": 1, "group": group, "case": f"{item['case']}_{group}"}
        twin["synthetic"] = {"anatomy": anatomy, "group": group, "seed": lesion_seed}
        paired.append(twin)
        turn += 1
    return paired
