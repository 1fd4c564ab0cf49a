"""Reads a case; the only reader of training, validation, prediction, checks and bundle."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from vil_dense.medical.datalists.datalist import Case
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.io.volumes import check_same_grid, read_image, read_label


class LoadedCase(NamedTuple):
    """Stores a case on the grid of its files: image (C, I, J, K) float32, label (I, J, K) or None, and the grid."""

    image: np.ndarray
    label: np.ndarray | None
    grid: Grid


def read_case(case: Case, channels: int, labels: Collection[int] | None, nan: float | None = None) -> LoadedCase:
    """Reads and checks every file of a case.

    Args:
        channels: number of input channels.
        labels: values that a label may have; with None the label is not read.
        nan: value that takes the place of NaN in images, the plan's `nan_background`; None refuses NaN.

    Raises:
        ValueError: a file is missing or damaged, or has another number of channels or another grid; voxels are not
            finite; labels are not integers or not known. The message names the case.
    """
    try:
        image, grid = read_image(case.images, channels, frame=case.frame, nan=nan)
        if case.label is None or labels is None:
            return LoadedCase(image, None, grid)
        label, label_grid = read_label(case.label, labels)
        check_same_grid(grid, label_grid)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"case {case.name}: {error}") from None
    return LoadedCase(image, label, grid)
