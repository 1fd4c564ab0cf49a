"""Turns the mask of a first stage into channels of the second stage's input, see `cascade`.

Training masks are changed at random, as in nnU-Net's cascade (Nat. Methods 18:203, 2021, supplement), so that the
second stage does not copy the faults of the first.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, RandomizableTransform
from scipy.ndimage import distance_transform_edt, find_objects
from scipy.ndimage import label as find_components
from torch import Tensor

from vil_dense.medical.data.plan_schema import Plan

CHANGE_PROB = 0.4
"""Probability that the structures of a patch are grown, shrunk, opened or closed."""
DROP_PROB = 0.2
"""Probability that a structure of a patch loses one of its small components."""
RADIUS_VOX = (1.0, 8.0)
"""Lowest and highest radius of a change, in voxels of the finest spacing."""
SMALL = 0.15
"""Fraction of a patch below which a component may be lost."""

Operation = Callable[[np.ndarray, float, Sequence[float]], np.ndarray]


def structure_channels(mask: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the structures of a mask (I, J, K) of integers, (structures, I, J, K) bool.

    Args:
        groups: values of each structure, the plan's `first_stage`.
    """
    return np.stack([np.isin(mask, list(own)) for own in groups])


def with_structures(image: Tensor, structures: np.ndarray) -> Tensor:
    """Returns an image (C, I, J, K) with its structures as further channels, 0 and 1, of its dtype."""
    return torch.cat([image, torch.from_numpy(structures).to(image)])


def grow(mask: np.ndarray, radius_mm: float, spacing_mm: Sequence[float]) -> np.ndarray:
    """Returns the voxels within a distance of a mask that is not empty."""
    return distance_transform_edt(~mask, sampling=spacing_mm) <= radius_mm


def shrink(mask: np.ndarray, radius_mm: float, spacing_mm: Sequence[float]) -> np.ndarray:
    """Returns the voxels of a mask that are farther than a distance from those outside; the patch's end is not one."""
    return mask if mask.all() else distance_transform_edt(mask, sampling=spacing_mm) > radius_mm


def _both(first: Operation, second: Operation, mask: np.ndarray, *size: Any) -> np.ndarray:
    between = first(mask, *size)
    return second(between, *size) if between.any() else between


OPERATIONS: tuple[Operation, ...] = (grow, shrink, partial(_both, shrink, grow), partial(_both, grow, shrink))
"""Dilation, erosion, opening and closing by a ball."""


class AddFirstStaged(RandomizableTransform, MapTransform):
    """Appends the structures of `first_stage`, a mask (1, I, J, K), to the channels of `image`, changed at random.

    Args:
        plan: with `first_stage`, see `plan_schema`.
        change_prob, drop_prob: see `CHANGE_PROB` and `DROP_PROB`.
    """

    def __init__(self, plan: Plan, change_prob: float = CHANGE_PROB, drop_prob: float = DROP_PROB) -> None:
        RandomizableTransform.__init__(self)
        MapTransform.__init__(self, ("image", "first_stage"))
        self.groups, self.spacing_mm = plan["first_stage"], plan["spacing_mm"]
        self.change_prob, self.drop_prob = change_prob, drop_prob
        values = [value for own in self.groups for value in own]
        self.exclusive = len(values) == len({*values})

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        data = dict(data)
        found = structure_channels(np.asarray(data.pop("first_stage")[0]).astype(int), self.groups)
        if self.R.random() < self.change_prob:
            for number in self.R.permutation(len(found)):
                self._change(found, number)
        for own in found:
            if self.R.random() < self.drop_prob:
                self._drop_component(own)
        data["image"] = with_structures(data["image"], found)
        return data

    def _change(self, structures: np.ndarray, number: int) -> None:
        """Grows, shrinks, opens or closes a structure in place; voxels that it gains leave the structures beside it."""
        operation = OPERATIONS[self.R.randint(len(OPERATIONS))]
        radius_mm = self.R.uniform(*RADIUS_VOX) * min(self.spacing_mm)
        if not structures[number].any():
            return
        margins = [int(radius_mm / mm) + 2 for mm in self.spacing_mm]
        (box,) = find_objects(structures[number].astype(np.uint8))
        near = tuple(
            slice(max(part.start - margin, 0), part.stop + margin) for part, margin in zip(box, margins, strict=True)
        )
        before = structures[number][near]
        after = operation(before, radius_mm, self.spacing_mm)
        if self.exclusive:
            structures[(slice(None), *near)] &= ~(after & ~before)
        structures[number][near] = after

    def _drop_component(self, structure: np.ndarray) -> None:
        """Empties one of the small components of a structure in place."""
        components, count = find_components(structure)
        sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
        small = np.flatnonzero(sizes < SMALL * structure.size)
        if len(small):
            structure[components == 1 + self.R.choice(small)] = False
