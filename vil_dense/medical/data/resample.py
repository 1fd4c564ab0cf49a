"""Linear resampling by slab: what MONAI's `Spacing` gives, in a few bytes per voxel where that takes 87."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SLAB_BYTES = 64 * 2**20
STILL_VOX = 0.01
"""An axis on which no voxel moves by more is left as it is."""


@dataclass(frozen=True)
class Axis:
    """Along one axis, where the new voxels lie between the old ones: the first of each is in one place.

    Args:
        lower: old voxel at or before each new one, int64.
        weight: share of the one after it, float32 in [0, 1].
        old: number of old voxels.
    """

    lower: Tensor
    weight: Tensor
    old: int

    @classmethod
    def between(cls, old: int, new: int, ratio: float) -> "Axis":
        """`new` voxels, each `ratio` old ones from the next; those beyond the last old one repeat it."""
        if new == old and abs(ratio - 1) * (new - 1) <= STILL_VOX:
            ratio = 1.0
        places = (torch.arange(new, dtype=torch.float64) * ratio).clamp_(max=old - 1)
        lower = places.floor()
        return cls(lower.long(), (places - lower).float(), old)

    @property
    def still(self) -> bool:
        return len(self.lower) == self.old and not self.weight.any()

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The old voxels, from and up to, from which the new ones `start` to `stop` are made."""
        return int(self.lower[start]), min(int(self.lower[stop - 1]) + 2, self.old)

    def apply(self, x: Tensor, dim: int, start: int = 0, stop: int | None = None, first: int = 0) -> Tensor:
        """The new voxels `start` to `stop` along `dim` of `x`, which begins at the old voxel `first`."""
        if self.still:
            return x.narrow(dim, start - first, (len(self.lower) if stop is None else stop) - start)
        lower = self.lower[start:stop].to(x.device) - first
        weight = self.weight[start:stop].to(x.device, x.dtype).view(-1, *[1] * (x.ndim - 1 - dim % x.ndim))
        above = (lower + 1).clamp_(max=x.shape[dim] - 1)
        return torch.lerp(x.index_select(dim, lower), x.index_select(dim, above), weight)


def new_length(old: int, old_mm: float, new_mm: float) -> int:
    """Voxels along an axis of `old`, by MONAI's rule: as many as reach nearest to the centre of the last one."""
    return int(np.round((old - 1) * old_mm / new_mm + 1))


def to_spacing(volume: np.ndarray, before_mm: Sequence[float], after_mm: Sequence[float]) -> Tensor:
    """(C, I, J, K) float32 of any strides -> (C, I', J', K') float32, the first voxels in one place."""
    shape = volume.shape[1:]
    after = [new_length(n, b, a) for n, b, a in zip(shape, before_mm, after_mm, strict=True)]
    axes = [Axis.between(n, m, a / b) for n, m, b, a in zip(shape, after, before_mm, after_mm, strict=True)]
    result = torch.empty(volume.shape[0], *after)
    row = 4 * volume.shape[0] * max(math.prod(shape[1:]), math.prod(after[1:]))
    for start, stop in slabs(after[0], row):
        first, end = axes[0].needs(start, stop)
        slab = torch.from_numpy(volume[:, first:end].copy())  # an axis of one voxel may run backwards, too
        slab = axes[0].apply(slab, 1, start, stop, first)
        result[:, start:stop] = axes[2].apply(axes[1].apply(slab, 2), 3)
    return result


def slabs(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """From and up to of consecutive rows that take `SLAB_BYTES` together, or one by one."""
    step = max(SLAB_BYTES // row_bytes, 1)
    return ((start, min(start + step, rows)) for start in range(0, rows, step))
