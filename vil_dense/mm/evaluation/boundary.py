"""Computes boundary IoU, which is sensitive to errors at contours (Cheng et al. 2021, arXiv 2103.16562)."""

import numpy as np
from scipy import ndimage

BAND = 0.02
"""Width of the band along contours, a fraction of the picture's diagonal."""


def band_width(size: tuple[int, int]) -> int:
    """Returns the width of the band in px for a picture of `size`, (H, W); at least 1."""
    return max(round(BAND * float(np.hypot(*size))), 1)


def boundary_band(label: np.ndarray, width: int) -> np.ndarray:
    """Finds the pixels that are at most `width` px inside the contour of their own class.

    A pixel is outside the band if the square of 2 * width + 1 px around it holds its class alone. The border of the
    picture is a contour, as in the authors' code.

    Args:
        label: (H, W) integers from 0 on.

    Returns:
        (H, W) bool.
    """
    label = label.astype(np.int32)
    size = 2 * width + 1
    lowest = ndimage.minimum_filter(label, size, mode="constant", cval=-1)
    return lowest != ndimage.maximum_filter(label, size, mode="constant", cval=-1)


def boundary_areas(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int, ignore_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts the pixels of each class in the intersection and the union of the bands of prediction and truth.

    Pixels that the truth ignores have no class in both maps, so the edge of such an area is a contour in both.

    Args:
        prediction, truth: (H, W) integers.

    Returns:
        Intersection and union, (num_classes) int64 each.
    """
    ignored = (truth == ignore_index) | (truth < 0) | (truth >= num_classes)
    width = band_width((truth.shape[0], truth.shape[1]))
    bands = []
    for label in (prediction, truth):
        label = np.where(ignored, num_classes, label)  # the last count is that of ignored pixels
        bands.append(np.where(boundary_band(label, width), label, num_classes).ravel())
    predicted, true = (np.bincount(band, minlength=num_classes + 1)[:num_classes] for band in bands)
    both = np.bincount(bands[0][bands[0] == bands[1]], minlength=num_classes + 1)[:num_classes]
    return both, predicted + true - both
