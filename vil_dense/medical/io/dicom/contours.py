"""Traces the outlines of masks as polygons along the edges of their pixels.

A polygon lies a little inside these edges, see `INSET`. So the mask is drawn again without loss by programs that ask
which centres of pixels a polygon holds, and by those that round its points to pixels and fill these too. A polygon is
in one piece and nowhere touches itself: a narrow channel joins a hole to the outside (a keyhole, DICOM PS3.3,
C.8.8.6.3).
"""

import numpy as np

Point = tuple[int, int]
"""A corner of pixels: (i, j) is half a pixel before the centre of pixel (i, j) along both axes."""

INSET = 0.01
"""Distance of a polygon from the edges of its pixels, in pixels."""
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Directions along the edges of a pixel, counter-clockwise, from the first of its corners."""
CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))
"""Corners of a pixel at which these edges begin."""


def outlines(inside: np.ndarray) -> list[np.ndarray]:
    """Returns a closed polygon, (N, 2) float64 in pixels, for each part of a mask whose pixels meet at edges.

    Args:
        inside: (I, J) bool.
    """
    polygons: dict[int, list[Point]] = {}
    owner: dict[Point, int] = {}
    holes = []
    for number, contour in enumerate(_contours(inside)):
        if _is_counter_clockwise(contour):
            polygons[number] = contour
        else:
            holes.append((min(contour), contour, number))
        owner |= dict.fromkeys(contour, number)
    for start, hole, _ in sorted(holes):
        # Left of the first corner of a hole there is the mask, up to a corner of its outline or of a hole before.
        i, j = start[0] - 1, start[1]
        while (i, j) not in owner:
            i -= 1
        joined = owner[i, j]
        polygon, at, first = polygons[joined], polygons[joined].index((i, j)), hole.index(start)
        polygon[at + 1 : at + 1] = [*hole[first:], *hole[:first], start, (i, j)]
        owner |= dict.fromkeys(hole, joined)
    return [_corners(polygon) for polygon in polygons.values()]


def _contours(inside: np.ndarray) -> list[list[Point]]:
    """Returns the closed contours of a mask with all their points, the mask on the left of each edge."""
    wide = np.pad(inside, 1)
    beside = (wide[1:-1, :-2], wide[2:, 1:-1], wide[1:-1, 2:], wide[:-2, 1:-1])  # of the edge in each direction
    edges = {
        (i + corner[0], j + corner[1], direction): None  # a dict keeps its order, unlike a set
        for direction, (corner, neighbour) in enumerate(zip(CORNERS, beside, strict=True))
        for i, j in np.argwhere(inside & ~neighbour).tolist()
    }
    contours = []
    while edges:
        start = edge = next(iter(edges))
        contour = []
        while edge in edges:
            del edges[edge]
            i, j, direction = edge
            contour.append((i, j))
            i, j = i + STEPS[direction][0], j + STEPS[direction][1]
            # left first: where two pixels meet at a corner alone, the contour stays with its own
            turns = ((i, j, (direction + turn) % 4) for turn in (1, 0, -1))
            edge = next(turned for turned in turns if turned in edges or turned == start)
        contours.append(contour)
    return contours


def _is_counter_clockwise(contour: list[Point]) -> bool:
    """Returns whether a contour goes around pixels of the mask, not around a hole."""
    i, j = np.array(contour).T
    return float(i @ np.roll(j, -1) - j @ np.roll(i, -1)) > 0


def _corners(polygon: list[Point]) -> np.ndarray:
    """Returns the points of a closed polygon at which it turns, (N, 2) float64 in pixels, moved inwards by `INSET`."""
    points = np.array(polygon)
    after = np.sign(np.roll(points, -1, 0) - points)
    before = np.roll(after, 1, 0)
    inwards = (before + after)[:, ::-1] * (-1, 1)  # the mask is on the left of both edges
    turns = (before != after).any(1)
    return points[turns] - 0.5 + INSET * inwards[turns]
