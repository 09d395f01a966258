"""The MONAI Label app: each bundle is an infer task. MONAI Label expects it in a file of this name."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import Any

import itk
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from custom import __version__
from custom.errors import NomalyError
from custom.label.guard import is_plain, not_plain
from custom.label.study_detector import CALIBRATED, LABELS, StudyDetector, check_options
from custom.label.uploads import UnknownName, place_of, remove_upload

SHOWN_OUTPUTS = ["mask", "bands"]  # viewers show labels; "map" in a request is for programs

NRRD = ".nrrd"  # OHIF requests it, without compression


class NomalyTask(InferTask):
    """Detection with one bundle; 3D Slicer shows its config as options.

    Args:
        detector: the bundle's detector.
    """

    def __init__(self, detector: StudyDetector) -> None:
        options = {"threshold": CALIBRATED, "output": SHOWN_OUTPUTS}
        parts = (detector.metadata["name"] + ".", detector.metadata["intended_use"], *detector.warnings)
        description = " ".join(parts)
        super().__init__(InferType.SEGMENTATION, LABELS, detector.dimension, description, options)
        self.detector = detector

    def is_valid(self) -> bool:
        """True: its weights were loaded when the server started."""
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Score the study of a request.

        Returns:
            A file in the temporary folder, which MONAI Label removes, and the results.

        Raises:
            NomalyError: if the study failed or was rejected, or an option is wrong.
        """
        output = request.get("output") or SHOWN_OUTPUTS[0]
        output = output[0] if isinstance(output, list) else output
        with tempfile.TemporaryDirectory() as folder:
            file, params = self.detector(request["image"], folder, request.get("threshold"), output)
            if request.get("result_extension") == NRRD:
                itk.imwrite(itk.imread(str(file)), str(file := file.parent / f"result{NRRD}"), compression=False)
            handle, kept = tempfile.mkstemp(suffix="".join(file.suffixes))
            os.close(handle)
            shutil.move(file, kept)
        return kept, params


class NomalyApp(MONAILabelApp):
    """Serve bundles.

    Args:
        app_dir: folder of this file.
        studies: folder of studies, or address of a DICOMweb server.
        conf: "models" = JSON of {name: arguments of its StudyDetector}.

    Raises:
        NomalyError: if weights or a calibration cannot be loaded.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.models: dict[str, dict[str, Any]] = json.loads(conf["models"])
        description = "Anomaly detection that learns from healthy scans only. Research software, not a medical device."
        super().__init__(app_dir, studies, conf, "Nomaly", description, __version__)

    def init_infers(self) -> dict[str, InferTask]:
        """One task per bundle."""
        return {name: NomalyTask(StudyDetector(**settings)) for name, settings in self.models.items()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a task on a study of the store, of a session or of an upload; MONAI Label's own method would accept any
        path of the machine.

        Raises:
            HTTPException: 404 for an unknown model or image, 422 with the reason for a study that cannot be scored.
        """
        try:
            return self._infer(request, datastore or self.datastore())
        except NomalyError as error:
            remove_upload(request.get("image"))
            raise HTTPException(404 if isinstance(error, UnknownName) else 422, str(error)) from error

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """As `infer`: a study is never cut into tiles, and other paths are refused, too."""
        return self.infer(request, datastore)

    def _infer(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The values from which MONAI Label builds its answer."""
        model, image = request.get("model"), request.get("image")
        if not isinstance(model, str) or model not in self._infers:
            raise UnknownName(f"model must be one of {', '.join(self._infers)}, got {model!r}.")
        check_options(request)
        tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL
        if not is_plain(tag):  # a folder of labels
            raise NomalyError(not_plain("label_tag", tag))
        uploads = [tempfile.gettempdir(), settings.MONAI_LABEL_SESSION_PATH]
        place = place_of(image, datastore.get_image_uri, self.studies, uploads)
        file, params = self._infers[model]({**request, "image": place})
        label = file
        if request.get("save_label") and datastore.get_image_uri(image):
            label = datastore.save_label(image, file, tag, {"model": model, "params": params})
        return {"label": label, "tag": tag, "file": file, "params": params}

    def _download_dcmqi_tools(self) -> None:
        """Download nothing: MONAI Label would do so for DICOM stores, into this package, for output=dicom_seg only."""
