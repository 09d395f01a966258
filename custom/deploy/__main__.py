"""Start the application: ``python -m custom.deploy``, or a copy of this file beside custom/ in a container."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from custom.deploy.options import read_options
from custom.errors import NomalyError, report_mistake


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 = done, 1 = some studies failed, 2 = a mistake of the user, said in one sentence."""
    # MONAI Deploy's operators log names of files and what the headers tell of the patient.
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("custom.deploy").setLevel(logging.WARNING)  # ours name nobody
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "CRITICAL")  # an operator's error comes here as it is
    try:
        options = read_options(arguments)
        try:
            from custom.deploy.application import NomalyApplication
        except ModuleNotFoundError as error:
            raise NomalyError(
                f"MONAI Deploy must be installed, but {error.name} is not: use scripts/monai_deploy.sh."
            ) from None
        from custom.commands.bundle import exit_code

        NomalyApplication(options).run()
        return exit_code(str(options.output))
    except Exception as error:
        report_mistake("monai_deploy.sh", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
