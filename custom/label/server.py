"""Start MONAI Label's server with our bundles, on this machine only."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from custom.errors import NomalyError, report_mistake, root_cause
from custom.label.guard import Guard
from custom.label.options import HOST, WEB, Options, read_options
from custom.label.uploads import SERVED_SUFFIXES

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stopped; 2 = a mistake of the user, reported in one sentence."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Uploads and temporary files are in a folder of their own, which is removed at the end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    before = tempfile.tempdir
    try:
        options = read_options(arguments)
        with tempfile.TemporaryDirectory(prefix="nomaly-label-") as temporary:
            tempfile.tempdir = temporary
            serve(options, Path(temporary))
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        report_mistake("monai_label.sh", error)
        return 2
    finally:
        tempfile.tempdir = before
    return 0


def serve(options: Options, temporary: Path) -> None:
    """Load the models, then serve.

    Args:
        options: what to serve.
        temporary: folder for uploads and sessions.

    Raises:
        NomalyError: if weights cannot be loaded, or the environment lacks MONAI Label.
    """
    models = {name: model.settings() for name, model in options.models.items()}
    # In the environment, so that the processes of batch requests have them, too.
    os.environ |= {
        "TMPDIR": str(temporary),
        "MONAI_LABEL_APP_DIR": str(Path(__file__).parent),
        "MONAI_LABEL_APP_CONF": json.dumps({"models": json.dumps(models)}),
        "MONAI_LABEL_STUDIES": options.studies,
        "MONAI_LABEL_SERVER_PORT": str(options.port),
        "MONAI_LABEL_SESSION_PATH": str(temporary / "sessions"),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{suffix}" for suffix in SERVED_SUFFIXES]),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(temporary / "dicom"),
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": "{}",  # MONAI Label's own default shows only CT
    }
    try:
        import uvicorn
        from monailabel.config import settings
        from monailabel.interfaces.utils.app import app_instance
    except ModuleNotFoundError as error:
        raise NomalyError(
            f"MONAI Label must be installed, but {error.name} is not: use scripts/monai_label.sh."
        ) from None
    # MONAI Label's own default allows any web page that the user has open to request images. Read from the environment,
    # the origins would end in a slash, which never matches.
    settings.MONAI_LABEL_CORS_ORIGINS = [f"http://{host}:{options.port}" for host in (HOST, "localhost")]
    app_instance()
    app = guarded_app()
    logging.getLogger("timeloop").disabled = True  # it only logs that it runs
    source = options.studies if options.studies.startswith(WEB) else f"studies in {options.studies}"
    print(f"Serving {', '.join(models)} for {source} at http://{HOST}:{options.port} (stop: Ctrl-C)", flush=True)
    uvicorn.run(app, host=HOST, port=options.port, log_level="warning")


def guarded_app() -> FastAPI:
    """MONAI Label's FastAPI app, which gives the reason where it would answer "Internal Server Error"."""
    from fastapi.responses import JSONResponse
    from monailabel.app import app
    from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

    def answer(status: int, words: str) -> Callable[[Request, Exception], Response]:
        """Handler of an exception."""
        return lambda _, error: JSONResponse(
            {"detail": f"{words}: {getattr(error, 'msg', None) or root_cause(error)}."}, status
        )

    app.add_middleware(Guard)
    app.add_exception_handler(ImageNotFoundException, answer(404, "/datastore/?output=all lists the images"))
    app.add_exception_handler(LabelNotFoundException, answer(404, "/datastore/?output=all lists the labels"))
    app.add_exception_handler(json.JSONDecodeError, answer(422, "params must be JSON"))
    app.add_exception_handler(Exception, answer(500, "the request failed"))  # the log has the traceback
    return app


if __name__ == "__main__":
    sys.exit(main())
