"""Decides along which axes volumes may be mirrored without turning one structure into another.

A mirrored left kidney looks like a right one: where structures come in pairs, mirroring left and right teaches the
network to confuse them.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

SIDE = re.compile(r"(?<![a-z])(left|right|l|r|lt|rt|lh|rh|sin|dex|sinister|dexter)(?![a-z0-9])", re.IGNORECASE)
"""A word of a name that says the side of a structure."""
NEW_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""The place before a capital within a name such as KidneyLeft."""
NEAR = 0.15
"""In height and depth the centres of a pair differ by at most `NEAR` of the volume's size."""
SIZES = 2.0
"""Largest ratio of the sizes of a pair."""
FEWEST_CASES = 3
"""Smallest number of cases in which a pair must be found."""


def mirror_axes(plan: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the axes, in the order of the plan's orientation, along which a volume may be mirrored.

    They are the plan's `flip_axes`; a plan without them excludes left and right if names of its labels say a side.
    """
    if plan.get("flip_axes") is not None:
        return tuple(plan["flip_axes"])
    return axes_without_sides(plan["orientation"], sided_names(plan["labels"]))


def axes_without_sides(orientation: str, sided: Sequence[object]) -> tuple[int, ...]:
    """Returns all axes of an orientation such as RAS, without that from left to right if labels are `sided`."""
    return tuple(axis for axis, letter in enumerate(orientation) if not (sided and letter in "LR"))


def sided_names(labels: Mapping[str, int]) -> list[str]:
    """Returns the names that say a side, such as `left kidney`, `Hippocampus_R` or `KidneyLeft`."""
    return [name for name in labels if SIDE.search(NEW_WORD.sub(" ", name.replace("_", " ")))]


def centres(label: np.ndarray, affine: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the centre of each label of (I, J, K) in mm, (x, y, z), and its number of voxels as a fourth value."""
    step = max(1, round((label.size / 2**21) ** (1 / 3)))
    few = label[::step, ::step, ::step]
    counts = np.bincount(few.ravel())
    sums = []
    for axis in range(3):
        index = np.arange(few.shape[axis]).reshape([-1 if n == axis else 1 for n in range(3)])
        sums.append(np.bincount(few.ravel(), np.broadcast_to(index, few.shape).ravel()))
    found = {}
    for value in np.flatnonzero(counts).tolist():
        voxel = [step * total[value] / counts[value] for total in sums]
        found[value] = np.append((affine @ [*voxel, 1])[:3], counts[value])
    return found


def paired_labels(
    cases: Sequence[Mapping[int, np.ndarray]], sizes_mm: Sequence[Sequence[float] | np.ndarray]
) -> list[tuple[int, int]]:
    """Returns the pairs of labels that lie left and right of each other, always the same way round.

    Args:
        cases: the `centres` of each case.
        sizes_mm: width, depth and height of each case.
    """
    values = sorted({value for case in cases for value in case if value > 0})
    pairs = []
    for one, other in combinations(values, 2):
        both = [(case, size) for case, size in zip(cases, sizes_mm, strict=True) if one in case and other in case]
        if len(both) < FEWEST_CASES:
            continue
        apart = np.array([(case[one][:3] - case[other][:3]) / size for case, size in both])
        ratio = np.median([case[one][3] / case[other][3] for case, _ in both])
        same_way = abs(np.sign(apart[:, 0]).sum()) == len(both)
        if same_way and (np.abs(apart[:, 1:]).mean(0) < NEAR).all() and 1 / SIZES < ratio < SIZES:
            pairs.append((one, other))
    return pairs
