"""Registers a data set of one's own pictures: it finds layout, split and classes by itself."""

import os
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmseg.registry import DATASETS

from vil_dense.mm.datasets.folders.class_rows import parse_rows, parse_value
from vil_dense.mm.datasets.folders.classes import Classes
from vil_dense.mm.datasets.folders.pairs import Pair
from vil_dense.mm.datasets.folders.split import read_splits
from vil_dense.mm.datasets.folders.survey import inspect_folder
from vil_dense.mm.datasets.segmentation import CheckedDataset


@DATASETS.register_module()
class PictureFolder(CheckedDataset):
    """Reads pictures and masks of a folder in any layout of `layouts.LAYOUTS`, with masks of any kind.

    It finds pairs, split and classes when it is made, and logs them. With `splits` and all of `classes`, `ignore` and
    `coding`, as `ViLRunner` sets them, it only reads the list. Pipelines load masks with `LoadMask`. `metainfo` has
    the usual keys, `label_map` with the class of each value in the files, and `coding`.

    Args:
        data_root: the folder; published models have none, and a test sets it.
        split: `train`, `val`, or `all` of both.
        splits: a JSON with the pairs of both, see `split.read_splits`.
        pictures, masks, classes, ignore, coding, split_by, val_share, split_seed: see `survey.inspect_folder`.
        metainfo: more that checkpoints keep.
        **options: see `BaseSegDataset`.

    Raises:
        FileNotFoundError, ValueError: the folder cannot be used; says what to do.
    """

    reports_skipped = True
    """Files that are left out were reported when the folder was inspected."""

    def __init__(
        self,
        data_root: str | None = None,
        split: str = "train",
        *,
        splits: str = "",
        pictures: str = "",
        masks: str = "",
        classes: str | list | None = None,
        ignore: list | None = None,
        coding: str | None = None,
        split_by: str | None = None,
        val_share: float = 0.2,
        split_seed: int = 0,
        metainfo: dict | None = None,
        lazy_init: bool = False,
        **options: Any,
    ) -> None:
        if not data_root:
            raise ValueError(
                "PictureFolder has no data_root, the folder of pictures and masks: a test of a published model takes "
                "it by --cfg-options test_dataloader.dataset.data_root=D"
            )
        if split not in ("train", "val", "all"):
            raise ValueError(f"split is 'train', 'val' or 'all', got {split!r}")
        if splits and isinstance(classes, list) and ignore is not None and coding:
            rows = parse_rows(classes, coding, "classes")
            named = Classes(rows, [parse_value(value, coding == "colours", "ignore") for value in ignore], coding)
            pairs = read_splits(Path(splits), Path(data_root), [])
        else:
            folder = inspect_folder(
                data_root,
                pictures=pictures,
                masks=masks,
                classes=classes,
                ignore=ignore,
                coding=coding,
                split_by=split_by,
                val_share=val_share,
                split_seed=split_seed,
            )
            named, pairs = folder.classes, folder.splits
            for line in folder.lines:
                print_log(line, "current")
        self.pairs = [*pairs["train"], *pairs["val"]] if split == "all" else pairs[split]
        meta = dict(classes=tuple(row.name for row in named.classes), palette=named.palette)
        super().__init__(data_root=data_root, metainfo={**(metainfo or {}), **meta}, lazy_init=True, **options)
        self.label_map = named.label_map
        self._metainfo.update(label_map=self.label_map, coding=named.coding)
        self.data_prefix = dict(img_path=common_folder(self.pairs))
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        common = dict(label_map=self.label_map, coding=self._metainfo["coding"], reduce_zero_label=False)
        return [
            dict(common, img_path=str(pair.picture), seg_map_path=str(pair.mask), seg_fields=[]) for pair in self.pairs
        ]


def common_folder(pairs: list[Pair]) -> str:
    """Returns the folder that holds the pictures of all pairs."""
    return os.path.commonpath([pair.picture.parent for pair in pairs])
