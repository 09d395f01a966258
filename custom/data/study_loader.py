"""Studies prepared for the network, one at a time; a study that cannot be prepared is passed on with the reason."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import cast

from monai.data import Dataset
from torch.utils.data import DataLoader, Sampler

from custom.errors import NomalyError
from custom.studies.formats import ITK_SUFFIXES, NIBABEL_SUFFIXES
from custom.studies.items import Study, StudyItem
from custom.studies.privacy import failure

SMALL_FILE, SMALL_VOLUME = 16 * 2**20, 2**20  # bytes; volumes are compressed, and a radiograph has some 15 MB


class StudyDataset(Dataset):
    """Studies, preprocessed one at a time; one that fails is passed on with its ``error`` instead of ending the run.

    Args:
        data: listed studies.
        transform: preprocessing to ``image`` (C, X, Y, Z).
        cache: keep prepared studies in memory, for repeated passes.
    """

    def __init__(self, data: Sequence[StudyItem], transform: Callable, cache: bool = False) -> None:
        super().__init__(data, transform)
        self._cache: dict[int, Study] | None = {} if cache else None

    def _transform(self, index: int) -> Study:
        if self._cache is None:
            return self._prepare(self.data[index])
        if index not in self._cache:
            self._cache[index] = self._prepare(self.data[index])
        return self._cache[index]

    def _prepare(self, item: StudyItem) -> Study:
        started = time.perf_counter()
        try:
            prepared = cast(Study, dict(self.transform(item)))
        except Exception as error:  # whatever a reader raises concerns this study only, not the batch
            prepared = cast(Study, {**item, "error": failure(error, item)})
        return {**prepared, "source": item["image"], "seconds": time.perf_counter() - started}


class StudyBatches(Sampler[list[int]]):
    """Positions of the studies of each list that a StudyLoader gives, in order.

    Neighbours share a list, except a study that may be a large volume, see :func:`is_large`: it has a list of its own,
    so that memory does not hold several of them.

    Args:
        items: listed studies.
        batch_size: largest number of studies in a list.
    """

    def __init__(self, items: Sequence[StudyItem], batch_size: int) -> None:
        self.batches: list[list[int]] = []
        shared = False
        for index, item in enumerate(items):
            small = not is_large(item)
            if shared and small and len(self.batches[-1]) < batch_size:
                self.batches[-1].append(index)
            else:
                self.batches.append([index])
            shared = small

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def is_large(item: StudyItem) -> bool:
    """Whether a study may need much memory: several files, a folder, or a large file, above all of a volume format."""
    source = item["image"]
    files = [source] if isinstance(source, (str, PathLike)) else source
    if not isinstance(files, Sequence):  # in memory already
        return False
    if len(files) != 1 or os.path.isdir(files[0]):
        return True
    volume = str(files[0]).lower().endswith((*NIBABEL_SUFFIXES, *ITK_SUFFIXES))
    try:
        return os.path.getsize(files[0]) > (SMALL_VOLUME if volume else SMALL_FILE)
    except OSError:  # its reader will report it
        return False


class StudyLoader(DataLoader):
    """Loader of lists of studies, not stacked: studies differ in their number of slices.

    Args:
        dataset: a StudyDataset.
        num_workers: processes that prepare studies ahead.
        batch_size: largest number of studies in a list, see StudyBatches.

    Raises:
        NomalyError: if ``num_workers`` is negative or ``batch_size`` below 1.
    """

    def __init__(self, dataset: Dataset, num_workers: int = 0, batch_size: int = 1) -> None:
        if num_workers < 0 or batch_size < 1:
            raise NomalyError(
                f"num_workers must be 0 or more and studies_per_batch at least 1, got {num_workers} and {batch_size}."
            )
        super().__init__(
            dataset,
            batch_sampler=StudyBatches(dataset.data, batch_size),
            num_workers=num_workers,
            collate_fn=list,
            prefetch_factor=1 if num_workers else None,  # one batch ahead per worker: volumes are large
        )
