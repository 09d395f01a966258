"""The description of the steps before the graph."""

from __future__ import annotations

import pytest
from monai.bundle import ConfigParser
from monai.transforms import Compose, ScaleIntensityd

from custom.commands.bundle import BUNDLES
from custom.export.preprocessing import UNKNOWN, preprocessing_steps
from custom.synthetic.lesions import SyntheticLesiond
from custom.transforms.intensity import InvertFilmd
from custom.transforms.resize import ResizeStudyd


@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in BUNDLES.glob("*/variant.json")))
def test_each_step_except_the_drawing_of_lesions_is_described_with_its_arithmetic(bundle: str) -> None:
    parser = ConfigParser(ConfigParser.load_config_file(str(BUNDLES / bundle / "configs" / "inference.json")))
    transforms = parser.get_parsed_content("preprocessing")
    steps = preprocessing_steps(transforms)
    names = [type(step).__name__ for step in transforms.transforms]
    assert [step["step"] for step in steps] == [name for name in names if name != "SyntheticLesiond"]
    assert "SyntheticLesiond" in names and UNKNOWN not in [step["how"] for step in steps]


def test_settings_are_those_of_the_step() -> None:
    resize, invert = preprocessing_steps(Compose([ResizeStudyd((64, 48)), SyntheticLesiond(), InvertFilmd("image")]))
    assert resize["settings"]["plane"] == [64, 48] and resize["settings"]["depth"] is None
    assert resize["how"].startswith(
        "Each axis that shrinks is first smoothed by a Gaussian of (length / target - 1) / 2"
    )
    assert invert["step"] == "InvertFilmd" and invert["settings"]["keys"] == ["image"]


def test_unknown_step_is_listed_by_its_name() -> None:
    own, scale = preprocessing_steps(Compose([lambda item: item, ScaleIntensityd("image")]))
    assert own == {"step": "function", "settings": None, "how": UNKNOWN}
    assert (scale["step"], scale["how"]) == ("ScaleIntensityd", UNKNOWN)
