"""Tests the NSD weighted by area against geometry, and against the code of its paper where that is installed."""

import itertools

import numpy as np
import pytest
from refusals import raises_one_line
from scipy import ndimage

from vil_dense.medical.metrics import NSD_DEFINITIONS, score_case

Element = tuple[np.ndarray, float]


def nsd(prediction: np.ndarray, truth: np.ndarray, spacing: tuple, tolerance_mm: float, kind: str = "area") -> float:
    options = dict(classes=dict(organ=1), spacing_mm=spacing, tolerance_mm=tolerance_mm, nsd=kind)
    (score,) = score_case("a", prediction.astype(np.uint8), truth.astype(np.uint8), **options)
    assert score.nsd is not None
    return score.nsd


def box_elements(low: np.ndarray, high: np.ndarray, spacing: np.ndarray) -> list[Element]:
    """Returns place and area of the surface elements of the voxels `low` to `high` - 1.

    Between 2 x 2 x 2 voxels, of which some are in the box, the surface is a plane through the middles of the edges that
    it cuts: a rectangle at a face, a bevelled one at an edge of the box, a triangle at its corner.
    """
    found = []
    for corner in itertools.product(*(range(a - 1, b) for a, b in zip(low, high, strict=True))):
        # along an axis at whose end the element lies, the surface is cut in the middle of a voxel's side
        ends = [place in (a - 1, b - 1) for place, a, b in zip(corner, low, high, strict=True)]
        if not any(ends):
            continue
        cut, whole = spacing[ends] / 2, spacing[[not end for end in ends]]
        if len(cut) == 1:
            area = float(np.prod(whole))
        elif len(cut) == 2:
            area = float(np.hypot(*cut) * whole[0])
        else:
            area = float(np.linalg.norm(np.cross([-cut[0], cut[1], 0], [-cut[0], 0, cut[2]])) / 2)
        found.append((np.array(corner) * spacing, area))
    return found


def nsd_of_elements(ours: list[Element], truth: list[Element], tolerance_mm: float) -> float:
    """Returns the fraction of both areas within the tolerance, with the distances between all pairs of elements."""
    total = near = 0.0
    for some, others in ((ours, truth), (truth, ours)):
        places = np.array([place for place, _ in others])
        for place, area in some:
            total += area
            near += area * bool(np.linalg.norm(places - place, axis=1).min() <= tolerance_mm * 1.0001)
    return near / total


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.5, 3.0)])
@pytest.mark.parametrize("tolerance_mm", [0.5, 1.0, 2.0])
def test_boxes_have_the_areas_of_geometry(spacing: tuple, tolerance_mm: float) -> None:
    boxes = (np.array([3, 4, 2]), np.array([9, 8, 7])), (np.array([2, 4, 3]), np.array([8, 9, 6]))
    masks = np.zeros((2, 14, 13, 11), bool)
    for mask, (low, high) in zip(masks, boxes, strict=True):
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    expected = nsd_of_elements(*(box_elements(*box, np.array(spacing)) for box in boxes), tolerance_mm)
    assert nsd(*masks, spacing, tolerance_mm) == pytest.approx(expected, abs=1e-6)
    if tolerance_mm == 0.5:
        assert 0 < expected < 1 and nsd(*masks, spacing, tolerance_mm, "voxel") != pytest.approx(expected, abs=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:surface_distance")
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 5.0)])
def test_the_code_of_the_paper(spacing: tuple) -> None:
    peer = pytest.importorskip("surface_distance", reason="surface-distance of PyPI is not installed: no peer")
    rng = np.random.default_rng(0)
    truth = ndimage.gaussian_filter(rng.normal(size=(24, 22, 14)), 2.5) > 0.02
    prediction = truth ^ (ndimage.gaussian_filter(rng.normal(size=truth.shape), 1.5) > 0.1)
    distances = peer.compute_surface_distances(truth, prediction, spacing)
    for tolerance_mm in (0.3, 1.0, 2.5):
        expected = peer.compute_surface_dice_at_tolerance(distances, tolerance_mm)
        assert nsd(prediction, truth, spacing, tolerance_mm) == pytest.approx(expected, abs=1e-6)


def test_definitions_are_named() -> None:
    mask = np.ones((3, 3, 3), bool)
    with raises_one_line(ValueError, "surface", *NSD_DEFINITIONS):
        nsd(mask, mask, (1, 1, 1), 1.0, "surface")
