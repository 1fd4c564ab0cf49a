"""Sliding windows over a volume of any size: rows of scores leave as soon as no further window adds to them.

The result is that of MONAI's `sliding_window_inference(mode="gaussian")`, which holds the scores of all classes for the
whole volume; here they are held for the depth of one window.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map
from torch import Tensor, nn

OVERLAP = 0.5
SIGMA_SCALE = 0.125
"""Deviation of the Gaussian that weighs a window's voxels, in windows; MONAI's and nnU-Net's."""


def starts(length: int, window: int) -> list[int]:
    """First voxels of the windows along an axis, the last one moved back to end with the axis."""
    step = max(int(window * (1 - OVERLAP)), 1)
    return [min(index * step, length - window) for index in range(math.ceil((length - window) / step) + 1)]


def window_count(shape: Sequence[int], window: Sequence[int]) -> int:
    """Windows that a volume takes."""
    return math.prod(len(starts(max(n, w), w)) for n, w in zip(shape, window, strict=True))


def stream_axis(shape: Sequence[int], window: Sequence[int]) -> int:
    """The axis along which the fewest scores are held at one time."""
    return min(range(3), key=lambda axis: window[axis] / max(shape[axis], window[axis]))


@torch.no_grad()
def score_rows(
    networks: Sequence[nn.Module],
    image: Tensor,
    window: Sequence[int],
    axis: int,
    *,
    mirror: bool = False,
    device: torch.device | str = "cpu",
    stitch_device: torch.device | str = "cpu",
    done: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Tensor]]:
    """Slabs of logits, one after the other along `axis`: the first row, and (classes, I, J, K) float32 of its rows.

    Args:
        networks: in eval mode on `device`; logits are averaged over them. (B, C, *window) -> (B, classes, *window).
        image: (C, I, J, K); padded with 0 on both sides where it is smaller than the window.
        window: voxels along each axis.
        mirror: average over the eight mirror images of each window as well.
        stitch_device: where scores are summed.
        done: called after each window.
    """
    size = image.shape[1:]
    missing = [max(w - n, 0) for n, w in zip(size, window, strict=True)]
    before = [gap // 2 for gap in missing]
    if any(missing):
        image = F.pad(image, [n for b, gap in reversed(list(zip(before, missing, strict=True))) for n in (b, gap - b)])
    places = [starts(n, w) for n, w in zip(image.shape[1:], window, strict=True)]
    others = [places[other] for other in range(3) if other != axis]
    weight = compute_importance_map(
        tuple(window), mode="gaussian", sigma_scale=SIGMA_SCALE, device=stitch_device, dtype=torch.float32
    )
    rows = list(image.shape[1:])
    rows[axis] = window[axis]
    total, count = None, torch.zeros(rows, device=stitch_device)
    for top, following in itertools.pairwise([*places[axis], image.shape[axis + 1]]):
        for corner in itertools.product(*others):
            corner = [*corner[:axis], top, *corner[axis:]]
            box = [slice(start, start + w) for start, w in zip(corner, window, strict=True)]
            logits = _logits(networks, image[(slice(None), *box)].to(device)[None], mirror)[0].to(stitch_device)
            if total is None:
                total = torch.zeros(len(logits), *rows, device=stitch_device)
            box[axis] = slice(None)
            total[(slice(None), *box)].addcmul_(logits, weight)
            count[tuple(box)] += weight
            done()
        final = following - top
        first, last = max(top, before[axis]), min(following, before[axis] + size[axis])
        if first < last:
            slab = total.narrow(axis + 1, first - top, last - first) / count.narrow(axis, first - top, last - first)
            for other in (other for other in range(3) if other != axis):
                slab = slab.narrow(other + 1, before[other], size[other])
            yield first - before[axis], slab
            del slab
        if following < image.shape[axis + 1]:
            _shift(total, axis + 1, final)
            _shift(count, axis, final)


def _shift(x: Tensor, dim: int, rows: int) -> None:
    """Move rows to the front, in place, and clear those behind them; no copy of the whole is made."""
    length = x.shape[dim]
    for start in range(0, length - rows, rows):
        end = min(start + rows, length - rows)
        x.narrow(dim, start, end - start).copy_(x.narrow(dim, start + rows, end - start))
    x.narrow(dim, length - rows, rows).zero_()


def _logits(networks: Sequence[nn.Module], x: Tensor, mirror: bool) -> Tensor:
    """Mean logits, (B, classes, I, J, K) float32."""
    flips = [axes for count in range(4) for axes in itertools.combinations((2, 3, 4), count)] if mirror else [()]
    total = None
    for network in networks:
        for axes in flips:
            logits = network(x.flip(axes)).flip(axes).float()
            total = logits if total is None else total.add_(logits)
    return total.div_(len(networks) * len(flips))
