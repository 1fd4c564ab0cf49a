"""Reads volumes of every format with checks, and writes masks on the grid of their image.

`FORMATS` is the one place where a format is added. Arrays are (I, J, K) in the order of the file, whatever its
orientation. Positions and spacings are in mm and in nibabel's RAS directions; the unit in the header is copied to the
mask, but otherwise assumed to be mm, as is usual.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

from vil_dense.files import write_whole
from vil_dense.medical.io import itk, nibabel_files, nifti
from vil_dense.medical.io.dicom import series
from vil_dense.medical.io.geometry import TOLERANCE_VOX, by, corner_distance
from vil_dense.medical.io.grid import Grid, move_slices, move_slices_back
from vil_dense.medical.io.voxels import check_memory, scale_voxels

FORMATS: dict[str, Callable[[Path], Grid]] = {
    ".nii": nifti.read_grid,
    ".nii.gz": nifti.read_grid,
    ".nrrd": itk.read_grid,
    ".nhdr": itk.read_grid,
    ".mha": itk.read_grid,
    ".mhd": itk.read_grid,
    ".hdr": nibabel_files.read_grid,
    ".mgh": nibabel_files.read_grid,
    ".mgz": nibabel_files.read_grid,
}
"""Readers of a grid by the ending of the file; a folder is read as a DICOM series."""
SUFFIXES = tuple(FORMATS)
NAN_OF_LABEL = -1e9
"""Stands for NaN while a label is read."""
ROUNDED = 1e-3
"""Largest distance of a label's value from an integer to which it is rounded."""
VOXEL_FILES = {".hdr": (".img",), ".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz")}
"""Endings of the files with the voxels, for headers that are files of their own."""


def is_volume(path: Path) -> bool:
    """Returns whether the ending of a file is that of a volume."""
    return path.name.lower().endswith(SUFFIXES)


def list_volumes(folder: Path) -> list[Path]:
    """Lists the volumes in a folder, in order of their names: files of `FORMATS`, and folders of DICOM files."""
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    return [path for path in visible if (series.is_series(path) if path.is_dir() else is_volume(path))]


def source_files(path: Path) -> list[Path]:
    """Returns all files that are read with a volume: the slices of a DICOM series, the voxels beside a header."""
    if series.is_series(path):
        folder = path if path.is_dir() else path.parent
        return sorted(file for file in folder.iterdir() if file.is_file() and series.is_dicom(file))
    beside = [path.with_suffix(suffix) for suffix in VOXEL_FILES.get(path.suffix.lower(), ())]
    return [path, *(file for file in beside if file.is_file())]


def stem(path: Path) -> str:
    """Returns the name without the ending of its format."""
    name = path.name
    known = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    return name[: -len(max(known, key=len))] if known else name


def read_grid(path: Path) -> Grid:
    """Reads the grid from the header of a file, or from the headers of a DICOM series, alone.

    Args:
        path: a file of `FORMATS`; for DICOM the folder of one series, or one file of it, which stands for the series.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or of another format, holds no volume of real numbers, or claims more than it can
            hold; its affine is refused by `geometry.check_affine`.
    """
    path = Path(path)
    if series.is_series(path):
        return series.read_grid(path)
    if not path.is_file():
        raise FileNotFoundError(f"no volume at {path}")
    known = [suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)]
    if not known:
        raise ValueError(f"{path} is not a volume: its name should end in {', '.join(SUFFIXES)}, or be a DICOM series")
    return FORMATS[max(known, key=len)](path)


def read_image(
    paths: Sequence[Path], channels: int = 1, *, frame: int | None = None, nan: float | None = None
) -> tuple[np.ndarray, Grid]:
    """Reads an image and the grid of its first file.

    Args:
        paths: one file for all channels (a fourth axis), or one for each.
        channels: expected number of channels.
        frame: index of the fourth axis of each file, which then holds one channel; None reads all.
        nan: value that takes the place of NaN; None refuses NaN.

    Returns:
        (C, I, J, K) float32, scaled by the header's slope and intercept.

    Raises:
        ValueError: see `read_grid`; another number of channels, files of different grids, voxels of NaN or beyond
            `voxels.MOST_INTENSITY`, less free memory than the voxels take.
    """
    return read_grids([at_frame(read_grid(path), frame) for path in paths], channels, nan)


def read_grids(grids: Sequence[Grid], channels: int, nan: float | None = None) -> tuple[np.ndarray, Grid]:
    """Reads the voxels of `grids`; see `read_image`."""
    check_channels(grids, channels)
    for grid in grids[1:]:
        check_same_grid(grids[0], grid)
    check_memory(grids)
    image = np.empty((channels, *grids[0].shape), dtype=np.float32)
    first = 0
    for grid in grids:
        read_channels(grid, image[first : first + grid.channels], nan)
        first += grid.channels
    return image, grids[0]


