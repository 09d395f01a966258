"""Put trained weights into a bundle, with their origin.

    python scripts/publish_weights.py ra_chest --weights RUN/models/model.pt --dataset_dir CXR --facts facts.json

Writes bundles/ra_chest/models/model.pt and provenance.json. The weights are rounded to half precision, then calibrated
and evaluated; if rounding changes the decision of any test study, the exact weights are published instead.
``facts.json`` describes the training: "data" (a list of {"name", "terms"}), "command", "commit", "seed", "hours" and
"hardware". Figures of earlier weights are removed from provenance and metadata: measure and write those of the new ones
with scripts/measure_results.py and scripts/write_figures.py.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from custom.commands.bundle import find_bundle, run_bundle
from custom.commands.from_weights import parameters_from_weights
from custom.commands.options import OptionParser
from custom.detector.weights import halved, read_tensors, save_tensors
from custom.errors import NomalyError, report_mistake
from custom.files import atomic_write
from custom.studies.datalist import datalist_hash

FACTS = ("data", "command", "commit", "seed", "hours", "hardware")


def publish(bundle: Path, weights: Path, data: str | None, facts: dict[str, Any], work: Path) -> dict[str, Any]:
    """Round, calibrate, evaluate, compare and write; returns the provenance.

    Raises:
        NomalyError: if a fact is missing, or the weights were made with other parameters than the bundle's.
    """
    if missing := [name for name in FACTS if name not in facts]:
        raise NomalyError(f"facts must give {', '.join(FACTS)}, but {', '.join(missing)} is missing: add it.")
    config = str(bundle / "configs" / "inference.json")
    if other := parameters_from_weights(bundle, [config], {"weights": str(weights)}):
        raise NomalyError(
            f"weights to publish must be made with the bundle's own parameters, but {weights} have "
            f"{', '.join(f'{name} {value}' for name, value in other.items())}: set these in variant.json, or train "
            "again."
        )
    exact, rounded = work / "exact.pt", work / "rounded.pt"
    network = calibrated(bundle, weights, data, exact)
    save_tensors(halved(network), work / "halved.pt")
    network = calibrated(bundle, work / "halved.pt", data, rounded)
    save_tensors(halved(network), rounded)  # the same weights: calibration wrote them with four bytes
    found, wanted = (evaluated(bundle, path, data, work / path.stem) for path in (rounded, exact))
    changed = changed_decisions(found, wanted)
    published = exact if changed else rounded
    precision = "float32" if changed else "learned weights in float16"
    models = bundle / "models"
    models.mkdir(exist_ok=True)
    with atomic_write(models / "model.pt", "wb") as file:
        file.write(published.read_bytes())
    provenance = {
        **{name: facts[name] for name in FACTS},
        "datalist": datalist_hash(data) if data else "the synthetic phantom that the bundle makes",
        "synthetic_training": data is None,
        "precision": f"{precision}, calibration in float64",
        "decisions_that_float16_changes": len(changed),
        "sha256": hashlib.sha256(published.read_bytes()).hexdigest(),
        "eval_metrics": {},  # nothing was measured with these yet
    }
    write_json(models / "provenance.json", provenance)
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    write_json(bundle / "configs" / "metadata.json", metadata | {"eval_metrics": {}})
    return provenance


def calibrated(bundle: Path, weights: Path, data: str | None, output: Path) -> Any:
    """Calibrate these weights into the file ``output``; returns the detector."""
    parameters = {"weights": str(weights), "dataset_dir": data, "into_weights": str(output), "overwrite": True}
    workflow = run_bundle(str(bundle), ["calibrate"], {name: value for name, value in parameters.items() if value})
    return workflow.parser.get_parsed_content("network")


def evaluated(bundle: Path, weights: Path, data: str | None, output: Path) -> dict[str, Any]:
    """Metrics of `nomaly evaluate`, without baselines."""
    parameters = {"weights": str(weights), "dataset_dir": data, "output_dir": str(output), "baselines": "none"}
    run_bundle(str(bundle), ["evaluate"], {name: value for name, value in parameters.items() if value})
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


def changed_decisions(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Names of test studies with different decisions in two evaluations."""
    decisions = {row["case"]: row["decision"] for row in wanted["scores"]}
    return [row["case"] for row in found["scores"] if row["decision"] != decisions[row["case"]]]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object in the format of the repository."""
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=4, ensure_ascii=False) + "\n")


def main() -> int:
    """Publish the weights of one bundle."""
    parser = OptionParser(description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="name under bundles/, or a path")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="model.pt of the training")
    parser.add_argument(
        "--dataset_dir",
        metavar="FOLDER",
        help="their data set: folder with datalist.json (default: a synthetic phantom)",
    )
    parser.add_argument(
        "--facts", type=Path, required=True, metavar="FILE", help="JSON file that describes the training"
    )
    options = parser.parse_args()
    try:
        read_tensors(options.weights)
        facts = json.loads(options.facts.read_text(encoding="utf-8"))
        with TemporaryDirectory() as work:
            provenance = publish(find_bundle(options.bundle), options.weights, options.dataset_dir, facts, Path(work))
    except Exception as error:
        report_mistake("publish_weights", error)
        return 2
    print(f"published, {provenance['precision']}; now measure: python scripts/measure_results.py --data DATA")
    return 0


if __name__ == "__main__":
    sys.exit(main())
