"""Draws maps with a legend: a dense task, 2D and 3D, whose classes can be known from far away only.

A picture (volume) is divided into regions, each in one of a few colours. The class of a region's pixels is not the
colour: a legend in one corner shows a square (cube) for each colour with its class, drawn anew for each picture. Pixels
closer than `distance_px` to the legend are ignored, so a network whose receptive field is smaller can only guess. It is
associative recall with many queries (MQAR, arXiv 2312.04927): colours are the keys, classes the values.
"""

from collections.abc import Sequence

import numpy as np

IGNORED = 255
COLOURS = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]], np.float32)
"""First two channels of each colour."""
CLASSES = np.array([-1.5, -0.5, 0.5, 1.5], np.float32)
"""Third channel of a legend's square for each class; elsewhere it is 0."""


def make_map(
    size: Sequence[int],
    rng: np.random.Generator,
    *,
    distance_px: int,
    colours: int = 1,
    square_px: int = 16,
    regions: int = 6,
    noise: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a picture or a volume, (3, *size) float32, and its classes, (*size) uint8: 0 to 3 or `IGNORED`.

    Args:
        size: (H, W) or (D, H, W) in px.
        rng: the source of randomness.
        distance_px: from the legend to the nearest pixel with a class, along the axis where it is largest.
        colours: colours of the picture and squares of its legend, 1 to 4.
        square_px: side of a square of the legend.
        regions: number of regions, which are those of Voronoi around random points.
        noise: standard deviation of the noise on all pixels.

    Raises:
        ValueError: the number of colours is out of range, or no pixel lies so far from the legend.
    """
    if not 1 <= colours <= len(COLOURS):
        raise ValueError(f"a map has 1 to {len(COLOURS)} colours, got {colours}")
    chosen, classes = rng.permutation(len(COLOURS))[:colours], rng.integers(len(CLASSES), size=colours)
    grid = np.stack(np.meshgrid(*[np.arange(side) for side in size], indexing="ij"), -1)
    centres = rng.uniform(0, size, (regions, len(size)))
    nearest = np.stack([((grid - centre) ** 2).sum(-1) for centre in centres]).argmin(0)
    colour = rng.integers(colours, size=regions)[nearest]
    image = np.zeros((3, *size), np.float32)
    image[:2] = np.moveaxis(COLOURS[chosen][colour], -1, 0)
    labels = classes[colour].astype(np.uint8)

    lengths = [square_px] * (len(size) - 1) + [colours * square_px]
    if any(length > side for length, side in zip(lengths, size, strict=True)):
        raise ValueError(f"a legend of {colours} squares of {square_px} px does not fit into {tuple(size)}")
    ends = rng.integers(2, size=len(size))  # which corner
    starts = [int(end) * (side - length) for end, side, length in zip(ends, size, lengths, strict=True)]
    for number, place in enumerate(rng.permutation(colours)):
        corner = [*starts[:-1], starts[-1] + int(place) * square_px]
        square = image[(slice(None), *(slice(start, start + square_px) for start in corner))]
        square[:2] = COLOURS[chosen[number]].reshape(2, *[1] * len(size))
        square[2] = CLASSES[classes[number]]
    image += rng.normal(0, noise, image.shape).astype(np.float32)
    near = tuple(
        slice(max(0, start - distance_px), start + length + distance_px)
        for start, length in zip(starts, lengths, strict=True)
    )
    labels[near] = IGNORED
    if (labels == IGNORED).all():
        raise ValueError(f"no pixel of {tuple(size)} lies {distance_px} px from a legend of {colours} squares")
    return image, labels
