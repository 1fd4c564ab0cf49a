"""Reads NIfTI files with checks, and writes masks on the grid of their image.

Arrays are (I, J, K) in the order of the file, whatever its orientation. Positions and spacings are in mm; the unit in
the header is copied to the mask, but otherwise assumed to be mm, as is usual.
"""

import gzip
import math
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from vil_dense.files import write_whole

SUFFIXES = (".nii", ".nii.gz")
BLOCK_BYTES = 64 * 2**20
GZIP_RATIO = 1032
"""Largest possible ratio of unpacked to packed bytes."""
GRID_TOLERANCE_VOX = 0.1
"""Largest distance in voxels between the corners of equal grids, as headers are rounded."""


@dataclass(frozen=True)
class Grid:
    """Stores the positions of the voxels of a file, so that a mask can have the same.

    Args:
        path: the file.
        shape: (I, J, K).
        channels: the length of a fourth axis, else 1.
        affine: voxel indices to mm, (4, 4) float64: the sform if its code is set, else the qform.
        header: NIfTI-1 or NIfTI-2, as it was read.
        offset: of the voxels in the unpacked file, bytes.
        scale: slope and intercept from stored to true values.
    """

    path: Path
    shape: tuple[int, int, int]
    channels: int
    affine: np.ndarray
    header: nibabel.Nifti1Header
    offset: int
    scale: tuple[float, float]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Returns the voxel size along I, J, K."""
        return voxel_size(self.affine)

    @property
    def orientation(self) -> str:
        """Returns the letters of the anatomical axes nearest to I, J, K: RAS, LPS, ..."""
        return "".join(nibabel.aff2axcodes(self.affine))


def voxel_size(affine: np.ndarray) -> tuple[float, float, float]:
    """Returns the size of a voxel along I, J, K in mm, from `affine` (4, 4)."""
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return i, j, k


def stem(path: Path) -> str:
    """Returns the name without `.nii` or `.nii.gz`."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def read_grid(path: Path) -> Grid:
    """Reads the grid from the header alone.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a NIfTI file, does not hold a volume of real numbers, is too short for its header, or has
            a singular affine.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no volume at {path}")
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"{path} is not a NIfTI file: its name should end in {' or '.join(SUFFIXES)}")
    try:
        image = nibabel.load(path)
        affine = np.asarray(image.affine, dtype=np.float64)
    except ImageFileError:
        raise ValueError(f"{path} is damaged or not a NIfTI file") from None
    except (HeaderDataError, EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} has a damaged header ({_first_line(error)})") from None
    shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{path} is {len(shape)}D, {_by(shape)} voxels: a volume with three axes was expected")
    if dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {dtype} voxels: real numbers were expected")
    if not np.isfinite(affine).all() or np.linalg.cond(affine[:3, :3]) > 1e6:
        raise ValueError(f"{path} has a singular affine: its header gives the voxels no place or size in mm")
    expected, size = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if expected > size * (GZIP_RATIO if path.name.endswith(".gz") else 1):
        raise ValueError(
            f"{path} is cut off: its header claims {_by(shape)} voxels, {expected:,} bytes, and the file has {size:,}"
        )
    # nibabel moves offset and scale from the header to the voxels
    stored = image.dataobj
    channels = shape[3] if len(shape) == 4 else 1
    scale = float(stored.slope), float(stored.inter)
    return Grid(path, shape[:3], channels, affine, image.header, stored.offset, scale)


def read_image(paths: Sequence[Path], channels: int = 1) -> tuple[np.ndarray, Grid]:
    """Reads an image and the grid of its first file.

    Args:
        paths: one file for all channels (a fourth axis), or one for each.
        channels: expected number of channels.

    Returns:
        (C, I, J, K) float32, scaled by the header's slope and intercept.

    Raises:
        ValueError: see `read_grid`; or the channels are not as many, the grids differ, or voxels are not finite.
    """
    grids = [read_grid(path) for path in paths]
    check_channels(grids, channels)
    for grid in grids[1:]:
        check_same_grid(grids[0], grid)
    image = np.empty((channels, *grids[0].shape), dtype=np.float32)
    first = 0
    for grid in grids:
        _scale(_read_voxels(grid), grid, image[first : first + grid.channels])
        first += grid.channels
    return image, grids[0]


def check_channels(grids: Sequence[Grid], channels: int) -> None:
    """Checks the total number of channels of some files.

    Raises:
        ValueError: it is not `channels`.
    """
    if sum(grid.channels for grid in grids) == channels:
        return
    expected = f"{channels} channel{'s' * (channels > 1)}"
    four = next((grid for grid in grids if grid.channels > 1), None)
    if four is not None:
        raise ValueError(
            f"{four.path} is 4D, {_by(four.shape)} x {four.channels} voxels: an image of {expected} was expected"
        )
    raise ValueError(f"{grids[0].path} and the other files of its image hold {len(grids)} of {expected}")


def read_label(path: Path, known: Collection[int]) -> tuple[np.ndarray, Grid]:
    """Reads a label map, (I, J, K) uint8 or uint16, and its grid.

    Raises:
        ValueError: see `read_grid`; or values are not integers or not among the `known`.
    """
    grid = read_grid(path)
    check_channels([grid], 1)
    values = np.empty((1, *grid.shape), dtype=np.float32)
    _scale(_read_voxels(grid), grid, values)
    fractions = values != np.rint(values)
    if fractions.any():
        raise ValueError(f"{path} holds {values[fractions][0]:g}, and a label is an integer")
    outside = (values < 0) | (values > max(known))
    if not outside.any():
        labels = values[0].astype(np.uint8 if max(known) < 256 else np.uint16)
        present = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        unknown = [label for label in present if label not in known]
        if not unknown:
            return labels, grid
    else:
        unknown = [int(values[outside][0])]
    raise ValueError(f"{path} holds the label {unknown[0]}; known are {', '.join(map(str, sorted(known)))}")


def check_same_grid(one: Grid, other: Grid) -> None:
    """Checks that the voxels of two files have the same positions.

    Raises:
        ValueError: they do not.
    """
    if one.shape != other.shape:
        raise ValueError(
            f"{one.path} and {other.path} are not on one grid: {_by(one.shape)} and {_by(other.shape)} voxels"
        )
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
    corners[:, :3] *= np.array(one.shape) - 1
    apart_mm = float(np.abs(corners @ (one.affine - other.affine).T).max())
    if apart_mm > GRID_TOLERANCE_VOX * min(one.spacing_mm):
        raise ValueError(f"{one.path} and {other.path} are not on one grid: they lie up to {apart_mm:.3g} mm apart")


def write_mask(path: Path, mask: np.ndarray, grid: Grid) -> None:
    """Writes a label map on the grid of its image, to a temporary name first.

    The header is that of the image (qform, sform, their codes and units bit for bit), with the data type of the mask
    and no scaling.

    Args:
        mask: (I, J, K) uint8 or uint16.

    Raises:
        OSError: it could not be written; no partial file is left.
    """
    if mask.shape != grid.shape:
        raise ValueError(f"{path}: a mask of {_by(mask.shape)} voxels does not fit {grid.path}, {_by(grid.shape)}")
    header = mask_header(grid, mask.dtype)
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = image_class(mask, None, header)
    write_whole(path, lambda part: nibabel.save(image, part))


def mask_header(grid: Grid, dtype: np.dtype, channels: int = 1) -> nibabel.Nifti1Header:
    """Returns the header for an array on `grid`, with a fourth axis for several channels."""
    header = grid.header.copy()
    header.set_data_shape(grid.shape if channels == 1 else (*grid.shape, channels))
    header.set_data_dtype(dtype)
    header["cal_min"] = header["cal_max"] = 0
    return header


def _read_voxels(grid: Grid) -> np.ndarray:
    """Reads the voxels without scaling, in the shape of the file; a compressed file is read to its checksum."""
    header, path = grid.header, grid.path
    voxels = np.empty(header.get_data_shape(), dtype=header.get_data_dtype(), order="F")
    target = memoryview(voxels.reshape(-1, order="F").view(np.uint8))
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            file.seek(grid.offset)
            filled = _fill(file, target)
            file.read(1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is cut off or damaged ({_first_line(error)})") from None
    if filled < len(target):
        raise ValueError(
            f"{path} is cut off: its header claims {_by(voxels.shape)} voxels, {len(target):,} bytes, "
            f"and the file has {filled:,}"
        )
    return voxels


def _fill(file: BinaryIO, target: memoryview) -> int:
    filled = 0
    while filled < len(target):
        count = file.readinto(target[filled : filled + BLOCK_BYTES])
        if not count:
            break
        filled += count
    return filled


def _scale(voxels: np.ndarray, grid: Grid, image: np.ndarray) -> None:
    """Writes voxels, (I, J, K) or with channels last, scaled into `image`, (C, I, J, K), slab by slab."""
    slices = max(BLOCK_BYTES // (8 * grid.shape[0] * grid.shape[1]), 1)
    bad = 0
    for channel, source in enumerate(voxels.reshape(*grid.shape, -1, order="F").transpose(3, 0, 1, 2)):
        for k in range(0, grid.shape[2], slices):
            block = source[..., k : k + slices]
            if grid.scale != (1, 0):
                block = block * np.float64(grid.scale[0]) + np.float64(grid.scale[1])
            with np.errstate(over="ignore"):  # an overflow of float32 is counted as infinite
                image[channel, ..., k : k + slices] = block
            bad += int(np.count_nonzero(~np.isfinite(image[channel, ..., k : k + slices])))
    if bad:
        raise ValueError(f"{grid.path} has {bad:,} NaN or infinite voxel{'s' * (bad > 1)}")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
