"""Tests metrics on cases whose values follow from counting, and the NSD by area against geometry and its code."""

import csv
import itertools
import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from refusals import raises_one_line
from scipy import ndimage

from vil_dense.medical.metrics import NSD_DEFINITIONS, Score, Scoring, save_scores, score_case, summarise

CLASSES = dict(organ=1, tumour=2)
SPACING = (1.0, 2.0, 4.0)


def box(*slices: slice, label: int = 1, shape: tuple[int, ...] = (12, 10, 8)) -> np.ndarray:
    volume = np.zeros(shape, dtype=np.uint8)
    volume[slices] = label
    return volume


def score(prediction: np.ndarray, truth: np.ndarray, spacing: tuple = SPACING, **options) -> list[Score]:
    return score_case("a", prediction, truth, classes=options.pop("classes", CLASSES), spacing_mm=spacing, **options)


CUBE = slice(3, 7), slice(3, 7), slice(3, 7)


def test_a_prediction_equal_to_the_truth() -> None:
    organ, tumour = score(box(*CUBE), box(*CUBE))
    assert (organ.outcome, organ.dice, organ.hd95_mm, organ.nsd) == ("both", 1.0, 0.0, 1.0)
    assert organ.truth_ml == organ.predicted_ml == pytest.approx(64 * 8 / 1000)
    assert (tumour.outcome, tumour.dice, tumour.hd95_mm, tumour.nsd) == ("absent", None, None, None)


@pytest.mark.parametrize(("axis", "near"), [(0, 36), (1, 40), (2, 40)])
def test_distances_are_in_mm_along_each_axis(axis: int, near: int) -> None:
    """Moves a cube of four voxels by one along `axis`: three of four layers overlap. Of 56 voxels of a boundary 36
    are in both, 16 are one voxel off, and 4, the middle of the old face, are as near as the closest neighbour:
    1 mm, which for axis 1 and 2 is within the tolerance."""
    moved = np.roll(box(*CUBE), 1, axis)
    organ, _ = score(moved, box(*CUBE), tolerance_mm=SPACING[axis] * 0.99)
    assert organ.dice == pytest.approx(0.75)
    assert organ.hd95_mm == pytest.approx(SPACING[axis])
    assert organ.nsd == pytest.approx(near / 56)
    assert score(moved, box(*CUBE), tolerance_mm=SPACING[axis])[0].nsd == 1


def test_hd95_and_nsd_by_counting() -> None:
    """Compares two lines of 20 voxels, one without its last two: each voxel of a line is boundary."""
    line = slice(5, 6), slice(5, 6)
    truth = box(*line, slice(0, 20), shape=(12, 10, 20))
    prediction = box(*line, slice(0, 18), shape=(12, 10, 20))
    organ, _ = score(prediction, truth, spacing=(1.0, 1.0, 3.0))
    distances = [0.0] * 18 + [3.0, 6.0]  # from the truth's voxels to the prediction's; the other way all are 0
    assert organ.dice == pytest.approx(2 * 18 / 38)
    assert organ.hd95_mm == pytest.approx(np.percentile(distances, 95))
    assert organ.nsd == pytest.approx((18 + 18) / (18 + 20))


@pytest.mark.parametrize(("outcome", "order"), [("missed", 1), ("false_positive", -1)])
def test_a_structure_in_one_of_the_two(outcome: str, order: int) -> None:
    organ, tumour = score(*[box(*CUBE), box(*CUBE) + box(slice(0, 1), label=2)][::order])
    assert organ.outcome == "both"
    diagonal = sqrt(12**2 + 20**2 + 32**2)
    assert (tumour.outcome, tumour.dice, tumour.nsd) == (outcome, 0.0, 0.0)
    assert tumour.hd95_mm == pytest.approx(diagonal)
    assert (tumour.predicted_ml == 0) == (outcome == "missed")


def test_a_region_of_several_labels() -> None:
    truth = box(*CUBE)
    truth[3:5, 3:7, 3:7] = 2
    (whole,) = score(box(*CUBE, label=2), truth, classes=dict(whole=(1, 2)))
    assert whole.dice == 1


def test_means_leave_out_what_is_absent_and_count_it() -> None:
    scores = [
        Score("a", "organ", "both", 0.8, 2.0, 0.9, 1.0, 1.0),
        Score("a", "tumour", "absent", None, None, None, 0.0, 0.0),
        Score("b", "organ", "missed", 0.0, 10.0, 0.0, 1.0, 0.0),
        Score("b", "tumour", "both", 0.6, 4.0, 0.7, 1.0, 1.0),
        Score("b", "bone", "absent", None, None, None, 0.0, 0.0),
    ]
    summary = summarise(scores)
    organ, tumour, bone = summary["structures"].values()
    assert organ == dict(dice=0.4, hd95_mm=6.0, nsd=0.45, both=1, missed=1, false_positive=0, absent=0)
    assert tumour == dict(dice=0.6, hd95_mm=4.0, nsd=0.7, both=1, missed=0, false_positive=0, absent=1)
    assert bone == dict(dice=None, hd95_mm=None, nsd=None, both=0, missed=0, false_positive=0, absent=1)
    assert summary["cases"] == 2
    assert summary["mean"] == pytest.approx(dict(dice=0.5, hd95_mm=5.0, nsd=0.575))


def test_files(tmp_path: Path) -> None:
    scores = score(box(*CUBE), box(*CUBE))
    summary = save_scores(scores, tmp_path, Scoring(CLASSES))
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["structure"], row["dice"], row["hd95_mm"]) for row in rows] == [
        ("a", "organ", "1", "0"),
        ("a", "tumour", "", ""),
    ]
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["mean"] == summary["mean"] == dict(dice=1.0, hd95_mm=0.0, nsd=1.0)
    assert content["nsd_tolerance_mm"] == 1.0 and "image diagonal" in content["rule"]
    assert content["scores"][1]["dice"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.json"]


def test_shapes_that_differ_are_refused() -> None:
    with raises_one_line(ValueError, "(12, 10, 8)", "(12, 10, 9)"):
        score(box(*CUBE), box(*CUBE, shape=(12, 10, 9)))


def test_a_tolerance_of_one_voxel_holds_where_a_header_rounds() -> None:
    """Tests columns of an oblique affine in float32, which have the length of a voxel only within rounding."""
    spacing = (1.1 * (1 + 2e-6), 0.9, 2.7)
    assert score(np.roll(box(*CUBE), 1, 0), box(*CUBE), spacing, tolerance_mm=1.1)[0].nsd == 1


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
