"""The golden images, and the kind of them that each bundle's shipped weights are tried on."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
IMAGES = {
    "ra_brain": "head",
    "ra_brain_flair": "head",
    "ra_chest": "chest",
    "ra_wrist": "wrist",
    "memmc_pneumonia": "chest",
    "memmc_covid": "chest",
    "memmc_colonoscopy": "colon",
}
