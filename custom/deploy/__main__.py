"""Start the application: ``python -m custom.deploy``, or a copy of this file beside custom/ in a container."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from custom.deploy.options import read_options
from custom.errors import NomalyError, report_mistake


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the application; 0 = done, 1 = some studies failed, 2 = user error, reported in one sentence."""
    # MONAI Deploy's operators log file names and patient data of the headers.
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("custom.deploy").setLevel(logging.WARNING)  # Nomaly's contain no patient data
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "CRITICAL")  # errors of operators are reported below
    try:
        options = read_options(arguments)
        try:
            from custom.deploy.application import NomalyApplication
        except ModuleNotFoundError as error:
            raise NomalyError(
                f"MONAI Deploy must be installed, but {error.name} is not: use scripts/monai_deploy.sh."
            ) from None
        from custom.commands.bundle import failures

        NomalyApplication(options).run()
        return int(failures(str(options.output)) > 0)
    except Exception as error:
        report_mistake("monai_deploy.sh", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
