"""Writes small folders of pictures and masks in public layouts, with masks of several kinds."""

from pathlib import Path

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image

PIPELINE = [dict(type="LoadImageFromFile"), dict(type="LoadMask"), dict(type="PackSegInputs")]
SIZE = (12, 16)
SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png", ".tif")
"""Endings of the pictures, in turn."""
COLOURS = np.array([[0, 0, 0], [0, 0, 128], [128, 0, 0]], np.uint8)
CODINGS = ("0/127/255", "colours", "palette", "16 bits", "0..2 and 255")
LAYOUTS = {
    "splits below": ("images/{split}/{name}", "masks/{split}/{name}"),
    "splits above": ("{split}/imgs/{name}", "{split}/labels/{name}"),
    "lists": ("images/{name}", "annotations/{name}"),
    "voc": ("JPEGImages/{name}", "SegmentationClass/{name}"),
    "cityscapes": ("leftImg8bit/{split}/town/{name}_leftImg8bit", "gtFine/{split}/town/{name}_gtFine_labelTrainIds"),
    "coco": ("images/{split}2017/{name}", "annotations/{split}2017/{name}_labelTrainIds"),
    "flat": ("pictures/{name}", "masks/{name}_mask"),
}
"""Paths of pictures and masks, without endings."""
LISTS = {"lists": "{split}.txt", "voc": "ImageSets/Segmentation/{split}.txt"}


def class_map() -> np.ndarray:
    """Returns a map of the classes 0, 1 and 2 in vertical bands."""
    return np.arange(SIZE[1]).repeat(SIZE[0]).reshape(SIZE[::-1]).T * 3 // SIZE[1]


def mask_of(coding: str) -> Image.Image:
    """Returns the mask of `class_map` in one of `CODINGS`."""
    classes = class_map().astype(np.uint8)
    if coding == "colours":
        return Image.fromarray(COLOURS[classes])
    if coding == "16 bits":
        return Image.fromarray(np.array([7, 300, 40000], np.uint16)[classes])
    if coding == "palette":
        mask = Image.fromarray(classes)
        mask.putpalette(COLOURS.ravel().tolist())
        return mask
    if coding == "0..2 and 255":
        classes[0] = 255
        return Image.fromarray(classes)
    return Image.fromarray(np.array([0, 127, 255], np.uint8)[classes])


def write_folder(root: Path, layout: str = "splits below", coding: str = "0/127/255") -> Path:
    """Writes five pictures of noise to train, p0 to p4, and two to validate, q0 and q1; returns `root`."""
    rng = np.random.default_rng(0)
    names = {"train": [f"p{number}" for number in range(5)], "val": ["q0", "q1"]}
    for split, listed in names.items():
        for number, name in enumerate(listed):
            picture, mask = (root / path.format(split=split, name=name) for path in LAYOUTS[layout])
            for path in (picture, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            noise = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
            noise.save(picture.with_name(picture.name + SUFFIXES[number % len(SUFFIXES)]))
            mask_of(coding).save(mask.with_name(mask.name + ".png"))
        if layout in LISTS:
            file = root / LISTS[layout].format(split=split)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{name}\n" for name in listed))
    return root


def build(root: Path, split: str = "train", **options: object) -> BaseSegDataset:
    """Builds a `PictureFolder` of a split."""
    part = dict(type="PictureFolder", data_root=str(root), split=split, pipeline=PIPELINE)
    return DATASETS.build(dict(serialize_data=False) | part | options)  # which would collect garbage each time


def label_of(dataset: BaseSegDataset, index: int = 0) -> np.ndarray:
    """Returns the classes that the pipeline gives for a pair, (H, W)."""
    return dataset[index]["data_samples"].gt_sem_seg.data[0].numpy()
