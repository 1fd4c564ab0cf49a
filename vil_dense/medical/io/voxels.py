"""Reads the voxels of NIfTI files in blocks, within the memory that is free."""

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vil_dense.backbones.memory import GIB, free_memory

if TYPE_CHECKING:
    from vil_dense.medical.io.nifti import Grid

BLOCK_BYTES = 64 * 2**20
MOST_INTENSITY = 1e18
"""Squares and sums of larger values leave float32."""


def check_memory(grids: Sequence["Grid"]) -> None:
    """Checks that the voxels fit into memory, as stored (of one file at a time) and as float32.

    Raises:
        ValueError: they do not.
    """
    voxels = [math.prod(grid.shape) * grid.channels for grid in grids]
    stored = max(n * grid.header.get_data_dtype().itemsize for n, grid in zip(voxels, grids, strict=True))
    needed, free = 4 * sum(voxels) + stored, free_memory("cpu")
    if free is not None and needed > free:
        raise ValueError(f"{grids[0].path} takes {needed / GIB:.1f} GiB to read, and {free / GIB:.1f} GiB are free")


def read_voxels(grid: "Grid") -> np.ndarray:
    """Reads the voxels as stored, unscaled, with the shape of the file; a compressed file is read to its checksum."""
    header, path = grid.header, grid.path
    voxels = np.empty(header.get_data_shape(), dtype=header.get_data_dtype(), order="F")
    target = voxels.reshape(-1, order="F").view(np.uint8).data
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            file.seek(grid.offset)
            filled = _fill(file, target)
            file.read(1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is cut off or damaged ({error})") from None
    if filled < len(target):
        raise ValueError(
            f"{path} is cut off: its header claims {' x '.join(map(str, voxels.shape))} voxels, {len(target):,} bytes, "
            f"and the file has {filled:,}"
        )
    return voxels


def _fill(file: io.BufferedIOBase, target: memoryview) -> int:
    filled = 0
    while filled < len(target):
        count = file.readinto(target[filled : filled + BLOCK_BYTES])
        if not count:
            break
        filled += count
    return filled


def scale_voxels(voxels: np.ndarray, grid: "Grid", image: np.ndarray) -> None:
    """Writes voxels, (I, J, K) or with channels last, scaled into `image`, (C, I, J, K), slab by slab."""
    slices = max(BLOCK_BYTES // (8 * grid.shape[0] * grid.shape[1]), 1)
    bad = 0
    for channel, source in enumerate(voxels.reshape(*grid.shape, -1, order="F").transpose(3, 0, 1, 2)):
        for k in range(0, grid.shape[2], slices):
            block = source[..., k : k + slices]
            if grid.scale != (1, 0):
                block = block * np.float64(grid.scale[0]) + np.float64(grid.scale[1])
            with np.errstate(over="ignore"):  # what float32 cannot hold is counted as infinite
                image[channel, ..., k : k + slices] = block
            bad += int(np.count_nonzero(~(np.abs(image[channel, ..., k : k + slices]) <= MOST_INTENSITY)))
    if bad:
        raise ValueError(f"{grid.path} has {bad:,} voxel{'s' * (bad > 1)} of NaN or beyond {MOST_INTENSITY:g}")
