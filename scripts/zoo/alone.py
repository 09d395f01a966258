"""Run a script or module with the code of a bundle, so that no other copy of it can be imported.

    python scripts/zoo/alone.py BUNDLE TARGET [ARGUMENTS]

TARGET is a Python file, or a module as after ``python -m``. Fails if any module of ``custom`` came from elsewhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
from pathlib import Path


def hide_other_copies() -> None:
    """Make ``custom`` impossible to import, whether it is installed for development or is on the path."""
    sys.path[:] = [entry for entry in sys.path if not (Path(entry or ".") / "custom").exists()]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
    importlib.invalidate_caches()
    if importlib.util.find_spec("custom") is not None:
        sys.exit("a package custom is installed: uninstall nomaly, or verify with another Python")


def outside_files(bundle: Path) -> list[str]:
    """Files of imported modules of ``custom`` outside of the bundle."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "custom"]
    files = [Path(module.__file__).resolve() for module in modules if getattr(module, "__file__", None)]
    return [str(file) for file in files if bundle.resolve() not in file.parents]


def main() -> None:
    """Run the target as if it had been started directly."""
    bundle, target, *words = sys.argv[1:]
    hide_other_copies()
    sys.path.insert(0, str(Path(bundle).resolve()))
    sys.argv = [target, *words]
    try:
        if target.endswith(".py"):
            sys.path.insert(0, str(Path(target).resolve().parent))
            runpy.run_path(target, run_name="__main__")
        else:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
    finally:
        if outside := outside_files(Path(bundle)):
            print(f"code from outside of the bundle was used: {', '.join(outside)}", file=sys.stderr)
            sys.exit(3)


if __name__ == "__main__":
    main()
