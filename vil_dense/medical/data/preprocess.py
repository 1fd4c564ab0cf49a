"""Resamples a volume from the grid of its file to that of the plan, for training and prediction.

MONAI's `Orientation` and `Spacing` give the same voxels (a test compares them), but `Spacing` takes seven times the
memory (see `resample`), and shifts an oblique volume by a fraction of a voxel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation
from torch import Tensor

from vil_dense.medical.data.intensity import normalise
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.data.resample import Axis, linear, nearest, new_axes
from vil_dense.medical.io.geometry import voxel_size
from vil_dense.medical.io.orientation import orientation_transform


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
