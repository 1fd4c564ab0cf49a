"""Tests boundary IoU against a reference that erodes each class's mask and counts (Cheng et al. 2021, eq. 1)."""

import numpy as np
import pytest
from scipy import ndimage

from vil_dense.mm.evaluation.boundary import band_width, boundary_areas, boundary_band

SQUARE = np.ones((3, 3), dtype=bool)


def reference_band(mask: np.ndarray, width: int) -> np.ndarray:
    """Returns the pixels of a mask that `width` erosions by 3 x 3 px take away; nothing is outside the picture."""
    return mask & ~ndimage.binary_erosion(mask, SQUARE, iterations=width, border_value=0)


def maps(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns a truth of large areas with ignored pixels, and a prediction that is wrong at contours and in spots."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(3, *size)), (0, 4, 4))
    truth = noise.argmax(0)
    prediction = (noise + 0.3 * ndimage.gaussian_filter(rng.normal(size=(3, *size)), (0, 2, 2))).argmax(0)
    truth[rng.random(size) < 0.01] = 255
    truth[: size[0] // 5, : size[1] // 3] = 255
    return prediction, truth


@pytest.mark.parametrize(("seed", "size"), [(0, (40, 60)), (1, (61, 37)), (2, (150, 90)), (3, (5, 4))])
def test_equals_the_reference(seed: int, size: tuple[int, int]) -> None:
    prediction, truth = maps(seed, size)
    both, either = boundary_areas(prediction, truth, 4, 255)
    prediction = np.where(truth == 255, 255, prediction)
    width = band_width(size)
    for n in range(4):
        bands = [reference_band(label == n, width) for label in (prediction, truth)]
        assert both[n] == (bands[0] & bands[1]).sum() and either[n] == (bands[0] | bands[1]).sum()
    assert both[3] == either[3] == 0 and both.sum() > 0


def test_width_is_two_percent_of_the_diagonal() -> None:
    assert band_width((300, 400)) == 10 and band_width((512, 683)) == 17 and band_width((10, 10)) == 1


def test_band_of_a_square() -> None:
    label = np.zeros((12, 12), dtype=np.uint8)
    label[2:10, 2:10] = 200  # of an unsigned type, and far from its neighbour's id
    band = boundary_band(label, 2)
    assert not band[4:8, 4:8].any() and band[2:10, 2:4].all() and band[0].all()


def test_is_stricter_than_iou_for_large_objects() -> None:
    """Compares two squares of 80 px, one shifted by 4: IoU is 0.90, and the bands share much less."""
    truth, prediction = np.zeros((2, 120, 120), dtype=int)
    truth[20:100, 20:100] = prediction[20:100, 24:104] = 1
    both, either = boundary_areas(prediction, truth, 2, 255)
    iou = ((truth == 1) & (prediction == 1)).sum() / ((truth == 1) | (prediction == 1)).sum()
    assert iou > 0.9 and both[1] / either[1] < 0.5
