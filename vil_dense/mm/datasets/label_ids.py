"""Maps label ids between files and training, by what a data set says of itself (and a checkpoint of its data set)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

IGNORED = 255
"""The id that mmseg's data sets and transforms write for pixels without a class."""


def trained_ids(meta: Mapping[str, Any]) -> np.ndarray:
    """Returns the id in training of each id of a file, (256,): what mmseg's `LoadAnnotations` does.

    Args:
        meta: `reduce_zero_label` and `label_map` of mmseg's `metainfo`; either may be missing.
    """
    ids = np.arange(256)
    if meta.get("reduce_zero_label"):
        ids = np.where((ids == 0) | (ids == IGNORED), IGNORED, ids - 1)
    mapped = ids.copy()
    for old, new in _label_map(meta).items():
        mapped[ids == old] = new
    return mapped


def file_ids(meta: Mapping[str, Any], classes: int) -> np.ndarray:
    """Returns the id in files of each class, (classes,) uint8, or uint16 where one is larger than 255.

    Reading them back by `trained_ids` gives the class. If several ids become one class, the first of `label_map` is
    taken. Where files code classes by colours, the ids are the indices of the classes.
    """
    ids = np.arange(classes)
    for old, new in reversed(_label_map(meta).items()):
        if 0 <= new < classes:
            ids[new] = old
    ids += bool(meta.get("reduce_zero_label"))
    return ids.astype(np.uint8 if ids.max() < 256 else np.uint16)


def _label_map(meta: Mapping[str, Any]) -> dict[int, int]:
    return {} if meta.get("coding") == "colours" else meta.get("label_map") or {}
