"""The scene for 3D Slicer: every reference leads to a node, every file has the grid of the image, findings included."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest

from custom.runs.slicer import write_scene
from custom.studies.datalist import load_datalist
from custom.studies.own_files import own_files
from nomaly import NomalyError, load, save

# What the classes of Slicer 5 read from XML: vtkMRMLNode, vtkMRMLStorageNode, vtkMRMLDisplayNode and their children.
ATTRIBUTES = {
    "VolumeArchetypeStorage": {"id", "fileName", "useCompression"},
    "VolumeDisplay": {
        *("id", "colorNodeID", "visibility", "interpolate", "window", "level", "autoWindowLevel"),
        *("applyThreshold", "autoThreshold", "lowerThreshold", "upperThreshold"),
    },
    "Volume": {"id", "name", "references"},
    "SegmentationStorage": {"id", "fileName"},
    "SegmentationDisplay": {"id", "visibility", "Visibility2DFill", "Visibility2DOutline"},
    "Segmentation": {"id", "name", "references"},
    "SliceComposite": {
        *("id", "singletonTag", "layoutName", "backgroundVolumeID", "foregroundVolumeID", "foregroundOpacity"),
        "linkedControl",
    },
}
SHEAR = np.array([[-2.0, 0.1, 0, 40], [0, 2.0, 0, -50], [0.2, 0, 3.0, 7], [0, 0, 0, 1]])


@pytest.fixture
def folder(tmp_path) -> Path:
    """Results of a volume of 6 x 5 x 4 voxels, and the volume beside them."""
    random = np.random.default_rng(0)
    (tmp_path / "case").mkdir()
    for name, values in (
        ("case/map", random.random((6, 5, 4))),
        ("case/mask", random.random((6, 5, 4)) > 0.5),
        ("case/pseudo_healthy", random.random((6, 5, 4)) * 900),
        ("head", np.linspace(0, 1000, 120).reshape(6, 5, 4)),
    ):
        nib.save(nib.Nifti1Image(values.astype(np.float32), SHEAR), tmp_path / f"{name}.nii.gz")
    return tmp_path / "case"


def nodes_of(scene: Path) -> dict[str, ElementTree.Element]:
    """Nodes by their identifier."""
    return {node.attrib["id"]: node for node in ElementTree.parse(scene).getroot()}


def test_every_reference_leads_to_a_node_and_every_attribute_is_one_that_slicer_reads(folder) -> None:
    scene = write_scene(folder, str(folder.parent / "head.nii.gz"), 0.25)
    nodes = nodes_of(scene)
    assert scene == folder / "slicer.mrml" and ElementTree.parse(scene).getroot().tag == "MRML"
    for node in nodes.values():
        assert set(node.attrib) <= ATTRIBUTES[node.tag]
        pairs = [pair.split(":") for pair in node.attrib.get("references", "").split(";") if pair]
        assert all(target in nodes for _, target in pairs)
        assert all(node.attrib[name] in nodes for name in node.attrib if name.endswith("VolumeID"))
    assert [node.attrib["name"] for node in nodes.values() if "name" in node.attrib] == [
        "image",
        "pseudo-healthy image",
        "anomaly map",
        "findings",
    ]
    assert {node.attrib["layoutName"] for node in nodes.values() if node.tag == "SliceComposite"} == {
        "Red",
        "Green",
        "Yellow",
    }


def test_files_are_beside_the_scene_and_the_image_has_the_grid_of_the_map(folder) -> None:
    nodes = nodes_of(write_scene(folder, str(folder.parent / "head.nii.gz"), 0.25))
    files = [node.attrib["fileName"] for node in nodes.values() if "fileName" in node.attrib]
    assert sorted(files) == ["map.nii.gz", "mask.nii.gz", "pseudo_healthy.nii.gz", "slicer_image.nii.gz"]
    copy, original = nib.load(folder / "slicer_image.nii.gz"), nib.load(folder.parent / "head.nii.gz")
    assert np.allclose(copy.affine, nib.load(folder / "map.nii.gz").affine)
    assert np.allclose(copy.get_fdata(), original.get_fdata())
    assert {"slicer.mrml", "slicer_image.nii.gz"} <= own_files(folder)


def test_map_is_transparent_below_the_threshold_and_saturates_at_three_times_it(folder) -> None:
    display = nodes_of(write_scene(folder, str(folder.parent / "head.nii.gz"), 0.25))["vtkMRMLScalarVolumeDisplayNode3"]
    assert display.attrib["applyThreshold"] == "1" and float(display.attrib["lowerThreshold"]) == 0.25
    level, window = float(display.attrib["level"]), float(display.attrib["window"])
    assert (level - window / 2, level + window / 2) == (0, 0.75)


def test_scene_of_an_uncalibrated_detector_has_neither_threshold_nor_findings(folder) -> None:
    (folder / "mask.nii.gz").unlink()
    nodes = nodes_of(write_scene(folder, str(folder.parent / "head.nii.gz"), None))
    assert "applyThreshold" not in nodes["vtkMRMLScalarVolumeDisplayNode3"].attrib
    assert not [node for node in nodes.values() if node.tag.startswith("Segmentation")]


@pytest.mark.slow
def test_results_of_volumes_are_saved_with_a_scene_and_those_of_pictures_refused(tiny_bundle, tiny_data, tmp_path):
    heads = load(tiny_bundle("ra_brain", tmp_path / "ra_brain"))
    result = heads(load_datalist(tiny_data("ra_brain"))["test"][-1]["image"])
    result.save(tmp_path / "out", slicer=True)
    nodes = nodes_of(tmp_path / "out" / result.name / "slicer.mrml")
    shown = nib.load(tmp_path / "out" / result.name / "slicer_image.nii.gz")
    assert shown.shape == result.map.shape and np.allclose(shown.affine, result.affine)
    assert "vtkMRMLSegmentationNode1" in nodes
    save([result], tmp_path / "out", overwrite=True)  # without the scene, which is of the earlier results
    assert not (tmp_path / "out" / result.name / "slicer.mrml").exists()

    films = load(tiny_bundle("ra_chest", tmp_path / "ra_chest"))
    film = films(load_datalist(tiny_data("ra_chest"))["test"][-1]["image"])
    with pytest.raises(NomalyError, match="slicer must be false for images without geometry, as PNG, got true for"):
        film.save(tmp_path / "films", slicer=True)
    assert not (tmp_path / "films").exists()
