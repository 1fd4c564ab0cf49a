"""Tests overlays: the view of a radiologist for every order of axes, slices by number, contours, windows, legends."""

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from nifti_files import affine

from vil_dense.medical.pages import overlays
from vil_dense.medical.pages.overlays import (
    GAP_PX,
    LINE_PX,
    PANEL_PX,
    Plane,
    Window,
    colour,
    draw_case,
    draw_comparison,
    intensity_window,
)

LABELS = dict(background=0, organ=1, vessel=2)


def turned(volume: np.ndarray, orientation: str) -> np.ndarray:
    """Returns a volume in RAS order with other axes."""
    return apply_orientation(volume, ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(orientation))))


def planes(
    image: np.ndarray | None, mask: np.ndarray, place: np.ndarray, truth: np.ndarray | None = None
) -> list[Plane]:
    return overlays._planes(image, mask, place, truth, None)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR"])
def test_the_view_of_a_radiologist(orientation: str) -> None:
    """Tests that the patient's right, front, upper corner is upper left in all planes, whatever the file's order."""
    mask = np.zeros((20, 30, 10), dtype=np.uint8)
    mask[-6:, -6:, -4:] = 2
    mask = turned(mask, orientation)
    spacing = dict(RAS=(1.0, 1.0, 3.0), LPS=(1.0, 1.0, 3.0), PSR=(1.0, 3.0, 1.0))[orientation]
    picture = draw_case("a", np.zeros(mask.shape), mask, affine(orientation, spacing), LABELS)
    widths = [round(20 * PANEL_PX / 30)] * 2 + [PANEL_PX]
    assert picture.shape == (PANEL_PX + 3 * LINE_PX, sum(widths) + 2 * GAP_PX, 3)
    left = 0
    for width in widths:
        panel = picture[LINE_PX : LINE_PX + PANEL_PX, left : left + width]
        filled = (overlays.FILL * np.array(colour(2))).astype(int)
        painted = np.argwhere((panel == filled).all(axis=2))
        assert painted.min(axis=0).tolist() == [0, 0]
        assert painted.max(axis=0)[1] < width / 2 and painted.max(axis=0)[0] < PANEL_PX / 2
        left += width + GAP_PX


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PSR"])
def test_captions_name_the_slice_in_the_file(orientation: str) -> None:
    """Tests the file's own axis and number, counted as in its array, with the letters of the sides."""
    mask = np.zeros((8, 9, 10), dtype=np.uint8)
    mask[2, 3, 4] = 1
    mask = turned(mask, orientation)
    index = np.argwhere(mask)[0]
    axial, coronal, sagittal = planes(None, mask, affine(orientation))
    for plane, letters, name in ((axial, "SI", "axial"), (coronal, "AP", "coronal"), (sagittal, "RL", "sagittal")):
        (axis,) = (n for n, letter in enumerate(orientation) if letter in letters)
        assert plane.caption == f"{name}, {'IJK'[axis]} {index[axis]} of 0 to {mask.shape[axis] - 1}"
        assert plane.mask.sum() == 1
    assert (axial.letters, coronal.letters, sagittal.letters) == ("RLAP", "RLSI", "APSI")


def test_slices_are_those_of_the_largest_difference() -> None:
    mask, truth = (np.zeros((9, 9, 9), dtype=np.uint8) for _ in range(2))
    mask[2:7, 2:7, 1] = truth[2:7, 2:7, 1] = 1
    truth[4, 4, 6] = 1
    assert planes(None, mask, np.eye(4), truth)[0].truth.sum() == 1
    assert planes(None, mask, np.eye(4))[0].mask.sum() == planes(None, mask, np.eye(4), mask)[0].mask.sum() == 25


def test_contours_are_of_the_truth_and_areas_of_the_mask() -> None:
    mask, truth = (np.zeros((32, 32, 32), dtype=np.uint8) for _ in range(2))
    mask[4:16, 4:28, 4:28], truth[16:28, 4:28, 4:28] = 1, 2
    picture = draw_case("a", None, mask, np.eye(4), LABELS, truth=truth)
    panel = picture[LINE_PX : LINE_PX + PANEL_PX, :PANEL_PX]
    lines = (panel == colour(2)).all(axis=2)
    area = 12 * 24 * 10 * 10
    assert 0.03 * area < lines.sum() < 0.2 * area, "a line, not an area"
    assert not (panel == colour(1)).all(axis=2).any(), "the mask has no line where there is a truth"
    filled = (panel[..., 0] > panel[..., 1] + 30) & ~lines  # colour(1) is red
    assert filled.sum() == pytest.approx(area, rel=0.02)
    assert not (draw_case("a", None, mask, np.eye(4), LABELS)[LINE_PX:PANEL_PX] == colour(2)).all(axis=2).any()


def test_voxels_without_annotation_are_no_difference() -> None:
    mask, truth = (np.zeros((9, 9, 9), dtype=np.uint8) for _ in range(2))
    mask[1:8, 1:8, 2] = truth[1:8, 1:8, 2] = 1
    truth[:, :, 7], mask[3:5, 3:5, 4] = 9, 1
    plan = dict(labels=LABELS, ignore_label=9, intensity=[dict(rule="zscore")])
    (axial, *_) = overlays._planes(None, mask, np.eye(4), truth, 9)
    assert axial.caption.startswith("axial, K 4 ")
    assert draw_comparison("a", None, mask, truth, np.eye(4), plan).std() > 0


def test_windows_follow_the_modality() -> None:
    image = np.random.default_rng(0).normal(100, 20, (40, 40, 40))
    assert intensity_window(image, dict(rule="ct", low=-160, high=240, mean=0, std=1)) == Window(-160, 240)
    low, high = intensity_window(image, dict(rule="zscore"))
    assert (low, high) == tuple(np.percentile(image, (1, 99.5)))
    mask = np.zeros(image.shape, np.uint8)
    dark, light = (
        draw_case("a", np.full(image.shape, value), mask, np.eye(4), {}, window=Window(0, 10)) for value in (-5, 99)
    )
    assert dark[200, 100].tolist() == [0, 0, 0] and light[200, 100].tolist() == [255, 255, 255]


def test_an_empty_mask_of_few_slices_has_a_picture() -> None:
    """Tests that thin panels are as wide as their captions, and that nothing is divided by a range of 0."""
    image = np.full((40, 40, 1), 3.0)
    picture = draw_case(
        "a long name of a case " * 9, image, np.zeros(image.shape, np.uint8), np.diag((1, 1, 5, 1.0)), {}
    )
    assert picture.shape[1] == PANEL_PX + 2 * overlays.NARROWEST_PX + 2 * GAP_PX or picture.shape[1] > 2 * PANEL_PX
    assert picture.std() > 0


def test_names_of_values() -> None:
    """Tests that a value of several regions has the name of the smallest; values without a name are numbered."""
    regions = dict(background=0, whole=[1, 2, 3], core=[2, 3], enhancing=3)
    assert [overlays.name_of(value, regions) for value in (1, 2, 3, 7)] == ["whole", "core", "enhancing", "label 7"]
    rows = overlays._rows([((1, 2, 3), "x" * 40)] * 5, 700)
    assert len(rows) == 3 and all(left < 700 for row in rows for left, _, _ in row)
