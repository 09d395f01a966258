"""A scene for 3D Slicer beside the results of a volume: image, map over it, and findings.

The elements and attributes are those that the MRML classes of Slicer 5 read (Libs/MRML/Core of its source).
"""

from __future__ import annotations

import gzip
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np

from custom.files import atomic_write
from custom.studies.items import ImageSource
from custom.studies.own_files import SCENE_FILES, STUDY_FILES, list_own
from custom.studies.readers import read_study

SCENE, IMAGE = SCENE_FILES
GREY, HEAT = "vtkMRMLColorTableNodeGrey", "vtkMRMLColorTableNodeIron"  # tables that Slicer has
OPACITY = 0.6  # of the map
VIEWS = ("Red", "Green", "Yellow")  # axial, coronal, sagittal


def write_scene(folder: Path, image: ImageSource, threshold: float | None) -> Path:
    """Write the scene, and a copy of the image as NIfTI, so that the folder can be moved as a whole.

    Args:
        folder: results of the study, with map.nii.gz, pseudo_healthy.nii.gz and, if something was decided, mask.nii.gz.
        image: the study, which is a volume.
        threshold: map value above which a pixel belongs to a region: smaller values of the map are transparent; None =
            nothing is.

    Returns:
        The scene.

    Raises:
        NomalyError: if the study cannot be read any more, or a file cannot be written.
    """
    anomaly_map = nib.nifti1.load(folder / "map.nii.gz")  # on the grid of the study
    values = read_study(image).as_tensor()[0].float().numpy().reshape(anomaly_map.shape)
    content = nib.Nifti1Image(values, anomaly_map.affine).to_bytes()
    with atomic_write(folder / IMAGE, "wb") as stream:
        stream.write(gzip.compress(content, compresslevel=1, mtime=0))
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    strongest = float(np.asanyarray(anomaly_map.dataobj).max())
    scene = ElementTree.Element("MRML", version="Slicer5.0.0", userTags="")
    add_volume(scene, 1, "image", IMAGE, (low, high))
    add_volume(scene, 2, "pseudo-healthy image", "pseudo_healthy.nii.gz", (low, high))
    add_volume(scene, 3, "anomaly map", "map.nii.gz", (0, 3 * threshold if threshold else strongest), HEAT, threshold)
    if (folder / "mask.nii.gz").is_file():
        add_findings(scene)
    for view in VIEWS:
        add_view(scene, view)
    ElementTree.indent(scene)
    with atomic_write(folder / SCENE) as file:
        file.write(ElementTree.tostring(scene, encoding="unicode", xml_declaration=False) + "\n")
    list_own(folder, [name for name in STUDY_FILES if (folder / name).exists()])
    return folder / SCENE


def add_volume(
    scene: ElementTree.Element,
    number: int,
    name: str,
    file: str,
    shown: tuple[float, float],
    colours: str = GREY,
    threshold: float | None = None,
) -> None:
    """Add a volume, of which the values ``shown`` have the first and the last colour."""
    storage, display = f"vtkMRMLVolumeArchetypeStorageNode{number}", f"vtkMRMLScalarVolumeDisplayNode{number}"
    add(scene, "VolumeArchetypeStorage", storage, fileName=file, useCompression="1")
    low, high = shown
    settings = {"window": repr(float(high - low)), "level": repr(float(low + high) / 2), "autoWindowLevel": "0"}
    if threshold is not None:
        settings |= {"applyThreshold": "1", "autoThreshold": "0", "lowerThreshold": repr(float(threshold))}
        settings |= {"upperThreshold": "1e+30"}
    add(scene, "VolumeDisplay", display, colorNodeID=colours, interpolate="1", visibility="true", **settings)
    references = f"display:{display};storage:{storage};"
    add(scene, "Volume", f"vtkMRMLScalarVolumeNode{number}", name=name, references=references)


def add_findings(scene: ElementTree.Element) -> None:
    """Add the findings as a segmentation; Slicer reads its label map from NIfTI."""
    storage, display = "vtkMRMLSegmentationStorageNode1", "vtkMRMLSegmentationDisplayNode1"
    add(scene, "SegmentationStorage", storage, fileName="mask.nii.gz")
    add(scene, "SegmentationDisplay", display, visibility="true", Visibility2DFill="false", Visibility2DOutline="true")
    references = f"display:{display};referenceImageGeometryRef:vtkMRMLScalarVolumeNode1;storage:{storage};"
    add(scene, "Segmentation", "vtkMRMLSegmentationNode1", name="findings", references=references)


def add_view(scene: ElementTree.Element, view: str) -> None:
    """Show the map over the image in one of the three slice views."""
    volumes = {"backgroundVolumeID": "vtkMRMLScalarVolumeNode1", "foregroundVolumeID": "vtkMRMLScalarVolumeNode3"}
    settings = {"foregroundOpacity": str(OPACITY), "linkedControl": "1", "singletonTag": view, "layoutName": view}
    add(scene, "SliceComposite", f"vtkMRMLSliceCompositeNode{view}", **volumes, **settings)


def add(scene: ElementTree.Element, tag: str, identifier: str, **attributes: str) -> None:
    """Add a node of the scene."""
    ElementTree.SubElement(scene, tag, {"id": identifier, **attributes})
