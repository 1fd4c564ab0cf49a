"""Reads NIfTI files with checks, before nibabel takes memory for what a header claims."""

import gzip
import io
import zlib
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError

from vil_dense.medical.io.geometry import by, contradiction
from vil_dense.medical.io.grid import DAMAGE, GZIP_RATIO, Grid, at_right_angles, check_size, check_volume, first_line

BLOCK_BYTES = 64 * 2**20
MOST_HEADER_BYTES = 64 * 2**20
"""Larger header extensions are refused, because nibabel reads them whole."""


def read_grid(path: Path) -> Grid:
    """Reads the grid from the header alone.

    Raises:
        ValueError: it is no NIfTI file, holds no volume of real numbers, or claims more than it can hold; its affine
            is refused by `geometry.check_affine`.
    """
    try:
        _check_offset(path)
        image = nibabel.load(path)
    except ImageFileError:
        raise ValueError(f"{path} is damaged or not a NIfTI file") from None
    except (*DAMAGE, zlib.error) as error:
        raise ValueError(f"{path} has a damaged header ({first_line(error)})") from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise ValueError(f"{path} holds a {type(image).__name__}: a volume was expected")
    affine = np.asarray(image.affine, dtype=np.float64)
    shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()
    check_volume(path, shape, dtype, affine)
    check_size(path, shape, dtype, path.stat().st_size, GZIP_RATIO if path.name.endswith(".gz") else 1)
    # nibabel moves offset and scale from the header to the voxels
    stored = cast(ArrayProxy, image.dataobj)
    grid = Grid(
        path,
        (shape[0], shape[1], shape[2]),
        shape[3] if len(shape) == 4 else 1,
        affine,
        image.header,
        read_voxels,
        offset=stored.offset,
        scale=(float(stored.slope), float(stored.inter)),
        warning=contradiction(image.header, affine, shape[:3]),
    )
    return at_right_angles(grid)


def read_voxels(grid: Grid) -> np.ndarray:
    """Reads the voxels as stored, unscaled; a compressed file is read to its checksum.

    With `grid.frame` only this one is read, which the file holds in one piece.
    """
    header, path = grid.header, grid.path
    shape = header.get_data_shape() if grid.frame is None else grid.file_shape
    voxels = np.empty(shape, dtype=header.get_data_dtype(), order="F")
    target = voxels.reshape(-1, order="F").view(np.uint8).data
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            file.seek(grid.offset + (grid.frame or 0) * len(target))
            filled = _fill(file, target)
            if grid.frame is None:
                file.read(1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is cut off or damaged ({error})") from None
    if filled < len(target):
        raise ValueError(
            f"{path} is cut off: its header claims {by(voxels.shape)} voxels, {len(target):,} bytes, "
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


def _check_offset(path: Path) -> None:
    """Checks where the voxels begin by the header's first bytes, before nibabel reads all extensions before them."""
    try:
        with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as file:
            start = file.read(176)
    except (OSError, EOFError, zlib.error):
        return  # nibabel says what is wrong
    fields = {348: (108, "f4"), 540: (168, "i8")}  # size of the header: place and type of vox_offset
    for order in "<>":
        size = int(np.frombuffer(start[:4].ljust(4, b"\0"), f"{order}i4")[0])
        if size in fields and len(start) == 176:
            place, kind = fields[size]
            offset = float(np.frombuffer(start, f"{order}{kind}", 1, place)[0])
            if offset > MOST_HEADER_BYTES:
                raise ValueError(f"its header of {offset:,.0f} bytes is larger than {MOST_HEADER_BYTES:,}")
