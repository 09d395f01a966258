"""Start MONAI Label's server with our bundles, on this machine alone."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from custom.errors import NomalyError, report_mistake, root_cause
from custom.label.guard import Guard
from custom.label.options import HOST, WEB, Options, read_options
from custom.label.uploads import SERVED_SUFFIXES


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stopped; 2 = a mistake of the user, said in one sentence."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # What is uploaded and written on the way lies in a folder of its own, which is removed at the end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    before = tempfile.tempdir
    try:
        options = read_options(arguments)
        with tempfile.TemporaryDirectory(prefix="nomaly-label-") as passing:
            tempfile.tempdir = passing
            serve(options, Path(passing))
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        report_mistake("monai_label.sh", error)
        return 2
    finally:
        tempfile.tempdir = before
    return 0


def serve(options: Options, passing: Path) -> None:
    """Load the models, then serve.

    Args:
        options: what to serve.
        passing: folder for uploads and sessions.

    Raises:
        NomalyError: if weights cannot be loaded, or the environment lacks MONAI Label.
    """
    models = {name: [str(model.bundle), str(model.weights)] for name, model in options.models.items()}
    # By the environment, so that the processes of batch requests know them as well.
    os.environ |= {
        "TMPDIR": str(passing),
        "MONAI_LABEL_APP_DIR": str(Path(__file__).parent),
        "MONAI_LABEL_APP_CONF": json.dumps({"models": json.dumps(models)}),
        "MONAI_LABEL_STUDIES": options.studies,
        "MONAI_LABEL_SERVER_PORT": str(options.port),
        "MONAI_LABEL_SESSION_PATH": str(passing / "sessions"),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{suffix}" for suffix in SERVED_SUFFIXES]),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(passing / "dicom"),
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": "{}",  # MONAI Label's own shows CT alone
    }
    try:
        import uvicorn
        from monailabel.config import settings
        from monailabel.interfaces.utils.app import app_instance
    except ModuleNotFoundError as error:
        raise NomalyError(
            f"MONAI Label must be installed, but {error.name} is not: use scripts/monai_label.sh."
        ) from None
    # MONAI Label's own default lets any web page that the user has open ask for images. Read from the environment, they
    # would end in a slash, which no origin does.
    settings.MONAI_LABEL_CORS_ORIGINS = [f"http://{host}:{options.port}" for host in (HOST, "localhost")]
    app_instance()
    app = guarded_app()
    logging.getLogger("timeloop").disabled = True  # says that it runs
    where = options.studies if options.studies.startswith(WEB) else f"studies of {options.studies}"
    print(f"Serving {', '.join(models)} for {where} at http://{HOST}:{options.port} (stop: Ctrl-C)", flush=True)
    uvicorn.run(app, host=HOST, port=options.port, log_level="warning")


def guarded_app() -> Any:
    """MONAI Label's FastAPI app, which says what is wrong where its own answers "Internal Server Error"."""
    from fastapi.responses import JSONResponse
    from monailabel.app import app
    from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

    def answer(status: int, words: str) -> Callable[[Any, Exception], JSONResponse]:
        """Handler of an exception."""
        return lambda _, error: JSONResponse(
            {"detail": f"{words}: {getattr(error, 'msg', None) or root_cause(error)}."}, status
        )

    app.add_middleware(Guard)
    app.add_exception_handler(ImageNotFoundException, answer(404, "/datastore/?output=all lists the images"))
    app.add_exception_handler(LabelNotFoundException, answer(404, "/datastore/?output=all lists the labels"))
    app.add_exception_handler(json.JSONDecodeError, answer(422, "params must be JSON"))
    app.add_exception_handler(Exception, answer(500, "the request could not be done"))  # and the log tells where
    return app


if __name__ == "__main__":
    sys.exit(main())
