"""Reads a DICOM series as a volume: positions from the headers of its slices, voxels by SimpleITK.

A file is a slice, or holds many of them as frames of enhanced DICOM (`frames`).

A folder is read if it holds one series; one file of a series stands for the whole series, which is how one of several
in a folder is chosen. Positions of DICOM are in LPS directions; a grid has RAS directions and axes (I, J, K) of
columns, rows and slices.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vil_dense.medical.io.dicom.frames import GROUPS, frame_headers, read_frames
from vil_dense.medical.io.geometry import TOLERANCE_VOX
from vil_dense.medical.io.grid import DAMAGE, Grid, first_line, new_grid
from vil_dense.medical.io.itk import RAS_OF_LPS, itk_reason, no_simpleitk

if TYPE_CHECKING:
    from pydicom import Dataset

PLACE = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
KIND = ("SOPClassUID", "SeriesInstanceUID", "SeriesDescription", "Modality")
TAGS = [*KIND, *PLACE, "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", *GROUPS]
"""Elements of a header that are read."""
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Classes of DICOM segmentations, which have pixels and yet are no images: those by segments, and label maps."""
UNIT_TOLERANCE = 1e-3
"""Largest deviation of direction cosines within a series."""


class Slice(NamedTuple):
    """Stores the file and the header of a slice, and its frame in enhanced DICOM, from 1."""

    path: Path
    header: "Dataset"
    frame: int | None = None


