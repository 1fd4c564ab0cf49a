"""Tests that outlines of masks hold just their pixels, with holes, islands in holes, and corners that touch."""

import numpy as np
import pytest
from dicom_contours import turns_around
from scipy import ndimage

from vil_dense.medical.io.contours import outlines

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
    seen = np.zeros(inside.shape, int)
    for polygon in found:
        turns, crossings = turns_around(polygon, inside.shape)
        np.testing.assert_array_equal(turns, crossings % 2, "keyholes are read alike by both rules")
        assert len({*parts[turns == 1].tolist()}) == 1
        seen += turns
        i, j = polygon.T
        assert 0.5 * (i @ np.roll(j, -1) - j @ np.roll(i, -1)) == turns.sum(), "the area"
        steps = np.sign(np.roll(polygon, -1, 0) - polygon)
        assert (steps != np.roll(steps, 1, 0)).any(1).all(), "a point at each turn alone"
    np.testing.assert_array_equal(seen, inside)


@pytest.mark.parametrize("name", DRAWN)
def test_drawings(name: str) -> None:
    check(drawn(name))


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8, 0.95])
def test_random_masks(density: float) -> None:
    """Each with hundreds of parts, holes and touching corners."""
    for seed in range(3):
        check(np.random.default_rng(seed).random((23, 31)) < density)
