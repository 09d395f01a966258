"""Unit test of a bundle in the model zoo's form: train, evaluate and infer, with tiny settings on synthetic images.

For the zoo: copy this file to ci/unit_tests/test_NAME.py, where NAME is the bundle's; it is the same for all bundles.
Run it from the zoo's root, with the bundle in models/NAME.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from monai.bundle import ConfigWorkflow

NAME = Path(__file__).stem.removeprefix("test_")
STUDIES = {"num_training": 4, "num_validation": 4, "num_calibration": 0, "num_test_healthy": 3, "num_test_abnormal": 3}
GEOMETRY = {"shape": (60, 72, 28), "spacing": (3.0, 3.0, 6.0), "size": 64}
TRAINING = {"max_epochs": 1, "warmup_epochs": 0, "val_interval": 1, "batch_size": 4, "baseline_epochs": 1}
# As small as the layers of a method allow; a config has the parameters of its own method.
NETWORK = {
    "image_size": 32,
    "channels": [4, 8],
    "latent_size": 8,
    "patch_size": 8,
    "hidden_size": 16,
    "depth": 2,
    "num_heads": 2,
    "decoder_hidden_size": 16,
    "decoder_num_heads": 2,
    "memory_slots": 4,
    "masks": 4,
}


def read_config(root: Path, name: str) -> dict:
    """A config of the bundle."""
    return json.loads((root / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def tiny_phantom(folder: Path, root: Path) -> Path:
    """A few coarse synthetic studies of the bundle's anatomy."""
    from custom.synthetic.dataset import make_phantom
    from custom.synthetic.phantoms import find_phantom

    anatomy = read_config(root, "train")["anatomy"]
    geometry = {name: value for name, value in GEOMETRY.items() if name in find_phantom(anatomy).settings}
    return Path(make_phantom(folder, anatomy, **STUDIES, **geometry))


class TestBundle(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path("models") / NAME
        sys.path.insert(0, str(self.root))
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.data = tiny_phantom(self.folder / "phantom", self.root)

    def check(self, names: list[str], workflow_type: str, **parameters) -> None:
        """Initialise a workflow, ask for its properties, run and finalise it."""
        known = set().union(*(read_config(self.root, name) for name in names))
        folders = {"bundle_root": self.root, "dataset_dir": self.data, "output_dir": self.folder / "output"}
        parameters = {name: value for name, value in parameters.items() if name in known}
        files = [str(self.root / "configs" / f"{name}.json") for name in names]
        workflow = ConfigWorkflow(
            config_file=files if len(files) > 1 else files[0],
            workflow_type=workflow_type,
            logging_file=str(self.root / "configs" / "logging.conf"),
            meta_file=str(self.root / "configs" / "metadata.json"),
            **{name: str(path) for name, path in folders.items()},
            **parameters,
        )
        workflow.initialize()
        self.assertEqual(workflow.check_properties(), [])
        workflow.run()
        workflow.finalize()

    def test_train(self) -> None:
        models = self.folder / "models"
        self.check(["train"], "train", ckpt_dir=str(models), **TRAINING, **NETWORK)
        self.assertTrue((models / "model.pt").is_file())

    def test_evaluate(self) -> None:
        # train.json is overridden, thus the workflow is of type "train"
        self.check(["train", "evaluate"], "train", **TRAINING)
        self.assertIn("image", json.loads((self.folder / "output" / "metrics.json").read_text(encoding="utf-8")))

    def test_infer(self) -> None:
        self.check(["inference"], "infer")
        with open(self.folder / "output" / "results.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(len(rows), STUDIES["num_test_healthy"] + STUDIES["num_test_abnormal"])
        self.assertEqual([row["note"] for row in rows if row["status"] == "failed"], [])


if __name__ == "__main__":
    unittest.main()