def is_dicom(path: Path) -> bool:
    """Returns whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def is_series(path: Path) -> bool:
    """Returns whether a path is a DICOM file, or a folder with one."""
    if not path.is_dir():
        return path.is_file() and is_dicom(path)
    return any(part.is_file() and is_dicom(part) for part in sorted(path.iterdir()))


def find_series(folder: Path) -> dict[str, list[tuple[Path, "Dataset"]]]:
    """Finds the images in a folder, grouped by the UID of their series: paths and headers without pixels.

    Raises:
        ValueError: a DICOM file is damaged.
    """
    found: dict[str, list[tuple[Path, Dataset]]] = {}
    for path in sorted(part for part in folder.iterdir() if part.is_file() and is_dicom(part)):
        header = _header(path)
        if "SOPClassUID" not in header:
            raise ValueError(f"{path} is a damaged DICOM file (it does not say of what kind it is)")
        if "Rows" in header and "SeriesInstanceUID" in header and header.SOPClassUID not in SEGMENTATIONS:
            found.setdefault(str(header.SeriesInstanceUID), []).append((path, header))
    return found


def choose_series(folder: Path, uid: str | None = None) -> Path:
    """Returns a file of the series `uid` in a folder; None takes the only one.

    Raises:
        ValueError: there is no image, no such series, or more than one to choose from; lists all.
    """
    series = find_series(folder)
    return series[_chosen(folder, series, uid)][0][0]


def _chosen(folder: Path, series: Mapping[str, Sequence[tuple[Path, "Dataset"]]], uid: str | None) -> str:
    """Returns the UID of the chosen series; see `choose_series`."""
    if not series:
        raise ValueError(f"{folder} holds no DICOM images, only other DICOM objects")
    if uid is not None and uid in series:
        return uid
    listed = "; ".join(
        f"{known} ({files[0][1].get('SeriesDescription') or files[0][1].get('Modality')}, {len(files)} images)"
        for known, files in series.items()
    )
    if uid is not None:
        raise ValueError(f"{folder} has no series {uid}; its series: {listed}")
    if len(series) > 1:
        raise ValueError(f"{folder} holds {len(series)} series: choose one by --series UID: {listed}")
    return next(iter(series))


def read_grid(path: Path) -> Grid:
    """Reads the grid of a series from the headers of its slices.

    Args:
        path: the folder of one series, or a file of the series.

    Raises:
        ValueError: pydicom is not installed; slices are missing, irregular, in colours or of different geometry; the
            folder holds several series.
    """
    folder, slices = _find_slices(path)
    own = slices[0].header
    for part in slices:
        _check_slice(part, slices[0])
    row, column = np.array(own.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    normal = np.cross(row, column)
    places = np.array([part.header.ImagePositionPatient for part in slices], dtype=np.float64)
    order = np.argsort(places @ normal, kind="stable").tolist()
    places, slices = places[order], [slices[index] for index in order]
    step = _slice_step(folder, places, normal)
    # DICOM lists the distance of rows, along a column, before that of columns
    rows_mm, columns_mm = map(float, own.PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * columns_mm, column * rows_mm, step, places[0]])
    shape = int(own.Columns), int(own.Rows), len(slices)
    paths = tuple(part.path for part in slices)
    frames = tuple(part.frame for part in slices if part.frame is not None)
    place = RAS_OF_LPS @ affine
    return new_grid(folder, shape, np.dtype(np.float32), place, read_voxels, files=paths, frame_numbers=frames)


def read_voxels(grid: Grid) -> np.ndarray:
    """Reads the slices with the rescale slope and intercept of each applied, (I, J, K) float32."""
    try:
        import SimpleITK
    except ImportError as error:
        raise no_simpleitk(grid.path, error) from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    voxels = np.empty(grid.file_shape, dtype=np.float32, order="F")
    if grid.frame_numbers:
        for file in dict.fromkeys(grid.files):
            own = [k for k, other in enumerate(grid.files) if other == file]
            for k, frame in zip(own, read_frames(file, [grid.frame_numbers[k] for k in own]), strict=True):
                voxels[..., k] = frame
        return voxels
    for k, file in enumerate(grid.files):
        try:
            image = SimpleITK.ReadImage(str(file), SimpleITK.sitkFloat32, "GDCMImageIO")
            pixels = SimpleITK.GetArrayFromImage(image)
            voxels[..., k] = pixels.reshape(pixels.shape[-2:]).T
        except DAMAGE as error:
            raise ValueError(f"{file} is cut off or damaged ({itk_reason(error)})") from None
    return voxels


def _header(path: Path) -> "Dataset":
    """Reads the header of a DICOM file without pixels."""
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise ValueError(f"{path} is read by pydicom: pip install 'vil_dense[formats]' ({error})") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not read
            header = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
            for tag in TAGS:
                header.get(tag)  # converts the value: a damaged one is an error here
    except Exception as error:  # pydicom fails on damaged files in every way
        raise ValueError(f"{path} is a damaged DICOM file ({first_line(error)})") from None
    return header


def _find_slices(path: Path) -> tuple[Path, list[Slice]]:
    """Finds the folder and the slices of the series of `path`; see `read_grid`."""
    folder = path if path.is_dir() else path.parent
    series = find_series(folder)
    if path.is_dir():
        files = series[_chosen(folder, series, None)]
    else:
        owners = [files for files in series.values() if any(file == path for file, _ in files)]
        if not owners:
            raise ValueError(f"{path} is a DICOM object without an image")
        files = owners[0]
    slices = [part for file, header in files for part in _slices(file, header)]
    if len({part.frame is None for part in slices}) > 1:
        raise ValueError(f"{folder} has a series of enhanced DICOM and of files with one slice each: keep one of them")
    return folder, slices


def _slices(path: Path, header: "Dataset") -> list[Slice]:
    """Returns the slice in a file, or those of enhanced DICOM.

    Raises:
        ValueError: the file has frames without places.
    """
    if GROUPS[0] in header:
        try:
            return [Slice(path, frame, number) for number, frame in enumerate(frame_headers(header), 1)]
        except Exception as error:  # pydicom raises errors of many types for damaged groups
            raise ValueError(f"{path} is damaged enhanced DICOM ({first_line(error)})") from None
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ValueError(
            f"{path} holds {header.NumberOfFrames} frames without places ({GROUPS[0]}), as in a film: a slice in each "
            "file was expected, or enhanced DICOM"
        )
    return [Slice(path, header)]


def _check_slice(part: Slice, first: Slice) -> None:
    """Checks that a slice has a place and the geometry of the first one."""
    path, header, frame = part
    if missing := [key for key in PLACE if not header.get(key)]:
        where = "" if frame is None else f" for frame {frame}"
        raise ValueError(f"{path} has no {missing[0]}{where}, so its place is unknown: it is no slice of a volume")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise ValueError(f"{path} is a picture in colours: one value at each voxel was expected")

    def geometry(of: "Dataset") -> np.ndarray:
        return np.array([*of.ImageOrientationPatient, *of.PixelSpacing, of.Rows, of.Columns], dtype=np.float64)

    one, other = geometry(first.header), geometry(header)
    if not np.allclose(one, other, rtol=UNIT_TOLERANCE, atol=UNIT_TOLERANCE):
        raise ValueError(
            f"{path} and {first.path} of one series differ in orientation, pixel spacing or size: {_numbers(other)} "
            f"and {_numbers(one)}; a localizer or a mixed series is no volume"
        )


def _slice_step(folder: Path, places: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Returns the step from slice to slice, (3,) mm, of positions (K, 3) in their order along `normal`.

    Raises:
        ValueError: there is one slice, or positions are repeated, missing or irregular.
    """
    if len(places) < 2:
        raise ValueError(f"{folder} holds one slice of its series: a volume needs two or more")
    along = places @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if gaps.min() < 0.01 or usual < 0.01:
        repeated = int((gaps < 0.01).sum())
        raise ValueError(
            f"{folder} has {repeated} of {len(places)} slices at the position of another (phases, echoes or "
            "directions of one series): keep one image of each position, or convert it to a 4D NIfTI, e.g. by dcm2niix"
        )
    tolerance = TOLERANCE_VOX * usual
    wide = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if len(wide):
        first = int(wide[0])
        between = f"between {along[first]:.5g} and {along[first + 1]:.5g} mm along the normal of the slices"
        steps = gaps[wide] / usual
        if (steps > 1.5).all() and np.allclose(steps, np.rint(steps), atol=TOLERANCE_VOX):
            missing = int(np.rint(steps - 1).sum())
            raise ValueError(
                f"{folder} lacks {missing} slice{'s' * (missing > 1)}, the first {between}: copy all files"
            )
        raise ValueError(
            f"{folder} has slices at irregular distances, {gaps[first]:.4g} mm {between} and mostly {usual:.4g} mm: "
            "resample the series to one distance first"
        )
    step = (places[-1] - places[0]) / (len(places) - 1)
    apart_mm = float(np.abs(places - places[0] - np.outer(np.arange(len(places)), step)).max())
    if apart_mm > max(tolerance, 0.05):
        raise ValueError(f"{folder} has slices that are shifted against each other, by up to {apart_mm:.3g} mm")
    return step


def _numbers(values: Sequence[Any] | np.ndarray) -> str:
    return " ".join(f"{value:.5g}" for value in values)
