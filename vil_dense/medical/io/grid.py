"""Stores where the voxels of a volume lie, whatever the format of its file."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np

from vil_dense.medical.io.geometry import by, check_affine, find_tilt, is_sheared, voxel_size

DAMAGE = (nibabel.spatialimages.HeaderDataError, EOFError, OSError, OverflowError, RuntimeError, TypeError, ValueError)
"""Errors by which the libraries that read files report what is wrong with one."""
GZIP_RATIO = 1032
"""Largest ratio of the unpacked to the packed size of a gzip file."""


@dataclass(frozen=True)
class Grid:
    """Stores the positions of the voxels of a file, so that a mask can have the same.

    Args:
        path: the file, or the folder of a DICOM series.
        shape: (I, J, K); of a tilted gantry after its slices have been moved to right angles.
        channels: the length of a fourth axis, else 1.
        affine: voxel indices of `shape` to mm, (4, 4) float64, in nibabel's RAS directions.
        header: NIfTI-1 or NIfTI-2 as it was read; for other formats one with the file's shape, voxel type and affine.
        voxels: reads the voxels of this grid as stored, with the shape of the header.
        offset: of the voxels in an unpacked NIfTI file, bytes.
        scale: slope and intercept from stored to true values.
        warning: what in the file contradicts `affine`, or leaves it unsure; empty if nothing does.
        files: the file of each slice of a DICOM series in the order of K.
        frame_numbers: in enhanced DICOM, where a file holds many slices, the frame of each in its file, from 1.
        frame: the only index of the fourth axis that is read; None reads all.
        shifts: (K, 2), voxels along I and J by which slices of a tilted gantry are moved, see `geometry.Tilt`.
    """

    path: Path
    shape: tuple[int, int, int]
    channels: int
    affine: np.ndarray
    header: nibabel.Nifti1Header
    voxels: Callable[["Grid"], np.ndarray]
    offset: int = 0
    scale: tuple[float, float] = (1.0, 0.0)
    warning: str = ""
    files: tuple[Path, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    frame: int | None = None
    shifts: np.ndarray | None = None

    @property
    def file_shape(self) -> tuple[int, int, int]:
        """Returns the voxels of the file along I, J, K."""
        i, j, k = map(int, self.header.get_data_shape()[:3])
        return i, j, k

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Returns the voxel size along I, J, K."""
        return voxel_size(self.affine)

    @property
    def orientation(self) -> str:
        """Returns the letters of the anatomical axes nearest to I, J, K: RAS, LPS, ..."""
        return "".join(nibabel.aff2axcodes(self.affine))


def check_volume(path: Path, shape: Sequence[int], dtype: np.dtype, affine: np.ndarray) -> None:
    """Checks that a file holds one volume of real numbers, or several on one grid, with a place in mm.

    Raises:
        ValueError: it does not; see also `geometry.check_affine`.
    """
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{path} is {len(shape)}D, {by(shape)} voxels: a volume with three axes was expected")
    if dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {dtype} voxels: real numbers were expected")
    try:
        check_affine(affine, shape[:3])
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def new_grid(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype,
    affine: np.ndarray,
    voxels: Callable[[Grid], np.ndarray],
    warning: str = "",
    files: tuple[Path, ...] = (),
    frame_numbers: tuple[int, ...] = (),
) -> Grid:
    """Returns the grid of a file that is not NIfTI, or of an array, with the NIfTI header that its masks get.

    Args:
        shape: (I, J, K) or (I, J, K, channels).
        voxels, warning, files, frame_numbers: see `Grid`.

    Raises:
        ValueError: see `check_volume`.
    """
    affine = np.asarray(affine, dtype=np.float64)
    check_volume(path, shape, dtype, affine)
    header = nibabel.Nifti1Header() if max(shape) < 2**15 else nibabel.Nifti2Header()
    header.set_data_dtype(dtype.newbyteorder("="))
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    if not is_sheared(affine, shape[:3]):
        header.set_qform(affine, code="scanner")  # which cannot hold a shear
    header.set_sform(affine, code="scanner")
    channels = shape[3] if len(shape) == 4 else 1
    size = shape[0], shape[1], shape[2]
    grid = Grid(path, size, channels, affine, header, voxels, warning=warning, files=files, frame_numbers=frame_numbers)
    return at_right_angles(grid)


def at_right_angles(grid: Grid) -> Grid:
    """Returns a grid whose slices are moved to right angles if they are those of a tilted gantry."""
    if not is_sheared(grid.affine, grid.shape):
        return grid
    tilt = find_tilt(grid.affine, grid.shape)
    assert tilt is not None  # else `check_volume` refuses the file
    words = f"slices are tilted by {tilt.degrees:.3g} degrees; they are moved to right angles, and masks are moved back"
    warning = "; ".join(filter(None, (words, grid.warning)))
    return replace(grid, shape=tilt.shape, affine=tilt.affine, shifts=tilt.shifts, warning=warning)


def move_slices(volume: np.ndarray, grid: Grid, fill: float = 0) -> np.ndarray:
    """Returns a volume (I, J, K) of the file on `grid.shape`, with `fill` beside the slices."""
    if grid.shifts is None:
        return volume
    moved = np.full(grid.shape, fill, volume.dtype)
    for k, (i, j) in enumerate(grid.shifts.tolist()):
        moved[i : i + volume.shape[0], j : j + volume.shape[1], k] = volume[..., k]
    return moved


def move_slices_back(volume: np.ndarray, grid: Grid, first: int = 0) -> np.ndarray:
    """Returns a volume (I, J, K, ...) on `grid.shape`, or its slices from `first` on, on the grid of the file."""
    if grid.shifts is None:
        return volume
    height, width, _ = grid.file_shape
    shifts = grid.shifts[first : first + volume.shape[2]].tolist()
    slices = [volume[i : i + height, j : j + width, k] for k, (i, j) in enumerate(shifts)]
    return np.stack(slices, axis=2)


def check_size(path: Path, shape: Sequence[int], dtype: np.dtype, size: int, ratio: int = 1) -> None:
    """Checks that files of `size` bytes, packed by at most `ratio`, can hold the voxels that a header claims.

    Raises:
        ValueError: they cannot.
    """
    expected = math.prod(shape) * dtype.itemsize
    if expected > size * ratio:
        raise ValueError(
            f"{path} is cut off: its header claims {by(shape)} voxels, {expected:,} bytes, and the file has {size:,}"
        )


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
