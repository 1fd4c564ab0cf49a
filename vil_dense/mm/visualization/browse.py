"""Draws what training sees: pictures after the pipeline, with their masks or classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, MODELS
from PIL import Image, ImageDraw
from torch.utils.data import Dataset, default_collate

from vil_dense.mm.datasets.label_ids import IGNORED
from vil_dense.mm.datasets.seeding import SampleKey
from vil_dense.mm.visualization import draw

SIDE = 224
"""Width and height in px of a picture on a sheet."""
LINE = 12
"""Height in px of a line of text."""
LINES = 4
"""Lines of text below the pictures of a sample: its name, and its classes."""
GAP = 8

Colour = tuple[int, int, int]


@dataclass
class Sample:
    """Holds what a sheet shows of a sample.

    Args:
        pictures: (H, W, 3) uint8 RGB each, drawn side by side.
        name: of its file.
        classes: the classes in it, each with the colour of its mask, if there is one.
    """

    pictures: list[np.ndarray]
    name: str
    classes: Sequence[tuple[str, Colour | None]]


def segmentation_samples(dataset: Dataset, indices: Sequence[int]) -> Iterator[Sample]:
    """Yields samples of an mmseg data set, as the pipeline gives them: the picture, and its mask over it."""
    meta: Any = getattr(dataset, "metainfo", {})
    names, palette = meta.get("classes") or (), meta.get("palette") or ()
    for index in indices:
        packed = dataset[SampleKey(index)]
        picture = packed["inputs"].movedim(0, -1).numpy()[..., ::-1]
        mask = packed["data_samples"].gt_sem_seg.data[0].numpy().astype(np.int64)
        ids, counts = np.unique(mask, return_counts=True)
        order = ids[np.argsort(-counts)]
        named = {**dict(enumerate(names)), IGNORED: "ignored"}
        classes = [(named.get(id_, f"id {id_}, no class"), _colour(palette, id_)) for id_ in order.tolist()]
        name = f"{Path(packed['data_samples'].img_path).name}, {picture.shape[0]} x {picture.shape[1]}"
        yield Sample([picture, draw.overlay(picture, mask, palette)], name, classes)


def unlabelled_samples(dataset: BaseDataset, indices: Sequence[int]) -> Iterator[Sample]:
    """Yields samples of a pretraining without labels: the picture as the pipeline gives it."""
    for index in indices:
        picture = dataset[SampleKey(index)]["inputs"].movedim(0, -1).numpy()
        yield Sample([picture], Path(dataset.get_data_info(index)["img_path"]).name, [])


def classifier_samples(cfg: Config, dataset: Dataset, indices: Sequence[int]) -> Iterator[Sample]:
    """Yields samples of a classifier, of one batch: pictures as in the test, augmented, and mixed with others."""
    train, meta = cfg.train_dataloader.dataset, getattr(dataset, "metainfo", {})
    keys = [SampleKey(index) for index in indices]
    tested = DATASETS.build({**train, "pipeline": cfg.val_dataloader.dataset.pipeline})
    plain, augmented = (default_collate([part[key] for key in keys]) for part in (tested, dataset))
    preprocessor = MODELS.build({**cfg.model.data_preprocessor, "num_classes": cfg.model.num_classes})
    mixed = preprocessor(augmented, training=True)["inputs"]
    if preprocessor.normalises:
        mixed = mixed * preprocessor.std + preprocessor.mean
    stages = plain["inputs"], augmented["inputs"], mixed.round().clamp(0, 255).byte()
    rows = [stage.movedim(1, -1).numpy() for stage in stages]
    for number, index in enumerate(indices):
        info = dataset.get_data_info(index)  # type: ignore[attr-defined]
        classes = [(meta["classes"][info["label"]], None)]
        yield Sample([row[number] for row in rows], Path(info["img_path"]).name, classes)


def sheet(samples: Sequence[Sample], columns: int = 2) -> np.ndarray:
    """Draws samples on white, (H, W, 3) uint8: pictures, below them the name of the file and the classes."""
    most = max(len(sample.pictures) for sample in samples)
    width, height = most * (SIDE + GAP), SIDE + (LINES + 1) * LINE
    rows = -(-len(samples) // columns)
    canvas = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    for number, sample in enumerate(samples):
        row, column = divmod(number, columns)
        left, top = GAP + column * (width + GAP), GAP + row * (height + GAP)
        for place, picture in enumerate(sample.pictures):
            canvas.paste(_fitted(picture), (left + place * (SIDE + GAP), top))
        _write(ImageDraw.Draw(canvas), sample, left, top + SIDE + 2, left + width - GAP)
    return np.asarray(canvas)


def _write(canvas: ImageDraw.ImageDraw, sample: Sample, left: int, top: int, right: int) -> None:
    """Writes name and classes, a square of its colour before each; what does not fit is counted."""
    name = sample.name.encode("ascii", "replace").decode()
    canvas.text((left, top), name, fill="black", font_size=LINE - 2)
    x, y = left, top + LINE
    for number, (words, colour) in enumerate(sample.classes):
        words = words.encode("ascii", "replace").decode()
        length = int(canvas.textlength(words, font_size=LINE - 2)) + LINE + GAP
        if x > left and x + length > right:
            x, y = left, y + LINE
        if y > top + (LINES - 1) * LINE:
            canvas.text((x, y), f"and {len(sample.classes) - number} more", fill="black", font_size=LINE - 2)
            return
        if colour:
            canvas.rectangle((x, y + 2, x + LINE - 4, y + LINE - 2), fill=colour, outline="black")
        canvas.text((x + LINE, y), words, fill="black", font_size=LINE - 2)
        x += length


def _fitted(picture: np.ndarray) -> Image.Image:
    """Scales a picture to `SIDE`; pixels of small ones stay visible."""
    scale = SIDE / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    return Image.fromarray(np.ascontiguousarray(picture)).resize(size, kind)


def _colour(palette: Sequence[Sequence[int]], id_: int) -> Colour:
    red, green, blue = palette[id_] if id_ < len(palette) else draw.UNLABELLED
    return red, green, blue
