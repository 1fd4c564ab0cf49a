"""Stores where the voxels of a volume lie, whatever the format of its file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from vil_dense.medical.io.geometry import check_affine, voxel_size

DAMAGE = (nibabel.spatialimages.HeaderDataError, EOFError, OSError, OverflowError, RuntimeError, TypeError, ValueError)
"""Errors by which the libraries that read files report what is wrong with one."""


@dataclass(frozen=True)
class Grid:
    """Stores the positions of the voxels of a file, so that a mask can have the same.

    Args:
        path: the file, or the folder of a DICOM series.
        shape: (I, J, K).
        channels: the length of a fourth axis, else 1.
        affine: voxel indices to mm, (4, 4) float64, in nibabel's RAS directions.
        header: NIfTI-1 or NIfTI-2 as it was read; for other formats one with the same shape, voxel type and affine.
        voxels: reads the voxels of this grid as stored, with the shape of the header.
        offset: of the voxels in an unpacked NIfTI file, bytes.
        scale: slope and intercept from stored to true values.
        warning: what in the file contradicts `affine`, or leaves it unsure; empty if nothing does.
        files: the slices of a DICOM series in the order of K.
        frame: the only index of the fourth axis that is read; None reads all.
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
    frame: int | None = None

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
) -> Grid:
    """Returns the grid of a file that is not NIfTI, or of an array, with the NIfTI header that its masks get.

    Args:
        shape: (I, J, K) or (I, J, K, channels).
        voxels, warning, files: see `Grid`.

    Raises:
        ValueError: see `check_volume`.
    """
    affine = np.asarray(affine, dtype=np.float64)
    check_volume(path, shape, dtype, affine)
    header = nibabel.Nifti1Header() if max(shape) < 2**15 else nibabel.Nifti2Header()
    header.set_data_dtype(dtype.newbyteorder("="))
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    channels = shape[3] if len(shape) == 4 else 1
    return Grid(path, (shape[0], shape[1], shape[2]), channels, affine, header, voxels, warning=warning, files=files)


def by(shape: Sequence[int]) -> str:
    """Writes sizes in voxels as `I x J x K`."""
    return " x ".join(map(str, shape))


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
