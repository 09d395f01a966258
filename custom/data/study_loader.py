"""Studies one after the other, prepared for the network; one that cannot be is handed on with its reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset
from torch.utils.data import DataLoader

from custom.errors import NomalyError
from custom.studies.privacy import failure


class StudyDataset(Dataset):
    """Studies, preprocessed one at a time; one that cannot be is handed on with its reason instead of ending the run.

    Args:
        data: items with at least ``image`` and ``case``.
        transform: preprocessing to ``image`` (C, X, Y, Z).
        cache: keep prepared studies in memory, for data that are gone through many times.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable, cache: bool = False) -> None:
        super().__init__(data, transform)
        self._cache: dict[int, dict[str, Any]] | None = {} if cache else None

    def _transform(self, index: int) -> dict[str, Any]:
        if self._cache is None:
            return self._prepare(self.data[index])
        if index not in self._cache:
            self._cache[index] = self._prepare(self.data[index])
        return self._cache[index]

    def _prepare(self, item: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            prepared = dict(self.transform(item))
        except Exception as error:  # whatever a reader raises is this study's failure, not the batch's
            prepared = {**item, "error": failure(error, item)}
        return {**prepared, "source": item["image"], "seconds": time.perf_counter() - started}


class StudyLoader(DataLoader):
    """Loader of lists of studies, each as it is: they differ in their number of slices.

    Args:
        dataset: of studies.
        num_workers: processes that prepare studies ahead.
        batch_size: studies in a list, at most.

    Raises:
        NomalyError: if there are less than no processes, or less than one study in a list.
    """

    def __init__(self, dataset: Dataset, num_workers: int = 0, batch_size: int = 1) -> None:
        if num_workers < 0 or batch_size < 1:
            raise NomalyError(
                f"num_workers must be 0 or more and studies_per_batch at least 1, got {num_workers} and {batch_size}."
            )
        # One batch ahead for each worker: volumes are large.
        ahead = {"prefetch_factor": 1} if num_workers else {}
        super().__init__(dataset, batch_size=batch_size, num_workers=num_workers, collate_fn=list, **ahead)
