"""Scales the voxels of a file in blocks, within the memory that is free."""

import math
from collections.abc import Sequence

import numpy as np

from vil_dense.cost.memory import GIB, free_memory
from vil_dense.medical.io.grid import Grid

BLOCK_BYTES = 64 * 2**20
MOST_INTENSITY = 1e18
"""Squares and sums of larger values leave float32."""


def check_memory(grids: Sequence[Grid]) -> None:
    """Checks that the voxels fit into memory, as stored (of one file at a time) and as float32.

    Raises:
        ValueError: they do not.
    """
    voxels = [math.prod(grid.shape) * grid.channels for grid in grids]
    stored = max(n * grid.header.get_data_dtype().itemsize for n, grid in zip(voxels, grids, strict=True))
    needed, free = 4 * sum(voxels) + stored, free_memory("cpu")
    if free is not None and needed > free:
        raise ValueError(f"{grids[0].path} takes {needed / GIB:.1f} GiB to read, and {free / GIB:.1f} GiB are free")


def scale_voxels(voxels: np.ndarray, grid: Grid, image: np.ndarray, nan: float | None = None) -> None:
    """Writes voxels, (I, J, K) or with channels last, scaled into `image`, (C, I, J, K), slab by slab.

    Args:
        nan: value that takes the place of NaN.

    Raises:
        ValueError: voxels are NaN, without `nan`, or beyond `MOST_INTENSITY`.
    """
    shape = grid.file_shape
    slices = max(BLOCK_BYTES // (8 * shape[0] * shape[1]), 1)
    bad = 0
    for channel, source in enumerate(voxels.reshape(*shape, -1, order="F").transpose(3, 0, 1, 2)):
        for k in range(0, shape[2], slices):
            block = source[..., k : k + slices]
            if grid.scale != (1, 0):
                block = block * np.float64(grid.scale[0]) + np.float64(grid.scale[1])
            part = image[channel, ..., k : k + slices]
            with np.errstate(over="ignore"):  # what float32 cannot hold is counted as infinite
                part[...] = block
            if nan is not None:
                part[np.isnan(part)] = nan
            bad += int(np.count_nonzero(~(np.abs(part) <= MOST_INTENSITY)))
    if bad:
        raise ValueError(
            f"{grid.path} has {bad:,} voxel{'s' * (bad > 1)} of NaN or beyond {MOST_INTENSITY:g}"
            + "; a plan with nan_background=0 reads NaN as 0" * (bad == int(np.isnan(image).sum()))
        )
