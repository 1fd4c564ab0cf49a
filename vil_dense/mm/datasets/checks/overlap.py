"""Refuses a validation on pictures or volumes that are also trained on."""

import os
from collections.abc import Iterator, Sized

from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from vil_dense.mm.datasets.wrappers import parts

MOST_FILES = 200_000
"""Larger data sets are not compared: that would take minutes. Class folders of ImageNet are such."""


def check_overlap(train: Dataset, val: Dataset) -> None:
    """Compares the files of two data sets, through MMEngine's wrappers.

    Raises:
        ValueError: some are in both; names them and how to allow it.
    """
    if any(isinstance(data, Sized) and len(data) > MOST_FILES for data in (train, val)):
        return
    trained = set(files_of(train))
    if both := sorted({path for path in files_of(val) if path in trained}):
        more = f" and {len(both) - 3} more" if len(both) > 3 else ""
        raise ValueError(
            f"{len(both)} files are in the training and in the validation data, {', '.join(both[:3])}{more}: a score "
            "on them says nothing of new ones; if it is meant, set label_check.allow_overlap=True"
        )


def files_of(dataset: Dataset) -> Iterator[str]:
    """Yields the real paths of the pictures or volumes of a data set; nothing for other kinds."""
    for part in parts(dataset):
        if isinstance(part, BaseDataset):
            found = (part.get_data_info(index).get("img_path") for index in range(len(part)))
            yield from (os.path.realpath(path) for path in found if path)
        else:
            yield from (os.path.realpath(path) for path in getattr(part, "image_files", ()))
