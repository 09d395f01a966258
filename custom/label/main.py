"""The MONAI Label app: each bundle is an infer task. MONAI Label looks for it under this file's name."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from custom import __version__
from custom.errors import NomalyError
from custom.label.study_detector import CALIBRATED, LABELS, StudyDetector
from custom.label.uploads import check_suffix, folder_of_studies, inside

logger = logging.getLogger(__name__)

SHOWN_OUTPUTS = ["mask", "bands"]  # viewers show labels; the map, "map" in a request, is for programs


class NomalyTask(InferTask):
    """Detection with one bundle; 3D Slicer shows its config as options.

    Args:
        detector: of the bundle.
    """

    def __init__(self, detector: StudyDetector) -> None:
        options = {"threshold": CALIBRATED, "output": SHOWN_OUTPUTS}
        description = f"{detector.metadata['name']}. {detector.metadata['intended_use']}"
        super().__init__(InferType.SEGMENTATION, LABELS, detector.dimension, description, options)
        self.detector = detector

    def is_valid(self) -> bool:
        """Its weights were loaded when the server started."""
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Assess the study of a request: a file in the passing folder, which MONAI Label removes, and what is said.

        Raises:
            HTTPException: 422 with the reason, if the study failed or is not assessable, or an option is wrong.
        """
        output = request.get("output") or SHOWN_OUTPUTS[0]
        output = output[0] if isinstance(output, list) else output
        try:
            with tempfile.TemporaryDirectory() as folder:
                file, params = self.detector(request["image"], folder, request.get("threshold"), output)
                handle, kept = tempfile.mkstemp(suffix="".join(file.suffixes))
                os.close(handle)
                shutil.move(file, kept)
        except NomalyError as error:
            logger.warning("%s: %s", self.detector.bundle, error)
            raise HTTPException(422, str(error)) from error
        return kept, params


class NomalyApp(MONAILabelApp):
    """Serve bundles.

    Args:
        app_dir: folder of this file.
        studies: folder of studies, or address of a DICOMweb server.
        conf: "models" = JSON of {name: [folder of the bundle, weights]}.

    Raises:
        NomalyError: if weights cannot be loaded.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.models: dict[str, list[str]] = json.loads(conf["models"])
        description = "Anomaly detection that learns from healthy scans only. Research software, not a medical device."
        super().__init__(app_dir, studies, conf, "Nomaly", description, __version__)

    def init_infers(self) -> dict[str, InferTask]:
        """A task a bundle."""
        return {name: NomalyTask(StudyDetector(*paths)) for name, paths in self.models.items()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a task on a study of the store, of a session, or that was uploaded; MONAI Label's own would take any path
        of the machine as well.

        Raises:
            HTTPException: 404 for an unknown model or image, 422 for what cannot be assessed.
        """
        task = self._infers.get(request.get("model"))
        if task is None:
            raise HTTPException(404, f"model must be one of {', '.join(self._infers)}, got {request.get('model')!r}.")
        datastore = datastore or self.datastore()
        image = self.place_of(request.get("image"), datastore)
        file, params = task({**request, "image": image})
        tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL
        label = file
        if request.get("save_label"):
            label = datastore.save_label(request["image"], file, tag, {"model": request["model"], "params": params})
        return {"label": label, "tag": tag, "file": file, "params": params}

    def place_of(self, image: Any, datastore: Datastore) -> str:
        """Path of an image by its name in the store, of a DICOM folder among the studies, or of what was uploaded.

        Raises:
            HTTPException: 404 if it is none of these, 422 for a file of a kind that is not read.
        """
        uploads = [Path(folder) for folder in (tempfile.gettempdir(), settings.MONAI_LABEL_SESSION_PATH) if folder]
        if not isinstance(image, str) or not image:
            raise HTTPException(422, f"image must be the name of one image of the server, got {image!r}.")
        if any(inside(image, folder) for folder in uploads):
            place = image
        else:
            place = datastore.get_image_uri(image) or folder_of_studies(self.studies, image)
        if not place:
            raise HTTPException(
                404, f"image must be the name of an image of the server, got {image!r}: see /datastore/."
            )
        try:
            check_suffix(place)
        except NomalyError as error:
            raise HTTPException(422, str(error)) from error
        return str(place)
