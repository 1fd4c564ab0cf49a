"""Finds structures of which a patch sees too little, and the spacing at which it sees all of them."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from vil_dense.medical.data.plan_sizes import choose_patch
from vil_dense.medical.label_map import values_of

FEWEST_SEEN = 2.0
"""Ratio of a structure's extent to the patch above which the patch sees too little of it."""
COARSER = 1.1
"""Factor by which a spacing is coarsened in the search for one at which a patch sees all of a structure."""


def boxes_mm(label: np.ndarray, order: Sequence[int], spacing_mm: Sequence[float]) -> dict[int, np.ndarray]:
    """Returns the box of each value above 0 in (I, J, K): start and stop along each axis of the plan, (2, 3) mm."""
    boxes = {value: box for value, box in enumerate(find_objects(label), 1) if box is not None}
    return {
        value: np.array([(box[axis].start, box[axis].stop) for axis in order]).T * [spacing_mm[axis] for axis in order]
        for value, box in boxes.items()
    }


def median_extents_mm(cases: Sequence[Mapping[int, np.ndarray]], labels: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the median extent along each axis of each structure, over the cases that have it.

    Args:
        cases: the `boxes_mm` of each case.
        labels: values of the structures by name.
    """
    found = {}
    for name, own in labels.items():
        values = [value for value in values_of(own) if value > 0]
        held = [[boxes[value] for value in values if value in boxes] for boxes in cases]
        ends = [(np.min(case, axis=0)[0], np.max(case, axis=0)[1]) for case in held if case]
        if ends:
            found[name] = np.median([stop - start for start, stop in ends], axis=0)
    return found


def coarser_spacing(
    extents: Mapping[str, np.ndarray], median_size: Callable[[Sequence[float]], list[int]], plan: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Returns the spacing at which a patch sees all of the structure that it sees least of; None if it sees enough.

    A patch sees too little where a structure is more than `FEWEST_SEEN` times as long along an axis. The finest axes
    are coarsened first, for patches of as many voxels.

    Args:
        extents: see `median_extents_mm`.
        median_size: returns the median size of the cases, voxels, at a spacing in mm.
        plan: see `plan_schema`.
    """

    def ratio(extent: np.ndarray, patch: Sequence[int], spacing: Sequence[float]) -> float:
        return float((extent / np.multiply(patch, spacing)).max())

    patch, spacing = plan["patch_vox"], list(plan["spacing_mm"])
    ratios = {name: ratio(extent, patch, spacing) for name, extent in extents.items()}
    name = max(ratios, key=lambda name: ratios[name], default=None)
    if name is None or ratios[name] <= FEWEST_SEEN:
        return None
    most, size = prod(patch), median_size(spacing)
    while ratio(extents[name], patch, spacing) > 1 and any(np.less(patch, size)):
        finest = COARSER * min(spacing)
        spacing = [round(max(mm, finest), 4) for mm in spacing]
        size = median_size(spacing)
        patch = choose_patch(size, spacing, most)
    seen = np.multiply(plan["patch_vox"], plan["spacing_mm"]).round(1).tolist()
    return dict(structure=name, extent_mm=extents[name].round(1).tolist(), patch_mm=seen, spacing_mm=spacing)
