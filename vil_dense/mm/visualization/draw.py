"""Draws label maps and curves. Arrays are (H, W, 3) uint8 RGB, labels (H, W) integers."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vil_dense.files import write_whole

UNLABELLED = (128, 128, 128)


def save_png(path: Path, array: np.ndarray) -> None:
    """Writes a uint8 array, (H, W) or (H, W, 3), as PNG."""
    write_whole(path, lambda part: Image.fromarray(array).save(part))


def save_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence]) -> None:
    """Writes a table as CSV; floats with two decimals."""

    def write(part: Path) -> None:
        with part.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(header)
            table.writerows([f"{cell:.2f}" if isinstance(cell, float) else cell for cell in row] for row in rows)

    write_whole(path, write)


def paint(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the colours of a label map; ids outside the palette (unlabelled) are grey."""
    table = np.array([*palette, UNLABELLED], dtype=np.uint8)
    return table[np.where((label >= 0) & (label < len(palette)), label, len(palette))]


def overlay(image: np.ndarray, label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Blends the picture with the colours of its label map in equal parts."""
    return ((image.astype(np.uint16) + paint(label, palette)) // 2).astype(np.uint8)


def panel(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Puts picture, truth and prediction side by side with white gaps."""
    gap = np.full((image.shape[0], 4, 3), 255, dtype=np.uint8)
    return np.hstack([image, gap, paint(truth, palette), gap, paint(prediction, palette)])


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
