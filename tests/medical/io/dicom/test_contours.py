"""Tests that outlines of masks hold just their pixels, with holes, islands in holes, and corners that touch."""

import cv2
import numpy as np
import pytest
from dicom_contours import turns_around
from scipy import ndimage

from vil_dense.medical.io.dicom.contours import outlines

DRAWN = {
    "one": "#",
    "corner": "#. .#",
    "ring": "### #.# ###",
    "hole at a corner": "#### ##.# #.## ####",
    "holes beside": "##### #.#.# ##### #.#.# #####",
    "island": "##### #...# #.#.# #...# #####",
    "steps": "#... ##.. #### .###",
    "comb": "#.#.# ##### #.#.#",
    "full": "### ### ###",
    "empty": "... ...",
}


def drawn(name: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in DRAWN[name].split()])


def check(inside: np.ndarray) -> None:
    found = outlines(inside)
    parts, count = ndimage.label(inside)
    assert len(found) == count
    seen, drawn_again = np.zeros(inside.shape, int), np.zeros(inside.shape, bool)
    for polygon in found:
        turns, crossings = turns_around(polygon, inside.shape)
        np.testing.assert_array_equal(turns, crossings % 2, "keyholes are read alike by both rules")
        assert len({*parts[turns == 1].tolist()}) == 1
        seen += turns
        assert len({*map(tuple, polygon.tolist())}) == len(polygon), "it touches itself nowhere"
        i, j = polygon.T
        area, length = 0.5 * (i @ np.roll(j, -1) - j @ np.roll(i, -1)), np.abs(np.roll(polygon, -1, 0) - polygon).sum()
        assert turns.sum() - 0.011 * length <= area <= turns.sum()
        rounded = [np.rint(polygon[:, ::-1]).astype(np.int32)]
        drawn_again |= cv2.fillPoly(np.zeros(inside.shape, np.uint8), rounded, 1).astype(bool)
        steps = np.sign(np.round(np.roll(polygon, -1, 0) - polygon, 6))
        assert (steps != np.roll(steps, 1, 0)).any(1).all(), "a point at each turn alone"
    np.testing.assert_array_equal(seen, inside)
    np.testing.assert_array_equal(drawn_again, inside, "by OpenCV, from points rounded to pixels")


@pytest.mark.parametrize("name", DRAWN)
def test_drawings(name: str) -> None:
    check(drawn(name))


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8, 0.95])
def test_random_masks(density: float) -> None:
    """Tests masks with hundreds of parts, holes and touching corners each."""
    for seed in range(3):
        check(np.random.default_rng(seed).random((23, 31)) < density)
