"""Time the start of the command line and of one detection against the imports that they need.

python scripts/benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import ROOT, in_turns, options, parsed, report, smooth_images  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, compare, print and write."""
    parser = options(__doc__)
    parser.add_argument("--bundle", default="ra_chest", help="name of a bundle (ra_chest)")
    args = parsed(parser, arguments)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.fromarray((smooth_images(1, 1, 224)[0, 0] * 255).byte().numpy()).save(image)
        detect = ["-m", "custom.cli", "detect", args.bundle, str(image), "--output", f"{folder}/out", "--overwrite"]

        def python(*words: str) -> None:
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)

        helps = {"python -c pass": lambda: python("-c", "pass"), "help": lambda: python("-m", "custom.cli", "--help")}
        studies = {
            "import torch, monai": lambda: python("-c", "import torch, monai"),
            "detection of one image": lambda: python(*detect, "--device", f"$torch.device('{args.device}')"),
        }
        found = in_turns("nomaly --help", helps, args)
        if not args.smoke:
            found += in_turns("nomaly detect of one image", studies, args)
    report("startup", found, args)


if __name__ == "__main__":
    main()
