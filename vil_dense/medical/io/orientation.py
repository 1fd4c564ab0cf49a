"""Maps the axes of a file to anatomical axes, in nibabel's letters L R, P A, I S."""

import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

AXIS_NAMES = (("L", "R"), ("P", "A"), ("I", "S"))
"""Letters of the negative and the positive direction of each anatomical axis."""


def orientation_transform(affine: np.ndarray, letters: str) -> np.ndarray:
    """Returns nibabel's transform (3, 2) from the axes of a file to those of `letters`, e.g. RAS.

    Args:
        affine: (4, 4), voxels of the file to mm.
    """
    return ornt_transform(io_orientation(affine), axcodes2ornt(tuple(letters), labels=AXIS_NAMES))


def axis_order(affine: np.ndarray, letters: str) -> list[int]:
    """Returns the axes of a file in the order of `letters`."""
    return np.argsort(orientation_transform(affine, letters)[:, 0]).tolist()
