"""Corrects masks: fills holes of a structure, keeps its largest component, removes components below a volume.

Components are those of voxels that meet at a face, an edge or a corner, and their volume is in ml, so a step does the
same on grids of other spacing. (MONAI's `RemoveSmallObjects` and `KeepLargestConnectedComponent` work on one-hot
tensors, which for 14 classes and 512 x 512 x 600 voxels take 2 GiB.)
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from vil_dense.medical.label_map import LabelMap, inside, structures

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
    for name, own in steps.items():
        sound = all(isinstance(own.get(key, False), bool) for key in ("fill_holes", "largest"))
        volume = own.get("min_ml", 0)
        sound &= isinstance(volume, (int, float)) and not isinstance(volume, bool) and 0 <= volume < float("inf")
        if not sound or set(own) - set(KNOWN):
            raise ValueError(
                f"post-processing of {name} has fill_holes and largest (true or false) and min_ml (a number of ml), "
                f"got {dict(own)}"
            )


def postprocess(mask: np.ndarray, steps: Steps, known: LabelMap, voxel_ml: float) -> None:
    """Corrects a mask in place, one structure after another.

    A hole is filled with the structure where it is background or, for a region, only in regions around this one. Voxels
    of a component that is removed become background; those of a region leave the regions inside it as well, and stay in
    those around it.

    Args:
        mask: (I, J, K) integers.
        steps: see `Steps`.
        known: labels of the plan.
        voxel_ml: volume of a voxel.
    """
    for name, own in steps.items():
        table = values_in_masks(known, name)
        box = _box(mask, table.values)
        if not own or box is None:
            continue
        part = mask[box]
        found = inside(part, table.values)
        if own.get("fill_holes"):
            holes = ndimage.binary_fill_holes(found) & inside(part, table.enclosed)
            part[holes] = table.filled
            found |= holes
        components, sizes = find_components(found)
        removed = np.concatenate([[False], ~kept_components(sizes, own, voxel_ml)])[components]
        for value, after in [(part == value, after) for value, after in table.removed.items()]:
            part[removed & value] = after


class MaskValues(NamedTuple):
    """Stores what a structure is in masks.

    Args:
        values: of its voxels.
        removed: value of each of them that it gets when it leaves the structure.
        enclosed: values of voxels that may join the structure.
        filled: the value that they get.
    """

    values: tuple[int, ...]
    removed: dict[int, int]
    enclosed: tuple[int, ...]
    filled: int


def values_in_masks(known: LabelMap, name: str) -> MaskValues:
    """Returns what the structure `name` is in masks, among the others."""
    written = dict(zip(known.outputs, known.written, strict=True))
    written = {other: written[other] for other in known.structures}
    extent = {other: {*known.values[other]} if known.regions else {value} for other, value in written.items()}
    within = {other for other in written if extent[other] <= extent[name]}
    around = {other for other in written if extent[other] >= extent[name]}
    owners = {value: {other for other in written if value in extent[other]} for value in (0, *written.values())}

    def value_of(members: set[str]) -> int:
        return next((written[other] for other in reversed(written) if other in members), 0)

    return MaskValues(
        values=tuple(value for value, own in owners.items() if name in own),
        removed={value: value_of(own - within) for value, own in owners.items() if name in own},
        enclosed=tuple(value for value, own in owners.items() if name not in own and own <= around),
        filled=value_of(around),
    )


def kept_components(sizes: np.ndarray, steps: Mapping[str, Any], voxel_ml: float) -> np.ndarray:
    """Returns which components of `sizes`, in voxels, stay after the steps of their structure."""
    kept = np.arange(len(sizes)) == np.argmax(sizes) if steps.get("largest") and len(sizes) else sizes > 0
    # a component of just this volume stays, whatever the rounding
    return kept & (sizes * voxel_ml >= steps.get("min_ml", 0) * (1 - 1e-9))


def find_components(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the component of each voxel, 1, 2, ... (0 outside), and the voxels of each component."""
    components, count = ndimage.label(inside, TOUCHING)
    return components, np.bincount(components.ravel(), minlength=count + 1)[1:]


def _box(mask: np.ndarray, values: Sequence[int]) -> Box | None:
    """Returns the bounding box of the voxels of all `values` together; None if there are none."""
    found = [box for _, box in boxes(mask, values)]
    if not found:
        return None
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*found, strict=True))


def boxes(mask: np.ndarray, values: Sequence[int]) -> list[tuple[int, Box]]:
    """Returns value and bounding box of each of `values` above 0 that `mask` holds."""
    found = ndimage.find_objects(mask, max_label=max(values, default=0))
    return [(value, found[value - 1]) for value in values if value > 0 and found[value - 1] is not None]
