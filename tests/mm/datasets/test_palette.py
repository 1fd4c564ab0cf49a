"""Tests colours of classes that have none: the eye tells them apart, whatever their number."""

import cv2
import numpy as np
import pytest
from picture_folders import build, write_folder

from vil_dense.mm.datasets.segmentation import TAKEN, distinct_colours


def least_distance(colours: list) -> float:
    """Returns the least distance in CIELAB of a colour to another one or to `TAKEN`; the eye sees about 2."""
    lab = cv2.cvtColor(np.array([[*colours, *TAKEN]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - lab, axis=2)[: len(colours)]
    return float(distance[distance > 0].min()) if (distance == 0).sum() == len(colours) else 0.0


@pytest.mark.parametrize(("count", "least"), [(2, 70), (8, 60), (20, 35), (60, 20), (256, 10)])
def test_colours_are_far_apart(count: int, least: float) -> None:
    colours = distinct_colours(count)
    assert len(colours) == count and np.array(colours).min() >= 0 and np.array(colours).max() <= 255
    assert least_distance(colours) > least
    random = np.random.default_rng(0).integers(0, 255, (count, 3)).tolist()
    assert least_distance(colours) > 1.5 * least_distance(random)
    assert count == 256 or colours[: count // 2] == distinct_colours(count // 2)


def test_masks_without_colours_get_them(tmp_path) -> None:
    assert build(write_folder(tmp_path / "ids")).metainfo["palette"] == distinct_colours(3)
    given = build(write_folder(tmp_path / "palette", coding="palette")).metainfo["palette"]
    assert given == [[0, 0, 0], [0, 0, 128], [128, 0, 0]]
