"""Options that several commands share."""

from __future__ import annotations

import argparse

from custom.commands.options import OptionParser, add_switch

Group = argparse._ArgumentGroup


def add_bundle(parser: OptionParser) -> None:
    """The bundle."""
    parser.add_argument("bundle", metavar="BUNDLE", help="name of a bundle, or path of its folder")


def add_dataset(group: Group, required: bool = False) -> None:
    """The data set."""
    phantom = "" if required else " (default: a synthetic phantom)"
    group.add_argument(
        "--dataset_dir", required=required, metavar="FOLDER", help=f"data set: folder with datalist.json{phantom}"
    )


def add_output(
    group: argparse._ActionsContainer, required: bool = True, text: str = "results folder", default: str = ""
) -> None:
    """The folder for the results."""
    group.add_argument(
        "--output", required=required, metavar="FOLDER", help=text + (f" (default: {default})" if default else "")
    )


def add_overwrite(group: Group, text: str = "replace earlier results") -> None:
    """The switch for results that already exist."""
    add_switch(group, "overwrite", text)


def add_pseudonymise(group: Group, default: bool = False) -> None:
    """The switch for names in results; the help shows the one that changes the default."""
    text = (
        "name studies after their files in calibration.json, not by hashes (calibration_key.csv maps hashes to files)"
        if default
        else "name studies by hashes, not after their files, so that the results can be shared (key.csv maps hashes to "
        "files)"
    )
    add_switch(group, "pseudonymise", text, shown=not default)


def add_weights(group: Group) -> None:
    """The weights."""
    group.add_argument("--weights", metavar="FILE", help="model.pt (default: models/model.pt of the bundle)")


def add_detector(parser: OptionParser) -> Group:
    """Weights and calibration of commands that score studies."""
    group = parser.add_argument_group("detector")
    add_weights(group)
    group.add_argument(
        "--calibration",
        dest="calibration_file",
        metavar="FOLDER",
        help="calibration made by `nomaly calibrate --output FOLDER` for these weights, or its calibration.json "
        "(default: the calibration in the weights)",
    )
    group.add_argument(
        "--study_group",
        metavar="NAME",
        help="calibration group, such as the scanner, of studies without this field",
    )
    return group
