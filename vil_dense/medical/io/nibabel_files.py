"""Reads the formats besides NIfTI that nibabel reads: Analyze and NIfTI pairs (`.hdr`, `.img`), and FreeSurfer's."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHImage

from vil_dense.medical.io.grid import DAMAGE, GZIP_RATIO, Grid, check_size, first_line, new_grid

NO_SIDES = (
    "an Analyze file does not say which side of the patient is left; rows are read from right to left, as SPM writes "
    "them: compare the mask with an image whose sides you know, or convert the file to NIfTI"
)


def read_grid(path: Path) -> Grid:
    """Reads the grid from the header alone.

    Raises:
        ValueError: nibabel cannot read it, or see `grid.check_volume`.
    """
    try:
        image: Any = nibabel.load(path)  # of many classes, checked below
        shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()
    except (ImageFileError, *DAMAGE) as error:
        raise ValueError(f"{path} is damaged or of another format ({first_line(error)})") from None
    if not isinstance(image, nibabel.analyze.AnalyzeImage | MGHImage):
        raise ValueError(f"{path} holds a {type(image).__name__}: a volume was expected")
    placed = isinstance(image, nibabel.Nifti1Pair | MGHImage)
    grid = new_grid(path, shape, dtype, image.affine, read_voxels, "" if placed else NO_SIDES)
    files = [Path(str(part.filename)) for part in image.file_map.values()]
    size = sum(file.stat().st_size for file in files if file.is_file())
    check_size(path, shape, dtype, size, GZIP_RATIO if path.suffix == ".mgz" else 1)
    return grid


def read_voxels(grid: Grid) -> np.ndarray:
    """Reads the voxels with the scaling of the file applied."""
    try:
        image: Any = nibabel.load(grid.path)
        return np.asanyarray(image.dataobj)
    except (ImageFileError, *DAMAGE) as error:
        raise ValueError(f"{grid.path} is cut off or damaged ({first_line(error)})") from None
