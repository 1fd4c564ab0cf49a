"""Slides windows over a volume of any size and yields each row of scores after its last window.

The result is that of MONAI's `sliding_window_inference(mode="gaussian")`, which stores the scores of all classes for
the whole volume. For 14 classes, 266 x 266 x 320 voxels and windows of 96 MONAI takes 1.4 GiB, and this module 0.9 in
the same time. Rows can also be resampled to the grid of the file one after another, where all scores (512 x 512 x 600)
take 8.2 GiB.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map
from torch import Tensor, nn

from vil_dense.medical.data.plan_schema import Plan

SIGMA_SCALE = 0.125
"""Deviation of the Gaussian weights as a fraction of the window, as in MONAI and nnU-Net."""

Box = tuple[slice, ...]


@dataclass(frozen=True)
class SlidingWindow:
    """Stores the size, overlap and batch of sliding windows.

    Args:
        size: voxels along each axis.
        overlap: fraction shared by neighbouring windows, in [0, 1).
        batch: windows that run at one time.

    Raises:
        ValueError: overlap or batch is out of range.
    """

    size: tuple[int, ...]
    overlap: float = 0.5
    batch: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1 or self.batch < 1:
            raise ValueError(
                f"windows overlap by a fraction in [0, 1), one or more at a time; got {self.overlap}, {self.batch}"
            )

    @classmethod
    def of(cls, plan: Plan, overlap: float = 0.5, batch: int = 1) -> "SlidingWindow":
        """Returns windows of the size of the plan's patch."""
        return cls(tuple(plan["patch_vox"]), overlap, batch)

    def starts(self, shape: Sequence[int]) -> list[list[int]]:
        """Returns the first voxels of the windows along each axis; the last window ends with the volume."""
        found = []
        for length, window in zip(shape, self.size, strict=True):
            step, room = max(int(window * (1 - self.overlap)), 1), max(length - window, 0)
            found.append([min(index * step, room) for index in range(math.ceil(room / step) + 1)])
        return found

    def count(self, shape: Sequence[int]) -> int:
        """Returns the number of windows of a volume."""
        return math.prod(map(len, self.starts(shape)))

    def stream_axis(self, shape: Sequence[int]) -> int:
        """Returns the axis along which the fewest scores have to be stored."""
        return min(range(3), key=lambda axis: self.size[axis] / max(shape[axis], self.size[axis]))


class _Scores:
    """Sums weighted logits in a slab of the depth of a window, which moves along `axis` of the volume."""

    def __init__(self, shape: Sequence[int], windows: SlidingWindow, axis: int, device: torch.device | str) -> None:
        self.axis, self.device = axis, device
        self.shape = list(shape)
        self.shape[axis] = windows.size[axis]
        self.weight = compute_importance_map(
            windows.size, mode="gaussian", sigma_scale=SIGMA_SCALE, device=device, dtype=torch.float32
        )
        self.total = torch.zeros(0, *self.shape, device=device)  # (classes, *shape) from the first window on
        self.weights = torch.zeros(self.shape, device=device)

    def add(self, box: Box, logits: Tensor) -> None:
        """Adds the logits (classes, *window) of the window at `box`, all of whose rows are in the slab."""
        if len(self.total) == 0:
            self.total = torch.zeros(len(logits), *self.shape, device=self.device)
        box = (*box[: self.axis], slice(None), *box[self.axis + 1 :])
        self.total[(slice(None), *box)].addcmul_(logits, self.weight)
        self.weights[box] += self.weight

    def mean(self, start: int, stop: int) -> Tensor:
        """Returns the mean logits of the rows `start` to `stop` of the slab."""
        rows = stop - start
        return self.total.narrow(self.axis + 1, start, rows) / self.weights.narrow(self.axis, start, rows)

    def advance(self, rows: int) -> None:
        """Moves the slab by `rows` rows."""
        _shift(self.total, self.axis + 1, rows)
        _shift(self.weights, self.axis, rows)


@torch.no_grad()
def score_rows(
    networks: Sequence[nn.Module],
    image: Tensor,
    windows: SlidingWindow,
    axis: int,
    *,
    mirror: Sequence[int] = (),
    device: torch.device | str = "cpu",
    stitch_device: torch.device | str = "cpu",
    done: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Tensor]]:
    """Yields slabs of logits, one after the other along `axis`: the first row, and (classes, I, J, K) float32.

    Args:
        networks: in eval mode on `device`; logits are averaged over them. (B, C, *window) -> (B, classes, *window).
        image: (C, I, J, K); padded with 0 on both sides if it is smaller than the window.
        mirror: axes of (I, J, K); scores are averaged over all mirror images along them.
        stitch_device: device on which scores are summed.
        done: called after each window.
    """
    size = image.shape[1:]
    image, before = _pad(image, windows.size)
    starts = windows.starts(image.shape[1:])
    scores = _Scores(image.shape[1:], windows, axis, stitch_device)
    for first, following in itertools.pairwise([*starts[axis], image.shape[axis + 1]]):
        corners = itertools.product(*starts[:axis], [first], *starts[axis + 1 :])
        boxes = [
            tuple(slice(start, start + n) for start, n in zip(corner, windows.size, strict=True)) for corner in corners
        ]
        for index in range(0, len(boxes), windows.batch):
            some = boxes[index : index + windows.batch]
            patches = torch.stack([image[(slice(None), *box)] for box in some]).to(device)
            for box, logits in zip(some, _logits(networks, patches, mirror).to(stitch_device), strict=True):
                scores.add(box, logits)
                done()
        start, stop = max(first, before[axis]), min(following, before[axis] + size[axis])
        if start < stop:
            slab = scores.mean(start - first, stop - first)
            for other in (other for other in range(3) if other != axis):
                slab = slab.narrow(other + 1, before[other], size[other])
            yield start - before[axis], slab
            del slab
        if following < image.shape[axis + 1]:
            scores.advance(following - first)


def _pad(image: Tensor, window: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Pads (C, I, J, K) with 0 to at least a window; returns it and the padding before it on each axis."""
    padding = [max(w - n, 0) for n, w in zip(image.shape[1:], window, strict=True)]
    before = [count // 2 for count in padding]
    sides = [n for first, count in zip(before, padding, strict=True) for n in (count - first, first)]
    return (F.pad(image, sides[::-1]) if any(padding) else image), before


def _shift(x: Tensor, dim: int, rows: int) -> None:
    """Moves rows to the front in place and sets the others to 0, without a copy of the tensor."""
    length = x.shape[dim]
    for start in range(0, length - rows, rows):
        end = min(start + rows, length - rows)
        x.narrow(dim, start, end - start).copy_(x.narrow(dim, start + rows, end - start))
    x.narrow(dim, length - rows, rows).zero_()


def _logits(networks: Sequence[nn.Module], x: Tensor, mirror: Sequence[int]) -> Tensor:
    """Returns the mean logits, (B, classes, I, J, K) float32."""
    dims = [2 + axis for axis in mirror]
    flips = [axes for count in range(len(dims) + 1) for axes in itertools.combinations(dims, count)]
    views = (network(x.flip(axes)).flip(axes).float() for network in networks for axes in flips)
    return reduce(Tensor.add_, views).div_(len(networks) * len(flips))
