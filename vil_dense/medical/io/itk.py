"""Reads NRRD and MetaImage files by SimpleITK.

ITK's positions are in LPS directions and its arrays in the order K, J, I; a grid has RAS directions and I, J, K.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vil_dense.medical.io.grid import DAMAGE, Grid, new_grid

if TYPE_CHECKING:
    import SimpleITK

NRRD = (".nrrd", ".nhdr")
NO_SPACE = "its header has no anatomical space: its axes are taken for left, posterior and superior, as by ITK"
RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns positions in LPS directions, of ITK and DICOM, to RAS, and back."""


def read_grid(path: Path) -> Grid:
    """Reads the grid from the header alone.

    Raises:
        ValueError: SimpleITK is not installed or cannot read it, or see `grid.check_volume`.
    """
    reader = _reader(path)
    with _told(path, "is damaged or of another format"):
        reader.ReadImageInformation()
    from SimpleITK import GetPixelIDValueAsString

    name = GetPixelIDValueAsString(reader.GetPixelID())
    shape, components = tuple(map(int, reader.GetSize())), int(reader.GetNumberOfComponents())
    if len(shape) == 4 and components > 1:
        raise ValueError(f"{path} is 4D with {components} values at each voxel: a volume with three axes was expected")
    if "complex" in name:
        raise ValueError(f"{path} holds {name} voxels: real numbers were expected")
    affine = affine_of(reader.GetDirection(), reader.GetSpacing(), reader.GetOrigin())
    shape = shape if components == 1 else (*shape, components)
    spaceless = path.suffix.lower() in NRRD and "NRRD_space" not in reader.GetMetaDataKeys()
    return new_grid(path, shape, _dtype(name), affine, read_voxels, NO_SPACE if spaceless else "")


def affine_of(direction: Sequence[float], spacing: Sequence[float], origin: Sequence[float]) -> np.ndarray:
    """Returns the affine (4, 4) from indices (I, J, K) to mm in RAS of an image's geometry in ITK's terms."""
    axes = round(len(direction) ** 0.5)
    affine = np.eye(4)
    count = min(axes, 3)
    turn = np.array(direction, dtype=np.float64).reshape(axes, axes)[:count, :count]
    affine[:count, :count] = turn * np.array(spacing[:count])
    affine[:count, 3] = origin[:count]
    return RAS_OF_LPS @ affine


def read_voxels(grid: Grid) -> np.ndarray:
    """Reads the voxels, (I, J, K) or with channels last."""
    from SimpleITK import GetArrayFromImage

    reader = _reader(grid.path)
    with _told(grid.path, "is cut off or damaged"):
        image = reader.Execute()
    voxels = GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        return np.moveaxis(voxels, -1, 0).T
    return voxels.T


def no_simpleitk(path: Path, error: ImportError) -> ValueError:
    """Returns the error for a file that cannot be read without SimpleITK."""
    return ValueError(f"{path} is read by SimpleITK: pip install 'vil_dense[formats]' ({error})")


def _reader(path: Path) -> "SimpleITK.ImageFileReader":
    try:
        import SimpleITK
    except ImportError as error:
        raise no_simpleitk(path, error) from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # what matters is an error, or checked here
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in NRRD else "MetaImageIO")
    return reader


def itk_reason(error: BaseException) -> str:
    """Returns the line of an error of ITK that says why; the others name functions, objects and the system's error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    return re.sub(r"ITK ERROR: \w+\(0x\w+\): ", "", lines[-1] if lines else type(error).__name__)


@contextmanager
def _told(path: Path, fault: str) -> Iterator[None]:
    """Turns an error of SimpleITK, of several lines, into a sentence."""
    try:
        yield
    except DAMAGE as error:
        raise ValueError(f"{path} {fault} ({itk_reason(error)})") from None


def _dtype(name: str) -> np.dtype:
    """Returns the type of voxels of SimpleITK's name for it, such as `vector of 16-bit signed integer`."""
    words = name.split()
    bits = int(next(word for word in words if word.endswith("-bit")).removesuffix("-bit")) if "-bit" in name else 0
    if "float" in name:
        return np.dtype(f"f{bits // 8}")
    return np.dtype(f"{'u' if 'unsigned' in name else 'i'}{bits // 8}")
