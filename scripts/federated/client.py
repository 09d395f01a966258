"""A site's part of a federated training by NVFlare, which runs it with the path of the site's settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import nvflare.client as flare
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.apis.fl_constant import FLMetaKey

from custom.errors import root_cause
from custom.federated.site import ERROR, SELECTION, DetectorAlgo, make_site


def answer(site: DetectorAlgo, received: flare.FLModel) -> flare.FLModel:
    """Metrics of the received weights, and the site's new weights; in the last round it only validates."""
    weights = ExchangeObject(weights=received.params)
    metrics = ranked(site.evaluate(weights).metrics) if received.current_round > 0 else None
    if received.current_round < received.total_rounds - 1:
        site.train(weights)
    meta = {FLMetaKey.NUM_STEPS_CURRENT_ROUND: site.training_slices}  # NVFlare's weight in the average
    return flare.FLModel(params=site.get_weights().weights, metrics=metrics, meta=meta)


def ranked(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics with the one by which NVFlare chooses the average: AUROC, and for equal AUROC the lower healthy error, as
    `nomaly train` chooses its epoch.
    """
    # Different AUROCs differ by more than this term.
    return {**metrics, SELECTION: metrics["synthetic_auroc"] - 1e-9 * metrics["healthy_error"]}


def main(settings: Path) -> None:
    """Answer the server until the training ends; an error is written to the file that the job reads."""
    flare.init()
    site = None
    while flare.is_running():
        received = flare.receive()
        if received is None:
            return
        try:
            site = site or make_site(
                rounds=received.total_rounds - 1,
                name=flare.get_site_name(),
                **json.loads(settings.read_text(encoding="utf-8")),
            )
            reply = answer(site, received)
        except Exception as error:
            settings.with_name(ERROR).write_text(root_cause(error), encoding="utf-8")
            raise
        flare.send(reply)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
