"""Decides where the voxels of a file lie. Everything that reads volumes takes its answer from here.

The rule is nibabel's: the sform where its code is positive, else the qform where its code is positive, else the voxel
sizes (pixdim) alone. A file whose matrices contradict each other is read by this rule and named in a warning.

Resampling is done axis by axis and needs right angles. The slices of a tilted gantry, each of which is moved along the
rows or columns, are moved back by whole voxels; other sheared axes are refused.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

TOLERANCE_VOX = 0.1
"""Tolerance, in voxels, for rounding in headers: the largest distance between corners of grids that count as equal."""
SHEAR_VOX = 0.5
"""Largest allowed displacement of a corner by shear, in voxels."""
MOST_TILT_DEG = 45
"""Larger tilts are no gantry's, which reach 30 degrees, and would move slices too far."""
SIZES_MM = (1e-3, 1e3)
"""Range of voxel sizes."""

NOT_MM = {1: "metres", 3: "micrometres"}
"""Units of space that a header may name, by NIfTI's code; others are mm or unknown."""
AXIS_NAMES = (("L", "R"), ("P", "A"), ("I", "S"))
"""Letters of the negative and the positive direction of each anatomical axis."""


def voxel_size(affine: np.ndarray) -> tuple[float, float, float]:
    """Returns the size of a voxel along I, J, K in mm, from `affine` (4, 4)."""
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return i, j, k


def voxel_ml(affine: np.ndarray) -> float:
    """Returns the volume of a voxel in ml, from `affine` (4, 4)."""
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def check_affine(affine: np.ndarray, shape: Sequence[int]) -> None:
    """Checks that `affine` (4, 4), voxels to mm, gives the voxels of a volume (I, J, K) a place and right angles,
    but for a tilted gantry.

    Raises:
        ValueError: it is singular or not finite, has sizes outside of `SIZES_MM`, or shears.
    """
    if not np.isfinite(affine).all() or np.linalg.cond(affine[:3, :3]) > 1e6:
        raise ValueError("has a singular affine: its header gives the voxels no place or size in mm")
    sizes = voxel_size(affine)
    if not all(SIZES_MM[0] <= size <= SIZES_MM[1] for size in sizes):
        raise ValueError(f"has voxels of {by(sizes)} mm: {SIZES_MM[0]:g} to {SIZES_MM[1]:g} mm are expected")
    if is_sheared(affine, shape) and find_tilt(affine, shape) is None:
        raise ValueError(
            f"has sheared axes (corners lie {shear(affine, shape):.3g} mm from those of right angles), and not as of a "
            f"gantry tilted by up to {MOST_TILT_DEG} degrees: resample it to right angles, e.g. by MONAI's Spacingd"
        )


def is_sheared(affine: np.ndarray, shape: Sequence[int]) -> bool:
    """Returns whether the axes are too far from right angles for a volume of `shape`."""
    return shear(affine, shape) > SHEAR_VOX * min(voxel_size(affine))


class Tilt(NamedTuple):
    """Stores the grid of right angles, (I', J', K), into which the slices of a tilted gantry are moved.

    Voxel (i, j, k) of the file is voxel (i + shifts[k, 0], j + shifts[k, 1], k) of the grid, at most half a voxel along
    I and J from its position.
    """

    degrees: float
    shape: tuple[int, int, int]
    affine: np.ndarray
    shifts: np.ndarray


def find_tilt(affine: np.ndarray, shape: Sequence[int]) -> Tilt | None:
    """Returns the tilt of slices (I, J) against their normal; None if it is too large, or I and J are sheared."""
    rows, columns, step = affine[:3, :3].T
    # voxels along I and J from slice to slice
    lean = np.array([step @ rows / (rows @ rows), step @ columns / (columns @ columns)])
    straight = affine.copy()
    straight[:3, 2] -= affine[:3, :2] @ lean
    degrees = float(np.rad2deg(np.arccos(np.linalg.norm(straight[:3, 2]) / np.linalg.norm(step))))
    shifts = np.rint(np.outer(np.arange(shape[2]), lean)).astype(int)
    lowest = shifts.min(axis=0)
    straight[:3, 3] += affine[:3, :2] @ lowest
    shifts -= lowest
    height, width = (shifts.max(axis=0) + shape[:2]).tolist()
    if degrees > MOST_TILT_DEG or is_sheared(straight, (height, width, shape[2])):
        return None
    return Tilt(degrees, (height, width, shape[2]), straight, shifts)


def shear(affine: np.ndarray, shape: Sequence[int]) -> float:
    """Returns how far a corner lies from where it would be with orthogonal axes, mm."""
    sizes = np.array(voxel_size(affine))
    left, _, right = np.linalg.svd(affine[:3, :3] / sizes)
    straight = affine.copy()
    straight[:3, :3] = left @ right * sizes
    centre = np.append((np.array(shape) - 1) / 2, 1)
    straight[:3, 3] += (affine @ centre - straight @ centre)[:3]
    return corner_distance(affine, straight, shape)


def corner_distance(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """Returns the largest distance along an axis between the corners of two grids of one shape, mm."""
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, n - 1) for n in shape))], dtype=np.float64)
    return float(np.abs(corners @ (one - other).T).max())


def contradiction(header: nibabel.Nifti1Header, affine: np.ndarray, shape: Sequence[int]) -> str:
    """Returns what contradicts the affine that is used, in mm, as a phrase with both values; empty if nothing does."""
    if unit := NOT_MM.get(int(header["xyzt_units"]) & 7):
        return f"the header gives sizes in {unit}, and they are read as mm"
    if header["sform_code"] <= 0:
        return ""
    tolerance_mm = TOLERANCE_VOX * min(voxel_size(affine))
    if header["qform_code"] > 0:
        qform = header.get_qform()
        apart_mm = corner_distance(affine, qform, shape)
        if apart_mm > tolerance_mm:
            return (
                f"sform and qform lie up to {apart_mm:.3g} mm apart; the sform {rows(affine)} is used, "
                f"not the qform {rows(qform)}"
            )
    sizes, pixdim = voxel_size(affine), tuple(map(float, header.get_zooms()[:3]))
    if any(abs(a - b) * max(n - 1, 1) > tolerance_mm for a, b, n in zip(sizes, pixdim, shape, strict=True)):
        return f"voxels are {by(sizes)} mm by the sform, which is used, and {by(pixdim)} mm by pixdim"
    return ""


def by(sizes: Sequence[float]) -> str:
    """Writes sizes in voxels or mm as `a x b x c`."""
    return " x ".join(f"{size:.5g}" for size in sizes)


def rows(affine: np.ndarray) -> str:
    """Writes the three rows of an affine on one line."""
    return "; ".join(" ".join(f"{value:.4g}" for value in row) for row in affine[:3]).join("[]")


def orientation_transform(affine: np.ndarray, letters: str) -> np.ndarray:
    """Returns nibabel's transform (3, 2) from the axes of a file to those of `letters`, e.g. RAS.

    Args:
        affine: (4, 4), voxels of the file to mm.
    """
    return ornt_transform(io_orientation(affine), axcodes2ornt(tuple(letters), labels=AXIS_NAMES))


def axis_order(affine: np.ndarray, letters: str) -> list[int]:
    """Returns the axes of a file in the order of `letters`."""
    return np.argsort(orientation_transform(affine, letters)[:, 0]).tolist()
