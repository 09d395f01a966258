"""Options of commands that make a data set from folders of images."""

from __future__ import annotations

import argparse
from pathlib import Path

from custom.commands.options import OptionParser, add_switch
from custom.errors import NomalyError
from custom.public_sets.manifest import NAMES


def datalist(parser: OptionParser) -> None:
    """Options of making a data set."""
    parser.add_argument("healthy", metavar="HEALTHY", help="folder of healthy studies, of any depth")
    group = parser.add_argument_group("data and results")
    group.add_argument(
        "--output", required=True, metavar="FOLDER", help="folder for datalist.json and links to the images"
    )
    add_switch(group, "overwrite", "replace an earlier datalist.json")
    add_abnormal(group)
    group = parser.add_argument_group("sections")
    group.add_argument(
        "--shares",
        nargs=4,
        type=float,
        default=[0.6, 0.1, 0.2, 0.1],
        metavar="SHARE",
        help="of training, validation, calibration and test among the healthy studies (default: 0.6 0.1 0.2 0.1)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (default: %(default)s)")


def prepare(parser: OptionParser) -> None:
    """Options of preparing a public data set."""
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("folder", metavar="FOLDER", help="your download, unpacked; it is only read")
    group = parser.add_argument_group("results")
    group.add_argument("--output", metavar="FOLDER", help="folder for images and datalist.json (default: data/NAME)")
    add_switch(group, "overwrite", "replace an earlier data set")


def add_training_folders(parser: OptionParser) -> None:
    """Folders of images in place of a data set."""
    group = parser.add_argument_group("folders of images instead of a data set")
    group.add_argument(
        "--healthy", metavar="FOLDER", help="healthy studies; OUTPUT/data/datalist.json is made as by `nomaly datalist`"
    )
    add_abnormal(group)


def add_abnormal(group: argparse._ArgumentGroup) -> None:
    """Abnormal studies, their masks, and which studies and patients are meant."""
    group.add_argument("--abnormal", metavar="FOLDER", help="abnormal studies, for the test section")
    group.add_argument("--lesion_masks", metavar="FOLDER", help="masks under the names of the abnormal studies")
    group.add_argument(
        "--subject",
        metavar="PATTERN",
        help="regular expression that finds the patient in a study's path (default: BIDS subject, DICOM PatientID)",
    )
    group.add_argument("--only", metavar="PATTERN", help='studies to use, such as "*_T1w.nii.gz" (default: all)')


def training_data(options: argparse.Namespace) -> str | None:
    """The data set of the folders that a training was given, made unless an earlier call made it; None without folders.

    Raises:
        NomalyError: options that exclude each other, or as :func:`custom.commands.datalist.make_datalist`.
    """
    if options.healthy is None:
        for name in ("abnormal", "lesion_masks", "subject", "only"):
            if getattr(options, name) is not None:
                raise NomalyError(f"--{name} needs --healthy: give the folder of healthy studies, too.")
        return None
    if options.dataset_dir is not None:
        raise NomalyError("--healthy and --dataset_dir must not both be given: choose folders or a data set.")
    if options.output is None:
        raise NomalyError("--healthy needs --output: the data set is made in its folder data.")
    from custom.commands.datalist import DATALIST, folders_of, make_datalist

    data = Path(options.output) / "data"
    if (data / DATALIST).is_file():
        print(f"Using {data / DATALIST} of an earlier call.", flush=True)
    else:
        print(make_datalist(folders_of(options), data, options.subject, options.only), flush=True)
    return str(data)
