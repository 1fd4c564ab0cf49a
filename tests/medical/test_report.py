"""Volumes, components and pictures of masks."""

from pathlib import Path

import numpy as np
import pytest
from nifti_files import affine

from vil_dense.medical.io.grid import Grid
from vil_dense.medical.report import PANEL_PX, colour, describe_mask, three_planes

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


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR"])
def test_three_planes_in_the_radiologists_view(orientation: str) -> None:
    """A label in the patient's right, front, upper corner is upper left in all planes, whatever the file's order."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

    image, mask = np.zeros((20, 30, 10)), np.zeros((20, 30, 10), dtype=np.uint8)
    mask[-6:, -6:, -4:] = 2
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(orientation)))
    image, mask = apply_orientation(image, turn), apply_orientation(mask, turn)
    spacing = dict(RAS=(1.0, 1.0, 3.0), LPS=(1.0, 1.0, 3.0), PSR=(1.0, 3.0, 1.0))[orientation]
    picture = three_planes(image, mask, grid(mask.shape, orientation, spacing))
    scale = PANEL_PX / 30
    widths = [round(20 * scale), round(20 * scale), PANEL_PX]
    assert picture.shape == (PANEL_PX, sum(widths) + 16, 3)
    left = 0
    for width, height in zip(widths, (PANEL_PX, PANEL_PX, PANEL_PX), strict=True):
        painted = np.argwhere(picture[:height, left : left + width].any(axis=2))
        assert painted.min(axis=0).tolist() == [0, 0] and painted.max(axis=0)[1] < width / 2
        np.testing.assert_array_equal(picture[0, left], np.array(colour(2)) // 2)
        left += width + 8


def test_an_empty_mask_has_a_picture() -> None:
    image = np.random.default_rng(0).normal(size=(9, 8, 7))
    picture = three_planes(image, np.zeros(image.shape, dtype=np.uint8), grid(image.shape))
    assert picture.std() > 0 and (picture[..., 0] == picture[..., 1]).all()
