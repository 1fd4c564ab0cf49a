"""Finds the data sets within the wrappers of MMEngine (`ConcatDataset`, `RepeatDataset`, ...), built or in a config."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset


def parts(dataset: Dataset) -> Iterator[Any]:
    """Yields the data sets that MMEngine's wrappers (`ConcatDataset`, `RepeatDataset`, ...) hold."""
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if isinstance(dataset, BaseDataset) or inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from parts(part)


def config_parts(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yields the configs of the data sets within wrappers."""
    inner = dataset.get("datasets") or [dataset.get("dataset")]
    if inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from config_parts(part)
