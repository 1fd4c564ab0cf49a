"""Makes small NIfTI files for the tests of volumes."""

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np


def oblique() -> np.ndarray:
    """Returns a rotation about two axes."""
    a, b = 0.3, -0.2
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_x @ about_z


def affine(orientation: str = "RAS", spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Returns the map from voxels to mm: `orientation` is axis letters, or "oblique"."""
    if orientation == "oblique":
        turn = oblique()
    else:
        turn = np.zeros((3, 3))
        for axis, letter in enumerate(orientation):
            row = next(row for row, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
            turn[row, axis] = 1 if letter in "RAS" else -1
    result = np.eye(4)
    result[:3, :3] = turn * np.array(spacing_mm)
    result[:3, 3] = -11.5, 7.25, 30
    return result


def write_nifti(
    path: Path, voxels: np.ndarray, place: np.ndarray | None = None, *, endian: str = "<", slope: float | None = None
) -> Path:
    """Writes `voxels` as they are stored; units mm and s, a qform of code 2 and an sform of code 1, a description."""
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(voxels.dtype)
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = b"scanner 7"
    place = affine() if place is None else place
    image = nibabel.Nifti1Image(voxels, place, header)
    image.set_qform(place, 2)
    image.set_sform(place, 1)
    if slope is not None:
        image.header.set_slope_inter(slope, -5.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path
