"""Tests maps with a legend: the same for the same seed, classes that only the legend shows, none of a pixel near it."""

import numpy as np
import pytest
from refusals import raises_one_line

from vil_dense.synthetic.legends import CLASSES, COLOURS, IGNORED, make_map

SIZES = [(64, 64), (50, 71), (20, 18, 52)]

each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def draw(size: tuple[int, ...], seed: int = 0, **options) -> tuple[np.ndarray, np.ndarray]:
    return make_map(size, np.random.default_rng(seed), **{"distance_px": 16, "noise": 0.0, **options})


@each_size
def test_shapes_types_and_seeds(size: tuple[int, ...]) -> None:
    image, labels = draw(size, 3, noise=0.1)
    assert (image.shape, image.dtype, labels.shape, labels.dtype) == ((3, *size), np.float32, size, np.uint8)
    for first, second in zip((image, labels), draw(size, 3, noise=0.1), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(image, draw(size, 4, noise=0.1)[0])


@each_size
@pytest.mark.parametrize("colours", [1, 2])
def test_the_class_of_a_colour_is_that_of_its_square(size: tuple[int, ...], colours: int) -> None:
    for seed in range(8):
        image, labels = draw(size, seed, colours=colours)
        pixels, classes = np.moveaxis(image, 0, -1).reshape(-1, 3), labels.reshape(-1)
        legend, labelled = pixels[:, 2] != 0, classes != IGNORED
        assert legend.sum() == colours * 16 ** len(size) and not labelled[legend].any()
        shown = {tuple(key): level for *key, level in np.unique(pixels[legend], axis=0).tolist()}
        assert len(shown) == colours and {*shown} <= {tuple(key) for key in COLOURS.tolist()}
        found = np.unique(np.c_[pixels[labelled, :2], CLASSES[classes[labelled]]], axis=0).tolist()
        assert found and all(shown[tuple(key)] == level for *key, level in found)


def test_all_colours_and_classes_occur_equally_often() -> None:
    maps = [draw((40, 40), seed, distance_px=4, colours=1) for seed in range(400)]
    counts = np.bincount([labels[labels != IGNORED][0] for _, labels in maps], minlength=4)
    colours = [tuple(image[:2, 0, 0].tolist()) for image, _ in maps]
    assert (np.abs(counts - 100) < 40).all() and all(abs(colours.count(key) - 100) < 40 for key in {*colours})


@each_size
def test_no_pixel_near_the_legend_has_a_class(size: tuple[int, ...]) -> None:
    for seed in range(5):
        image, labels = draw(size, seed)
        legend, labelled = np.argwhere(image[2] != 0), np.argwhere(labels != IGNORED)
        low, high = legend.min(0), legend.max(0)
        gaps = np.maximum(low - labelled, labelled - high).max(1)
        assert gaps.min() == 16 + 1


def test_sizes_and_numbers_are_refused_in_words() -> None:
    with raises_one_line(ValueError, "1 to 4", "5"):
        draw((64, 64), colours=5)
    with raises_one_line(ValueError, (32, 32), "16 px"):
        draw((32, 32))
    with raises_one_line(ValueError, (64, 40), "3 squares of 16 px"):
        draw((64, 40), colours=3)
