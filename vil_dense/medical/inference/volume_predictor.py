"""Segments an image of any size, orientation and spacing on the grid of its file.

The network runs on windows of the image on the plan's grid (`preprocess.PlanGrid`). The logits are resampled to the
voxels of the file slab by slab, and `LabelMap.mask` makes a mask of them. The scores of all classes are never stored
for the whole volume.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vil_dense.cost.memory import free_memory
from vil_dense.medical.data.first_stage import structure_channels, with_structures
from vil_dense.medical.data.mirroring import mirror_axes
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.data.preprocess import Axis, PlanGrid, network_input, slabs
from vil_dense.medical.inference.uncertainty import Members, uncertainty_maps
from vil_dense.medical.inference.volume_windows import SlidingWindow, score_rows
from vil_dense.medical.label_map import LabelMap

PROBABILITY_STEPS = 65535
"""The uint16 value that stands for a probability of 1."""


def predict(
    networks: Sequence[nn.Module],
    image: np.ndarray,
    affine: np.ndarray,
    plan: Plan,
    windows: SlidingWindow | None = None,
    *,
    mirror: bool = False,
    device: torch.device | str = "cpu",
    probabilities: np.ndarray | None = None,
    uncertainty: np.ndarray | None = None,
    first_stage: np.ndarray | None = None,
    done: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Returns the mask, (I, J, K) uint8 (uint16 with values above 255), on the grid of the image, see `LabelMap`.

    Validation, test, `tools/volumes/predict.py` and the bundle all use this function.

    Args:
        networks: in eval mode on `device`, (B, C, *patch) -> logits, which are averaged.
        image: (C, I, J, K) float32 in the order of the file, see `cases.read_case`.
        affine: (4, 4), voxels of the file to mm.
        plan: see `plan_schema`.
        windows: default: the plan's patch, overlapping by half.
        mirror: whether to average over mirror images, see `mirroring.mirror_axes`.
        probabilities: an array (I, J, K, outputs) uint16 to fill with probabilities times `PROBABILITY_STEPS`.
        uncertainty: an array (I, J, K, maps) float32 to fill with the `uncertainty.uncertainty_maps` of the networks.
            The scores of each network are then held at the same time.
        first_stage: the mask (I, J, K) that the networks of a plan with `first_stage` see as well.
        done: called after each window.

    Raises:
        ValueError: the networks see the mask of a first stage, and there is none.
    """
    windows = windows or SlidingWindow.of(plan)
    known, shape = LabelMap.of(plan), image.shape[1:]
    count = len(known.outputs)
    grid = PlanGrid.over(shape, affine, plan)
    mask = np.zeros(shape, known.mask_dtype)
    mask_view = grid.oriented(mask)
    probability_view = None if probabilities is None else grid.oriented(probabilities)
    uncertainty_view = None if uncertainty is None else grid.oriented(uncertainty)
    members = 1 if uncertainty is None else len(networks)
    inputs = network_input(image, grid, plan)
    if groups := plan.get("first_stage"):
        if first_stage is None:
            raise ValueError(
                "the network is the second stage of a cascade, and sees the mask of its first stage as well"
            )
        inputs = with_structures(inputs, structure_channels(grid.label(first_stage).numpy(), groups))
    axis = windows.stream_axis(grid.shape)
    rows = score_rows(
        networks if members == 1 else [Members(networks)],
        inputs,
        windows,
        axis,
        mirror=mirror_axes(plan) if mirror else (),
        device=device,
        stitch_device=stitch_device(device, stitched_bytes(grid.shape, members * count, windows)),
        done=done,
    )
    for start, logits in rows_back(rows, grid.axes_back(), axis):
        place = (*[slice(None)] * axis, slice(start, start + logits.shape[axis + 1]))
        if uncertainty_view is not None:
            each = logits.unflatten(0, (members, count))
            maps = uncertainty_maps([known.probabilities(own) for own in each], known.regions)
            uncertainty_view[place] = maps.movedim(0, -1).cpu().numpy()
            logits = each.mean(0)
        mask_view[place] = known.mask(logits)
        if probability_view is not None:
            steps = known.probabilities(logits).mul_(PROBABILITY_STEPS).round_().int()
            probability_view[place] = steps.movedim(0, -1).cpu().numpy()
    return mask


def rows_back(
    slabs_of_logits: Iterable[tuple[int, Tensor]], back: Sequence[Axis], axis: int
) -> Iterator[tuple[int, Tensor]]:
    """Resamples slabs along `axis` from the plan's spacing to the file's; yields first row and (classes, I, J, K)."""
    line, dim, start = back[axis], axis + 1, 0
    held, first = None, 0
    for _, slab in slabs_of_logits:
        held = slab if held is None else torch.cat([held, slab], dim)
        end, ready = first + held.shape[dim], start
        while ready < len(line.lower) and line.needs(ready, ready + 1)[1] <= end:
            ready += 1
        others = [other for other in range(3) if other != axis]
        row = 4 * len(held) * max(math.prod(len(back[o].lower) for o in others), math.prod(back[o].old for o in others))
        for top, bottom in slabs(ready - start, row):
            lower, upper = line.needs(start + top, start + bottom)
            part = line.apply(held.narrow(dim, lower - first, upper - lower), dim, start + top, start + bottom, lower)
            for other in others:
                part = back[other].apply(part, other + 1)
            yield start + top, part
        start = ready
        keep = min(line.needs(start, start + 1)[0], end) if start < len(line.lower) else end
        held, first = held.narrow(dim, keep - first, end - keep).clone(), keep


def stitched_bytes(shape: Sequence[int], classes: int, windows: SlidingWindow) -> int:
    """Returns the bytes of the scores for a volume of `shape`: all classes, for the depth of one window."""
    axis = windows.stream_axis(shape)
    held = [max(n, w) for n, w in zip(shape, windows.size, strict=True)]
    held[axis] = windows.size[axis]
    return 4 * classes * math.prod(held)


def stitch_device(device: torch.device | str, stitched: int) -> torch.device | str:
    """Returns the GPU if twice the scores fit into half of its free memory, else the CPU."""
    if torch.device(device).type == "cpu":
        return "cpu"
    return device if 4 * stitched < (free_memory(device) or 0) else "cpu"