def read_channels(grid: Grid, image: np.ndarray, nan: float | None = None, fill: float | None = None) -> None:
    """Reads the voxels of a file into `image`, (C, *grid.shape) float32.

    Args:
        nan: see `read_image`.
        fill: value beside the slices of a tilted gantry; default: the smallest one of the channel.
    """
    if grid.shifts is None:
        scale_voxels(stored_voxels(grid), grid, image, nan)
        return
    channels = np.empty((grid.channels, *grid.file_shape), dtype=np.float32)
    scale_voxels(stored_voxels(grid), grid, channels, nan)
    for target, channel in zip(image, channels, strict=True):
        target[...] = move_slices(channel, grid, float(channel.min()) if fill is None else fill)


def stored_voxels(grid: Grid) -> np.ndarray:
    """Reads the voxels as stored, (I, J, K) or with channels last; of a frame (I, J, K)."""
    voxels = grid.voxels(grid)
    return voxels if grid.frame is None or voxels.ndim == 3 else voxels[..., grid.frame]


def at_frame(grid: Grid, frame: int | None) -> Grid:
    """Returns the grid of one index of a file's fourth axis; None leaves the grid as it is.

    Raises:
        ValueError: the file has no such frame.
    """
    if frame is None:
        return grid
    if not 0 <= frame < grid.channels:
        raise ValueError(f"{grid.path} has no frame {frame}: it holds {grid.channels}, counted from 0")
    return replace(grid, channels=1, frame=frame)


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
            f"{four.path} is 4D, {by(four.shape)} x {four.channels} voxels: an image of {expected} was expected; "
            "a series in time is predicted by --frame all, or --frame N"
        )
    raise ValueError(f"{grids[0].path} and the other files of its image hold {len(grids)} of {expected}")


def read_label(path: Path, known: Collection[int]) -> tuple[np.ndarray, Grid]:
    """Reads a label map, (I, J, K) uint8 or uint16, and its grid.

    Raises:
        ValueError: see `read_grid`; or values are not integers (to `ROUNDED`) or not among the `known`.
    """
    grid = read_grid(path)
    check_channels([grid], 1)
    check_memory([grid])
    values = np.empty((1, *grid.shape), dtype=np.float32)
    read_channels(grid, values, nan=NAN_OF_LABEL, fill=0)
    if missing := int(np.count_nonzero(values == NAN_OF_LABEL)):
        raise ValueError(f"{path} has {missing:,} voxels of NaN: a label has background, or the ignore_label, there")
    off = np.rint(values)
    np.abs(np.subtract(off, values, out=off), out=off)  # in place: a label may fill the memory
    if off.max(initial=0) > ROUNDED:
        raise ValueError(
            f"{path} holds {values[off > ROUNDED][0]:g}, and a label is an integer: threshold soft labels first, and "
            "give unsure voxels the plan's ignore_label"
        )
    if off.any():
        values = np.rint(values)
        words = f"label values off by up to {off.max():.1g}, as of a scaled header, were rounded"
        grid = replace(grid, warning="; ".join(filter(None, (grid.warning, words))))
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
            f"{one.path} and {other.path} are not on one grid: {by(one.shape)} and {by(other.shape)} voxels"
        )
    apart_mm = corner_distance(one.affine, other.affine, one.shape)
    if apart_mm > TOLERANCE_VOX * min(one.spacing_mm):
        raise ValueError(f"{one.path} and {other.path} are not on one grid: they lie up to {apart_mm:.3g} mm apart")


def write_mask(path: Path, mask: np.ndarray, grid: Grid) -> None:
    """Writes a label map, or a map of numbers, on the grid of its image as NIfTI, to a temporary name first.

    Args:
        mask: (I, J, K) uint8 or uint16, or float32.

    Raises:
        OSError: it could not be written; no partial file is left.
    """
    image = mask_image(mask, grid, path)
    write_whole(path, lambda part: nibabel.save(image, part))


def mask_image(mask: np.ndarray, grid: Grid, path: Path | str = "mask") -> nibabel.Nifti1Image:
    """Returns a label map as a NIfTI image on the grid of its image.

    The header is that of a NIfTI image (qform, sform, their codes and units bit for bit), with the data type of the
    mask and no scaling.
    """
    if mask.shape != grid.shape:
        raise ValueError(f"{path}: a mask of {by(mask.shape)} voxels does not fit {grid.path}, {by(grid.shape)}")
    mask = move_slices_back(mask, grid)
    header = mask_header(grid, mask.dtype)
    image_class = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    return image_class(mask, header.get_best_affine(), header)


def mask_header(grid: Grid, dtype: np.dtype, channels: int = 1) -> nibabel.Nifti1Header:
    """Returns the header for an array on the grid of the file, with a fourth axis for several channels."""
    header = grid.header.copy()
    header.set_data_shape(grid.file_shape if channels == 1 else (*grid.file_shape, channels))
    header.set_data_dtype(dtype)
    header["cal_min"] = header["cal_max"] = 0
    return header
