"""The public data sets behind the published figures: where they come from, their terms, and how they are laid out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from custom.errors import NomalyError
from custom.public_sets import convert
from custom.public_sets.manifest import NAMES, Row


def file_name(name: str) -> str:
    """Files are found by their names."""
    return name


def ixi_subject(name: str) -> str:
    """The T1-weighted file of IXI's subject 2 is IXI002-Guys-0828-T1.nii.gz; any other file has no subject."""
    found = re.fullmatch(r"(IXI\d{3})-.*-T1\.nii(\.gz)?", name)
    return found[1] if found else ""


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Args:
        name: as it is typed, and name of the manifest.
        title: name and authors.
        source: where it can be had; not visited by Nomaly.
        terms: licence or terms of use.
        bundles: bundles with figures on it.
        layout: folders and files of the download that are needed.
        original: name of a study's file in the download, or what ``key`` makes of it.
        image: makes the prepared image of a file of the download.
        folder: folder of the download in which the study's file must be, at any depth; "" = any.
        original_mask: name of a study's mask in the download.
        mask: makes the prepared mask.
        key: what files of the download are found by, of their names.
        difference: why the prepared images are not the published ones, and what follows; "" = they are.
    """

    name: str
    title: str
    source: str
    terms: str
    bundles: tuple[str, ...]
    layout: str
    original: Callable[[Row], str]
    image: Callable[[Path], bytes]
    folder: Callable[[Row], str] = lambda row: ""
    original_mask: Callable[[Row], str] = lambda row: ""
    mask: Callable[[Path], bytes] = convert.mask
    key: Callable[[str], str] = file_name
    difference: str = ""


SETS = (
    PublicSet(
        "ixi",
        "IXI, T1-weighted heads of healthy adults",
        "brain-development.org/ixi-dataset, IXI-T1.tar",
        "CC BY-SA 3.0",
        ("ra_brain",),
        "IXI002-Guys-0828-T1.nii.gz and so on, in any folder",
        lambda row: row.stem,
        convert.head_slice,
        key=ixi_subject,
        difference="the published slices come from heads registered to MNI space, which is not repeated here: "
        "subjects and sections are the published ones, the slices are other ones. Run nomaly adapt and nomaly "
        "calibrate on them, as the shipped calibration does not hold for them; figures will differ",
    ),
    PublicSet(
        "kermany",
        "Chest X-rays of children, Kermany et al. 2018",
        "data.mendeley.com/datasets/rscbjbr9sj, ChestXRay2017.zip",
        "CC BY 4.0",
        ("ra_chest", "memmc_pneumonia"),
        "train and test, each with the folders NORMAL and PNEUMONIA",
        lambda row: f"{row.stem}.jpeg",
        convert.child_film,
        folder=lambda row: "PNEUMONIA" if row.label else "NORMAL",
    ),
    PublicSet(
        "hyperkvasir",
        "HyperKvasir, frames of colonoscopies, Borgli et al. 2020",
        "datasets.simula.no/hyper-kvasir, labeled images and segmented images",
        "CC BY 4.0",
        ("memmc_colonoscopy",),
        "labeled-images, and segmented-images with the folders images and masks",
        lambda row: f"{row.stem}.jpg",
        convert.colon_window,
        original_mask=lambda row: f"{row.stem}.jpg",
        mask=convert.colon_mask,
        difference="the position of the published windows was found from their masks, to about one pixel",
    ),
    PublicSet(
        "covid_radiography",
        "COVID-19 Radiography Database, chest X-rays of adults, Rahman, Chowdhury et al.",
        "kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
        "terms of its sources, for research",
        ("memmc_covid",),
        "Normal/images and COVID/images, or Normal and COVID",
        lambda row: f"{row.stem}.png",
        convert.adult_film,
        folder=lambda row: "COVID" if row.label else "Normal",
    ),
    PublicSet(
        "lgg",
        "TCGA-LGG, MRI of gliomas with masks, Buda et al. 2019",
        "kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation, kaggle_3m",
        "CC BY-NC-SA 4.0",
        ("ra_brain_flair",),
        "one folder per patient, such as TCGA_CS_4941_19960909, with .tif files and _mask.tif files",
        lambda row: f"{row.stem}.tif",
        convert.flair_slice,
        original_mask=lambda row: f"{row.stem}_mask.tif",
    ),
    PublicSet(
        "mednist_hands",
        "Hand films of MedNIST, from the RSNA bone age challenge (Halabi et al. 2019)",
        "MedNIST.tar.gz, which MONAI's tutorials download",
        "CC BY-SA 4.0",
        ("ra_wrist",),
        "the folder Hand with 000000.jpeg and so on",
        lambda row: f"{row.stem}.jpeg",
        convert.hand_film,
        folder=lambda row: "Hand",
    ),
)


def public_set(name: str) -> PublicSet:
    """The data set of a name.

    Raises:
        NomalyError: with all names.
    """
    for entry in SETS:
        if entry.name == name:
            return entry
    raise NomalyError(f"NAME must be one of {', '.join(NAMES)}, got {name}.")
