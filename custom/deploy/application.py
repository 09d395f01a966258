"""The MONAI Deploy application: DICOM in; a bundle; DICOM SEG, SR and anomaly map out."""

from __future__ import annotations

import json
import sys

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application

from custom.deploy.operators import SELECTED, STUDIES, UNREADABLE, NomalyOperator, SeriesFinder, SeriesSelector
from custom.deploy.options import Options


class NomalyApplication(Application):
    """Score the series of a folder.

    Args:
        wanted: options of the run.
    """

    def __init__(self, wanted: Options) -> None:
        self.wanted = wanted
        super().__init__(sys.argv[:1])  # Holoscan would read the options as its own

    def compose(self) -> None:
        """Connect finder, selector and bundle."""
        rules = {"selections": [{"name": self.wanted.bundle.name, "conditions": self.wanted.series}]}
        finder = SeriesFinder(self, CountCondition(self, 1), input_folder=self.wanted.input, name="finder")
        selector = SeriesSelector(self, rules=json.dumps(rules), all_matched=True, name="selector")
        nomaly = NomalyOperator(self, self.wanted, name="nomaly")
        self.add_flow(finder, selector, {(STUDIES, STUDIES)})
        self.add_flow(selector, nomaly, {(SELECTED, SELECTED)})
        self.add_flow(finder, nomaly, {(STUDIES, STUDIES), (UNREADABLE, UNREADABLE)})
