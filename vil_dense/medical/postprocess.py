"""Corrects masks: fills holes of a structure, keeps its largest component, removes components below a volume.

Components are those of voxels that meet at a face, an edge or a corner, and their volume is in ml, so a step does the
same on grids of other spacing. (MONAI's `RemoveSmallObjects` and `KeepLargestConnectedComponent` work on one-hot
tensors, which for 14 classes and 512 x 512 x 600 voxels take 2 GiB.)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from vil_dense.medical.label_map import structures

Steps = Mapping[str, Mapping[str, Any]]
"""Steps of each structure by name: `fill_holes` (bool), `largest` (bool) and `min_ml` (number), in this order."""

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Neighbourhood of a component: voxels that meet at a face, an edge or a corner."""
KNOWN = ("fill_holes", "largest", "min_ml")

Box = tuple[slice, ...]


def largest_alone(labels: Mapping[str, int]) -> Steps:
    """Returns the steps that keep the largest component of each structure of a plan."""
    return {name: dict(largest=True) for name in structures(labels)}


def check_steps(steps: Any, labels: Mapping[str, int]) -> None:
    """Checks that steps are of structures of a plan and have sound values.

    Raises:
        ValueError: they are not; says what was expected.
    """
    names = [*structures(labels)]
    if not isinstance(steps, Mapping) or not all(isinstance(own, Mapping) for own in steps.values()):
        raise ValueError(f"post-processing is an object with the steps of each structure, got {steps!r}")
    if unknown := [name for name in steps if name not in names]:
        raise ValueError(f"post-processing of {', '.join(unknown)}: the plan has {', '.join(names)}")
    if steps and (regions := [name for name, value in labels.items() if not isinstance(value, int)]):
        raise ValueError(
            f"post-processing (--largest) is for classes that exclude each other, and {', '.join(regions)} are regions "
            "of several labels: process the masks of regions with your own rule"
        )
    for name, own in steps.items():
        sound = all(isinstance(own.get(key, False), bool) for key in ("fill_holes", "largest"))
        volume = own.get("min_ml", 0)
        sound &= isinstance(volume, (int, float)) and not isinstance(volume, bool) and 0 <= volume < float("inf")
        if not sound or set(own) - set(KNOWN):
            raise ValueError(
                f"post-processing of {name} has fill_holes and largest (true or false) and min_ml (a number of ml), "
                f"got {dict(own)}"
            )


def postprocess(mask: np.ndarray, steps: Steps, labels: Mapping[str, int], voxel_ml: float) -> None:
    """Corrects a mask in place, one structure after another.

    Args:
        mask: (I, J, K) integers.
        steps: see `Steps`.
        labels: label values by name.
        voxel_ml: volume of a voxel.
    """
    for name, own in steps.items():
        if own.get("fill_holes"):
            fill_holes(mask, [labels[name]])
        if own.get("largest"):
            keep_largest(mask, [labels[name]])
        if own.get("min_ml"):
            remove_small(mask, [labels[name]], own["min_ml"], voxel_ml)


def fill_holes(mask: np.ndarray, values: Sequence[int]) -> None:
    """Gives in place the background that a structure encloses on all sides to it; other structures stay."""
    for value, box in boxes(mask, values):
        part = mask[box]
        part[ndimage.binary_fill_holes(part == value) & (part == 0)] = value


def keep_largest(mask: np.ndarray, values: Sequence[int]) -> None:
    """Keeps in place only the largest component of each of `values` in `mask`, (I, J, K) integers; sets others to 0."""
    for value, box in boxes(mask, values):
        components, sizes = find_components(mask[box] == value)
        if len(sizes) > 1:
            mask[box][(components > 0) & (components != 1 + int(np.argmax(sizes)))] = 0


def remove_small(mask: np.ndarray, values: Sequence[int], min_ml: float, voxel_ml: float) -> None:
    """Sets in place the components of a structure whose volume is below `min_ml` to 0."""
    for value, box in boxes(mask, values):
        components, sizes = find_components(mask[box] == value)
        small = 1 + np.flatnonzero(is_below(sizes, min_ml, voxel_ml))
        mask[box][np.isin(components, small)] = 0


def is_below(sizes: np.ndarray, min_ml: float, voxel_ml: float) -> np.ndarray:
    """Returns which of `sizes`, in voxels, are a smaller volume than `min_ml`."""
    return sizes * voxel_ml < min_ml * (1 - 1e-9)  # a component of just this volume stays, whatever the rounding


def find_components(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the component of each voxel, 1, 2, ... (0 outside), and the voxels of each component."""
    components, count = ndimage.label(inside, TOUCHING)
    return components, np.bincount(components.ravel(), minlength=count + 1)[1:]


def boxes(mask: np.ndarray, values: Sequence[int]) -> list[tuple[int, Box]]:
    """Returns value and bounding box of each of `values` above 0 that `mask` holds."""
    found = ndimage.find_objects(mask, max_label=max(values, default=0))
    return [(value, found[value - 1]) for value in values if value > 0 and found[value - 1] is not None]
