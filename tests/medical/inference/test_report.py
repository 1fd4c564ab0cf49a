"""Tests volumes and components of masks."""

from pathlib import Path

import numpy as np
import pytest
from nifti_files import affine

from vil_dense.medical.inference.report import describe_mask
from vil_dense.medical.io.grid import Grid

LABELS = dict(background=0, organ=1, vessel=2, bone=5)


def grid(shape: tuple[int, ...], orientation: str = "RAS", spacing: tuple = (1.0, 1.0, 1.0)) -> Grid:
    return Grid(Path("a.nii"), shape, 1, affine(orientation, spacing), None, 0, (1.0, 0.0))


def two_parts() -> np.ndarray:
    mask = np.zeros((10, 12, 8), dtype=np.uint8)
    mask[2:5, 2:5, 2:5] = 1
    mask[5, 5, 5] = 1  # meets the cube at a corner: one component
    mask[8, 9, 1] = 1
    mask[0, 6:9, 4] = 2
    return mask


def test_a_row_for_each_structure() -> None:
    organ, vessel, bone = describe_mask(two_parts(), LABELS, grid((10, 12, 8), "oblique", (0.5, 2.0, 3.0)))
    assert organ == dict(
        structure="organ", label=1, voxels=29, ml=pytest.approx(29 * 3 / 1000), components=2, touches_border=False
    )
    assert (vessel["voxels"], vessel["components"], vessel["touches_border"]) == (3, 1, True)
    assert (bone["label"], bone["voxels"], bone["ml"], bone["components"], bone["touches_border"]) == (
        5,
        0,
        0,
        0,
        False,
    )


@pytest.mark.parametrize("place", [(9, 5, 5), (5, 11, 5), (5, 5, 7), (0, 5, 5)])
def test_every_face_is_a_border(place: tuple[int, int, int]) -> None:
    mask = np.zeros((10, 12, 8), dtype=np.uint8)
    mask[place] = 1
    assert describe_mask(mask, LABELS, grid(mask.shape))[0]["touches_border"]
