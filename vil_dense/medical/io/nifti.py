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
from typing import cast

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from vil_dense.files import write_whole
from vil_dense.medical.io.geometry import TOLERANCE_VOX, check_affine, contradiction, corner_distance, voxel_size
from vil_dense.medical.io.voxels import check_memory, read_voxels, scale_voxels

SUFFIXES = (".nii", ".nii.gz")
GZIP_RATIO = 1032
"""Largest ratio of the unpacked to the packed size of a gzip file."""
MOST_HEADER_BYTES = 64 * 2**20
"""Larger header extensions are refused, because nibabel reads them whole."""


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
        warning: what in the header contradicts `affine`, see `geometry.contradiction`; empty if nothing does.
    """

    path: Path
    shape: tuple[int, int, int]
    channels: int
    affine: np.ndarray
    header: nibabel.Nifti1Header
    offset: int
    scale: tuple[float, float]
    warning: str = ""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Returns the voxel size along I, J, K."""
        return voxel_size(self.affine)

    @property
    def orientation(self) -> str:
        """Returns the letters of the anatomical axes nearest to I, J, K: RAS, LPS, ..."""
        return "".join(nibabel.aff2axcodes(self.affine))


def stem(path: Path) -> str:
    """Returns the name without `.nii` or `.nii.gz`."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def read_grid(path: Path) -> Grid:
    """Reads the grid from the header alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no NIfTI file, holds no volume of real numbers, or claims more than it can hold; its affine
            is refused by `geometry.check_affine`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no volume at {path}")
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"{path} is not a NIfTI file: its name should end in {' or '.join(SUFFIXES)}")
    try:
        _check_offset(path)
        image = nibabel.load(path)
    except ImageFileError:
        raise ValueError(f"{path} is damaged or not a NIfTI file") from None
    except (HeaderDataError, EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} has a damaged header ({_first_line(error)})") from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise ValueError(f"{path} holds a {type(image).__name__}: a volume was expected")
    affine = np.asarray(image.affine, dtype=np.float64)
    shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{path} is {len(shape)}D, {_by(shape)} voxels: a volume with three axes was expected")
    if dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {dtype} voxels: real numbers were expected")
    try:
        check_affine(affine, shape[:3])
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    expected, size = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if expected > size * (GZIP_RATIO if path.name.endswith(".gz") else 1):
        raise ValueError(
            f"{path} is cut off: its header claims {_by(shape)} voxels, {expected:,} bytes, and the file has {size:,}"
        )
    # nibabel moves offset and scale from the header to the voxels
    stored = cast(ArrayProxy, image.dataobj)
    channels = shape[3] if len(shape) == 4 else 1
    scale = float(stored.slope), float(stored.inter)
    warning = contradiction(image.header, affine, shape[:3])
    return Grid(path, (shape[0], shape[1], shape[2]), channels, affine, image.header, stored.offset, scale, warning)


def read_image(paths: Sequence[Path], channels: int = 1) -> tuple[np.ndarray, Grid]:
    """Reads an image and the grid of its first file.

    Args:
        paths: one file for all channels (a fourth axis), or one for each.
        channels: expected number of channels.

    Returns:
        (C, I, J, K) float32, scaled by the header's slope and intercept.

    Raises:
        ValueError: see `read_grid`; another number of channels, files of different grids, voxels of NaN or beyond
            `voxels.MOST_INTENSITY`, less free memory than the voxels take.
    """
    grids = [read_grid(path) for path in paths]
    check_channels(grids, channels)
    for grid in grids[1:]:
        check_same_grid(grids[0], grid)
    check_memory(grids)
    image = np.empty((channels, *grids[0].shape), dtype=np.float32)
    first = 0
    for grid in grids:
        scale_voxels(read_voxels(grid), grid, image[first : first + grid.channels])
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
    check_memory([grid])
    values = np.empty((1, *grid.shape), dtype=np.float32)
    scale_voxels(read_voxels(grid), grid, values)
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
    apart_mm = corner_distance(one.affine, other.affine, one.shape)
    if apart_mm > TOLERANCE_VOX * min(one.spacing_mm):
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


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
