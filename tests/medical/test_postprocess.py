"""Tests the steps after a prediction, and what is said of a mask: holes and components, at any spacing."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nifti_files import affine
from refusals import raises_one_line

from vil_dense.medical.inference.report import describe_mask
from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.postprocess import check_steps, largest_alone, postprocess, values_in_masks

LABELS = dict(background=0, organ=1, vessel=2, bone=5)
KNOWN = LabelMap.of(dict(labels=LABELS))


def two_parts() -> np.ndarray:
    mask = np.zeros((10, 12, 8), dtype=np.uint8)
    mask[2:5, 2:5, 2:5] = 1
    mask[5, 5, 5] = 1  # meets the cube at a corner: one component
    mask[8, 9, 1] = 1
    mask[0, 6:9, 4] = 2
    return mask


def test_the_largest_component_stays() -> None:
    mask, expected = two_parts(), two_parts()
    expected[8, 9, 1] = 0
    postprocess(mask, largest_alone(LABELS), KNOWN, 0.001)
    np.testing.assert_array_equal(mask, expected)


def test_a_hole_is_filled_and_what_lies_in_it_stays() -> None:
    mask = np.zeros((7, 7, 7), dtype=np.uint16)
    mask[1:6, 1:6, 1:6] = 1
    mask[2:5, 2:5, 2:5] = 0  # enclosed
    mask[3, 3, 3] = 2
    expected = np.where(mask == 0, 0, mask)
    expected[1:6, 1:6, 1:6] = 1
    expected[3, 3, 3] = 2
    open_one = mask.copy()
    open_one[3, 3, 4:] = 0  # a channel of one voxel to the outside
    for given, wanted in ((mask, expected), (open_one, open_one.copy())):
        postprocess(given, dict(organ=dict(fill_holes=True)), KNOWN, 0.001)
        np.testing.assert_array_equal(given, wanted)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 6.0)])
def test_volumes_are_in_ml_whatever_the_spacing(spacing: tuple[float, ...]) -> None:
    voxel_ml = float(np.prod(spacing)) / 1000
    for min_ml, kept in ((27 * voxel_ml, True), (29 * voxel_ml, False)):
        mask = two_parts()
        postprocess(mask, dict(organ=dict(min_ml=min_ml)), KNOWN, voxel_ml)
        assert (mask == 1).sum() == (28 if kept else 0) and (mask == 2).sum() == 3
    mask = two_parts()
    postprocess(mask, dict(vessel=dict(min_ml=3 * voxel_ml)), KNOWN, voxel_ml)
    assert (mask == 2).sum() == 3, "a component of just this volume stays"


def test_steps_come_in_their_order() -> None:
    """Tests that a hollow ball is filled before its volume counts, and the largest component can be too small."""
    mask = np.zeros((9, 9, 9), dtype=np.uint8)
    mask[1:6, 1:6, 1:6], mask[2:5, 2:5, 2:5], mask[7, 7, 7] = 1, 0, 1
    postprocess(mask, dict(organ=dict(min_ml=0.11, largest=True, fill_holes=True)), KNOWN, 0.001)
    assert mask.sum() == 125
    postprocess(mask, dict(organ=dict(min_ml=0.2, largest=True)), KNOWN, 0.001)
    assert mask.sum() == 0


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ([1], ("[1]",)),
        (dict(organ=True), ("True",)),
        (dict(tumour=dict(largest=True)), ("tumour", "organ, vessel, bone")),
        (dict(background=dict(largest=True)), ("background",)),
        (dict(organ=dict(largest=1)), ("organ", "largest")),
        (dict(organ=dict(min_ml=-1)), ("organ", "min_ml", "-1")),
        (dict(organ=dict(min_ml=float("nan"))), ("organ", "nan")),
        (dict(organ=dict(smooth=True)), ("organ", "smooth")),
    ],
)
def test_steps_that_are_refused(steps: Any, names: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *names):
        check_steps(steps, LABELS)


REGIONS = LabelMap.of(
    dict(
        labels=dict(background=0, whole=[1, 2, 3], core=[2, 3], enhancing=3),
        class_order=["background", "whole", "core", "enhancing"],
        regions_class_order=[1, 2, 3],
    )
)


def test_regions_take_what_is_inside_them_and_leave_what_is_around() -> None:
    """Tests that a removed part of the whole takes its core away, and one of the core joins the whole; holes too."""
    mask = np.zeros((12, 9, 9), np.uint8)
    mask[1:8, 1:8, 1:8], mask[2:5, 2:5, 2:5], mask[2, 2, 2] = 1, 2, 3
    mask[6, 6, 6] = 3  # a crumb of core and enhancing within the whole
    mask[10, 4:6, 4] = 1, 3  # a crumb of the whole
    mask[2, 6, 6] = 0  # a hole of the whole
    mask[3, 3, 3] = 1  # a hole of the core
    wholes = mask.copy()
    postprocess(wholes, dict(whole=dict(largest=True, fill_holes=True)), REGIONS, 0.001)
    expected = mask.copy()
    expected[10], expected[2, 6, 6] = 0, 1
    np.testing.assert_array_equal(wholes, expected)
    postprocess(mask, dict(core=dict(min_ml=0.003, fill_holes=True)), REGIONS, 0.001)
    expected[10, 4:6, 4], expected[2, 6, 6] = 1, 0
    expected[6, 6, 6], expected[3, 3, 3] = 1, 2
    np.testing.assert_array_equal(mask, expected)


def test_regions_that_overlap_keep_what_they_do_not_share() -> None:
    labels = dict(background=0, one=[1, 3], other=[2, 3], both=3)
    plan = dict(labels=labels, class_order=[*labels], regions_class_order=[1, 2, 3])
    table = values_in_masks(LabelMap.of(plan), "one")
    assert (table.values, table.removed, table.enclosed, table.filled) == ((1, 3), {1: 0, 3: 2}, (0,), 1)


def test_a_row_for_each_structure() -> None:
    organ, vessel, bone = describe_mask(two_parts(), LABELS, SimpleNamespace(affine=affine("oblique", (0.5, 2.0, 3.0))))
    assert organ == dict(
        structure="organ", label=1, voxels=29, ml=pytest.approx(29 * 3 / 1000), components=2, touches_border=False
    )
    assert (vessel["voxels"], vessel["components"], vessel["touches_border"]) == (3, 1, True)
    assert [*bone.values()] == ["bone", 5, 0, 0, 0, False]


@pytest.mark.parametrize("place", [(9, 5, 5), (5, 11, 5), (5, 5, 7), (0, 5, 5)])
def test_every_face_is_a_border(place: tuple[int, int, int]) -> None:
    mask = np.zeros((10, 12, 8), dtype=np.uint8)
    mask[place] = 1
    assert describe_mask(mask, LABELS, SimpleNamespace(affine=np.eye(4)))[0]["touches_border"]
