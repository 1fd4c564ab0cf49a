"""Chooses colours for classes that have none."""

import itertools

import cv2
import numpy as np

TAKEN = ([0, 0, 0], [255, 255, 255], [128, 128, 128])
"""Colours that classes do not get: black is drawn as no colour, grey as unlabelled, white is the paper."""


def distinct_colours(count: int) -> list[list[int]]:
    """Returns `count` colours [R, G, B] in 0..255 that the eye tells apart; fewer ones are the first of more.

    Each next colour is the one of a grid of all colours that lies farthest from those before, in CIELAB, where
    distances are about those that the eye sees.
    """
    levels = np.linspace(0, 255, max(7, int((2 * count) ** (1 / 3)) + 1)).round().astype(int).tolist()
    grid = [*TAKEN, *(list(colour) for colour in itertools.product(levels, repeat=3))]
    lab = cv2.cvtColor(np.array([grid], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.min([np.linalg.norm(lab - lab[index], axis=1) for index in range(len(TAKEN))], axis=0)
    chosen = []
    for _ in range(count):
        index = int(distance.argmax())
        chosen.append(grid[index])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[index], axis=1))
    return chosen
