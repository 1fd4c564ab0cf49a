"""Draws label maps and curves. Arrays are (H, W, 3) uint8 RGB, labels (H, W) integers."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vil_dense.files import write_whole

UNLABELLED = (128, 128, 128)


def paint(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the colours of a label map; ids outside the palette (unlabelled) are grey."""
    table = np.array([*palette, UNLABELLED], dtype=np.uint8)
    return table[np.where((label >= 0) & (label < len(palette)), label, len(palette))]


def overlay(image: np.ndarray, label: np.ndarray, palette: Sequence[Sequence[int]], opacity: float = 0.5) -> np.ndarray:
    """Blends the picture with the colours of its label map; `opacity` is the part of the colours, 0 to 1.

    Pixels of a black class, as a background often is, and of ids outside the palette show the picture alone.

    Raises:
        ValueError: the opacity is not in 0..1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"an opacity is in 0..1, got {opacity}")
    visible = np.array([any(colour) for colour in palette] + [False])
    known = np.where((label >= 0) & (label < len(palette)), label, len(palette))
    weight = np.round(256 * opacity * visible).astype(np.uint16)[known][..., None]
    blended = image * (256 - weight) + paint(label, palette) * weight
    return (blended // 256).astype(np.uint8)


def add_legend(
    image: np.ndarray, label: np.ndarray, classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> np.ndarray:
    """Adds columns on the right with colour and name of the classes that occur in the label map, the largest first."""
    size = min(max(image.shape[0] // 40, 11), 40)
    font, line = ImageFont.load_default(size), 3 * size // 2
    counts = np.bincount(label[(label >= 0) & (label < len(classes))].ravel(), minlength=len(classes))
    shown = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
    rows = max(image.shape[0] // line, 1)
    columns = [shown[start : start + rows] for start in range(0, len(shown), rows)]
    for column in columns:
        width = 3 * size + math.ceil(max(font.getlength(classes[index]) for index in column))
        legend = Image.new("RGB", (width, image.shape[0]), "white")
        drawing = ImageDraw.Draw(legend)
        for row, index in enumerate(column):
            top = row * line + size // 4
            drawing.rectangle((size // 2, top, 3 * size // 2, top + size), tuple(palette[index]), "black")
            drawing.text((2 * size, top + size // 2), classes[index], "black", font, anchor="lm")
        image = np.hstack([image, np.asarray(legend)])
    return image


def save_labels(path: Path, label: np.ndarray, ids: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """Writes a label map of ids, (H, W) uint8, as a PNG with the colour of each class; other ids are grey.

    Ids of 16 bits are written without colours, since a palette has 256 entries.

    Args:
        path: of the PNG; its pixels hold the ids, and a palette says how they are shown.
        label: ids of the data set's files.
        ids: the id of each class.
        palette: the colour of each class.
    """
    picture = Image.fromarray(label)
    if label.dtype == np.uint8:
        colours = np.full((256, 3), UNLABELLED, np.uint8)
        colours[ids] = palette
        picture.putpalette(colours.tobytes())
    write_whole(path, picture.save)


def panel(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Puts picture, truth and prediction side by side with white gaps."""
    return side_by_side([image, paint(truth, palette), paint(prediction, palette)])


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Puts pictures of the same height side by side with white gaps."""
    gap = np.full((pictures[0].shape[0], 4, 3), 255, dtype=np.uint8)
    return np.hstack([part for picture in pictures for part in (gap, picture)][1:])


def enlarge(picture: np.ndarray, least_px: int) -> np.ndarray:
    """Repeats the pixels of a picture (H, W, 3) by the least factor that makes its long side `least_px` or more."""
    factor = math.ceil(least_px / max(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def stack(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks panels vertically, padded with white to the widest."""
    width = max(part.shape[1] for part in panels)
    rows = [np.pad(part, ((0, 4), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in panels]
    return np.vstack(rows)


def save_curves(path: Path, train: dict[int, float], val: dict[int, float], metric: str) -> None:
    """Plots loss and validation metric against the step, as one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, curve, name, style in zip(
        figure.subplots(1, 2), (train, val), ("loss", metric), ("-", "o-"), strict=True
    ):
        axes.plot(list(curve), list(curve.values()), style)
        axes.set(xlabel="step", title=name)
        axes.grid(alpha=0.3)
    write_whole(path, lambda part: figure.savefig(part, dpi=120))
