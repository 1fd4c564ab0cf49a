"""Tests that volumes are not mirrored from left to right where that turns one structure into another."""

from pathlib import Path

import numpy as np
import pytest
from nifti_files import affine, write_nifti

from vil_dense.medical.data.mirroring import centres, mirror_axes, paired_labels, sided_names
from vil_dense.medical.data.plan import make_plan
from vil_dense.medical.datalists.datalist import read_datalist

SHAPE = (24, 20, 16)


@pytest.mark.parametrize(
    "name",
    ["left kidney", "Kidney_R", "rh-cortex", "Right-Hippocampus", "L1 l", "kidney (left)", "LeftKidney", "kidneyR"],
)
def test_names_that_say_a_side(name: str) -> None:
    assert sided_names({"background": 0, name: 1}) == [name]


@pytest.mark.parametrize("name", ["liver", "gall bladder", "cleft", "bright spot", "RV", "L1", "portal vein"])
def test_names_that_say_none(name: str) -> None:
    assert sided_names({"background": 0, name: 1}) == []


@pytest.mark.parametrize(("orientation", "axes"), [("RAS", (1, 2)), ("LPS", (1, 2)), ("PSR", (0, 1)), ("SLA", (0, 2))])
def test_the_axis_from_left_to_right_is_found(orientation: str, axes: tuple[int, ...]) -> None:
    plan = dict(orientation=orientation, labels=dict(background=0, left=1))
    assert mirror_axes(plan) == axes
    assert mirror_axes(plan | dict(flip_axes=[0])) == (0,)
    assert mirror_axes(plan | dict(labels=dict(background=0, tumour=1))) == (0, 1, 2)


def kidneys(rng: np.random.Generator, swap: bool = False, low: int = 0) -> np.ndarray:
    """Returns two boxes left and right of the middle, of labels 1 and 2, and a third one below, 3."""
    label = np.zeros(SHAPE, np.uint8)
    y, z = rng.integers(8, 11), rng.integers(7, 9)
    label[3:7, y : y + 4, z : z + 5] = 2 if swap else 1
    label[16:20, y : y + 4, z - low : z - low + 5] = 1 if swap else 2
    label[10:13, 2:5, 1:3] = 3
    return label


def pairs(labels: list[np.ndarray], orientation: str = "RAS") -> list[tuple[int, int]]:
    place = affine(orientation, (0.5, 0.7, 2))
    size = np.abs(place[:3, :3] @ np.diag(SHAPE)).sum(1)
    return paired_labels([centres(label, place) for label in labels], [size] * len(labels))


@pytest.mark.parametrize("orientation", ["RAS", "LPS"])
def test_pairs_are_found_without_names(orientation: str) -> None:
    rng = np.random.default_rng(0)
    assert pairs([kidneys(rng) for _ in range(4)], orientation) == [(1, 2)]


def test_what_is_no_pair() -> None:
    rng = np.random.default_rng(0)
    assert pairs([kidneys(rng, swap=n % 2 == 1) for n in range(4)]) == [], "sides that change"
    assert pairs([kidneys(rng, low=6) for _ in range(4)]) == [], "another height"
    assert pairs([kidneys(rng) for _ in range(2)]) == [], "too few cases"
    assert pairs([kidneys(rng) for _ in range(4)], "PSR") == [], "the first axis is no longer from left to right"


def test_the_plan_says_which_axes_and_why(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(4):
        write_nifti(tmp_path / f"images/{n}.nii.gz", rng.normal(size=SHAPE).astype(np.float32))
        write_nifti(tmp_path / f"labels/{n}.nii.gz", kidneys(rng))
    values = dict(network=dict(channels=(8, 8), depths=(0, 1), deep_supervision=1))
    made = make_plan(read_datalist(tmp_path), set_values=values)
    assert made["plan"]["flip_axes"] == [1, 2] and made["data"]["sided"] == {"class 1": "place", "class 2": "place"}
    named = dict(labels=dict(background=0, l_kidney=1, r_kidney=2, gland=3))
    made = make_plan(read_datalist(tmp_path), set_values=values | named)
    assert made["data"]["sided"] == dict(l_kidney="name", r_kidney="name")
    overridden = make_plan(read_datalist(tmp_path), set_values=values | dict(flip_axes=[0, 1, 2]))
    assert mirror_axes(overridden["plan"]) == (0, 1, 2)
