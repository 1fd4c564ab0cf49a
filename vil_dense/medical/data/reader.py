"""Reads a case: training, validation, prediction, the checks before them and the bundle have no other reader."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from vil_dense.medical.data.datalist import Case
from vil_dense.medical.io.nifti import Grid, check_same_grid, read_image, read_label


class LoadedCase(NamedTuple):
    """Holds a case as its files have it: image (C, I, J, K) float32, label (I, J, K) or None, the grid of both."""

    image: np.ndarray
    label: np.ndarray | None
    grid: Grid


def read_case(case: Case, channels: int, labels: Collection[int] | None) -> LoadedCase:
    """Reads and checks every file of a case.

    Args:
        channels: number of input channels.
        labels: values that a label may have; None leaves the label unread.

    Raises:
        ValueError: a file that is missing or damaged, of another number of channels or on another grid, voxels that
            are not finite, labels that are no integers or unknown; in one sentence that names the case.
    """
    try:
        image, grid = read_image(case.images, channels)
        if case.label is None or labels is None:
            return LoadedCase(image, None, grid)
        label, label_grid = read_label(case.label, labels)
        check_same_grid(grid, label_grid)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"case {case.name}: {error}") from None
    return LoadedCase(image, label, grid)
