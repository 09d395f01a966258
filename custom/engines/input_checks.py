"""The input check of several studies at once; a failure concerns one study only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch

from custom.studies.items import Study
from custom.studies.privacy import failure


class InputChecker(Protocol):
    """Reasons not to score preprocessed studies (C, X, Y, Z); empty if they may be scored."""

    def reasons_of_file(self, image: torch.Tensor) -> list[str]:
        """Those that need no look at the pixels."""

    def reasons_of_images(self, images: torch.Tensor, codes: torch.Tensor | None = None) -> list[list[str]]:
        """Those that the pixels give, of studies (B, C, X, Y, Z); `codes` (B, L) are mean latent codes, if known."""


@contextmanager
def attempt(study: Study) -> Iterator[None]:
    """Record an exception as the failure of this study."""
    try:
        yield
    except Exception as error:
        study["error"] = failure(error, study)


def add_reasons(
    check: InputChecker, studies: Sequence[Study], x: torch.Tensor, codes: torch.Tensor | None = None
) -> None:
    """Add ``refusals`` to studies with the images x (B, C, X, Y, Z); those that have some are not checked again."""
    unchecked = [index for index, study in enumerate(studies) if not study.get("refusals")]
    if not unchecked:
        return
    try:
        reasons = check.reasons_of_images(chosen(x, unchecked), None if codes is None else chosen(codes, unchecked))
    except Exception:  # about one of them: each is checked on its own
        for index in unchecked:
            with attempt(studies[index]):
                code = None if codes is None else codes[index : index + 1]
                studies[index]["refusals"] = check.reasons_of_images(x[index : index + 1], code)[0]
    else:
        for index, found in zip(unchecked, reasons, strict=True):
            studies[index]["refusals"] = found


def chosen(values: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
    """Values (B, ...) at places; no copy if these are all."""
    return values if len(places) == len(values) else values[list(places)]
