"""Resamples a volume from the grid of its file to that of the plan, for training and prediction.

MONAI's `Orientation` and `Spacing` give the same voxels (tests compare them), but `Spacing` shifts an oblique volume by
a fraction of a voxel, and takes seven times the memory: from 266 x 266 x 320 to 398 x 398 x 480 voxels 59 bytes per new
voxel, and `linear`, which resamples slab by slab, 8.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nibabel.orientations import apply_orientation
from torch import Tensor

from vil_dense.medical.data.intensity import normalise
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.io.geometry import orientation_transform, voxel_size

SLAB_BYTES = 64 * 2**20
STILL_VOX = 0.01
"""Largest shift in voxels at which an axis is not resampled."""


@dataclass(frozen=True)
class Axis:
    """Stores the positions of the new voxels of an axis between the old ones; the first voxels coincide.

    Args:
        lower: old voxel at or before each new one, int64.
        weight: of the old voxel after it, float32 in [0, 1).
        old: number of old voxels.
    """

    lower: Tensor
    weight: Tensor
    old: int

    @classmethod
    def between(cls, old: int, new: int, ratio: float) -> "Axis":
        """Places `new` voxels at a distance of `ratio` old ones; those after the last old one repeat it."""
        if new == old and abs(ratio - 1) * (new - 1) <= STILL_VOX:
            ratio = 1.0
        places = (torch.arange(new, dtype=torch.float64) * ratio).clamp_(max=old - 1)
        lower = places.floor()
        return cls(lower.long(), (places - lower).float(), old)

    @property
    def unchanged(self) -> bool:
        """Returns whether the new voxels are the old ones."""
        return len(self.lower) == self.old and not self.weight.any()

    @property
    def nearest(self) -> Tensor:
        """Returns the old voxel nearest to each new one, int64; of two equally near, the lower one."""
        return self.lower + (self.weight > 0.5)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """Returns the range of old voxels that the new ones `start` to `stop` depend on."""
        return int(self.lower[start]), min(int(self.lower[stop - 1]) + 2, self.old)

    def apply(self, x: Tensor, dim: int, start: int = 0, stop: int | None = None, first: int = 0) -> Tensor:
        """Returns the new voxels `start` to `stop` along `dim` of `x`, which begins at the old voxel `first`."""
        if self.unchanged:
            return x.narrow(dim, start - first, (len(self.lower) if stop is None else stop) - start)
        lower = self.lower[start:stop].to(x.device) - first
        weight = self.weight[start:stop].to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
        above = (lower + 1).clamp_(max=x.shape[dim] - 1)
        return torch.lerp(x.index_select(dim, lower), x.index_select(dim, above), weight)


def new_length(old: int, old_mm: float, new_mm: float) -> int:
    """Returns the new number of voxels along an axis by MONAI's rule: the last centre is nearest to the old one."""
    return int(np.round((old - 1) * old_mm / new_mm + 1))


def new_axes(shape: Sequence[int], before_mm: Sequence[float], after_mm: Sequence[float]) -> list[Axis]:
    """Returns the axes of a volume of `shape` that is resampled from voxels of `before_mm` to `after_mm`."""
    return [
        Axis.between(n, new_length(n, before, after), after / before)
        for n, before, after in zip(shape, before_mm, after_mm, strict=True)
    ]


def linear(volume: np.ndarray, axes: Sequence[Axis]) -> Tensor:
    """Resamples (C, I, J, K) float32 of any strides linearly to (C, I', J', K') float32."""
    after = [len(axis.lower) for axis in axes]
    result = torch.empty(volume.shape[0], *after)
    row = 4 * volume.shape[0] * max(math.prod(volume.shape[2:]), math.prod(after[1:]))
    for start, stop in slabs(after[0], row):
        first, end = axes[0].needs(start, stop)
        slab = torch.from_numpy(volume[:, first:end].copy())  # strides may be negative
        slab = axes[0].apply(slab, 1, start, stop, first)
        result[:, start:stop] = axes[2].apply(axes[1].apply(slab, 2), 3)
    return result


def nearest(labels: np.ndarray, axes: Sequence[Axis]) -> Tensor:
    """Resamples labels (I, J, K) of any strides to their nearest neighbours, (I', J', K') of the same type."""
    for dim, axis in enumerate(axes):
        labels = np.take(labels, axis.nearest.numpy(), dim)
    return torch.from_numpy(labels)


def slabs(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields start and stop of slabs of rows that take at most `SLAB_BYTES`, or of single rows."""
    step = max(SLAB_BYTES // row_bytes, 1)
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


@dataclass(frozen=True)
class PlanGrid:
    """Describes the grid of the plan for a volume; axes are in the order of the plan's orientation.

    Args:
        orientation: nibabel's transform (3, 2) from the file's axes to the plan's.
        file_shape: voxels of the file.
        file_spacing_mm: size of these voxels.
        shape: voxels at the plan's spacing.
        spacing_mm: size of these voxels.
        axes: positions of these voxels between those of the file.
    """

    orientation: np.ndarray
    file_shape: tuple[int, ...]
    file_spacing_mm: tuple[float, ...]
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    axes: tuple[Axis, ...]

    @classmethod
    def over(cls, shape: Sequence[int], affine: np.ndarray, plan: Plan) -> "PlanGrid":
        """Builds the grid for a file of `shape` (I, J, K) with `affine` (4, 4), voxels to mm."""
        orientation = orientation_transform(affine, plan["orientation"])
        order = np.argsort(orientation[:, 0]).tolist()
        sizes_mm = voxel_size(affine)
        file_shape = tuple(shape[axis] for axis in order)
        file_spacing_mm = tuple(sizes_mm[axis] for axis in order)
        axes = tuple(new_axes(file_shape, file_spacing_mm, plan["spacing_mm"]))
        after = tuple(len(axis.lower) for axis in axes)
        return cls(orientation, file_shape, file_spacing_mm, after, tuple(plan["spacing_mm"]), axes)

    def oriented(self, volume: np.ndarray) -> np.ndarray:
        """Returns a view of an array (I, J, K, ...) of the file with the axes of the plan."""
        return apply_orientation(volume, self.orientation)

    def image(self, image: np.ndarray) -> Tensor:
        """Resamples an image (C, I, J, K) float32 of the file linearly to (C, *shape) float32."""
        return linear(self.oriented(image.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2), self.axes)

    def label(self, label: np.ndarray) -> Tensor:
        """Resamples labels (I, J, K) of the file to their nearest neighbours on `shape`."""
        return nearest(self.oriented(label), self.axes)

    def axes_back(self) -> list[Axis]:
        """Returns the positions of the voxels of the file between those of the plan's grid."""
        return [
            Axis.between(after, before, before_mm / after_mm)
            for after, before, before_mm, after_mm in zip(
                self.shape, self.file_shape, self.file_spacing_mm, self.spacing_mm, strict=True
            )
        ]


def network_input(image: np.ndarray, grid: PlanGrid, plan: Plan) -> Tensor:
    """Returns the input of the network, (C, *grid.shape) float32, for an image (C, I, J, K) of the file."""
    return normalise(grid.image(image), plan["intensity"])
