"""From an image on its own grid to classes on the same grid, whatever its size, orientation and spacing.

The image is turned and resampled as the plan says (see `transforms`), the network sees it in windows, and the logits
are brought back to the image's own voxels slab by slab, where the largest one gives the class. At no time are the
scores of all classes held for the whole volume.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from torch import Tensor, nn

from vil_dense.backbones.memory import free_memory
from vil_dense.medical.data.resample import Axis, new_length, slabs, to_spacing
from vil_dense.medical.data.transforms import AXIS_NAMES, Plan, normalise
from vil_dense.medical.inference.volume_windows import score_rows, stream_axis, window_count
from vil_dense.medical.io.nifti import Grid

PROBABILITY_STEPS = 65535
"""Probabilities are stored as uint16 of so many steps from 0 to 1."""


@dataclass(frozen=True)
class Layout:
    """How an image lies in the plan's frame.

    Args:
        turn: nibabel's orientation transform from the file's axes to the plan's.
        before: shape after turning.
        before_mm: spacing after turning.
        after: shape at the plan's spacing.
    """

    turn: np.ndarray
    before: tuple[int, ...]
    before_mm: tuple[float, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, grid: Grid, plan: Plan) -> "Layout":
        turn = ornt_transform(io_orientation(grid.affine), axcodes2ornt(tuple(plan["orientation"]), labels=AXIS_NAMES))
        order = np.argsort(turn[:, 0]).tolist()
        before = tuple(grid.shape[axis] for axis in order)
        before_mm = tuple(grid.spacing_mm[axis] for axis in order)
        after = tuple(map(new_length, before, before_mm, plan["spacing_mm"]))
        return cls(turn, before, before_mm, after)

    def windows(self, plan: Plan) -> int:
        """How often a network is run, mirroring left aside."""
        return window_count(self.after, plan["patch_vox"])

    def axes_back(self, plan: Plan) -> list[Axis]:
        """From the plan's voxels to the image's own."""
        return [
            Axis.between(after, before, before_mm / after_mm)
            for after, before, before_mm, after_mm in zip(
                self.after, self.before, self.before_mm, plan["spacing_mm"], strict=True
            )
        ]


def predict(
    networks: Sequence[nn.Module],
    image: np.ndarray,
    grid: Grid,
    plan: Plan,
    *,
    mirror: bool = False,
    device: torch.device | str = "cpu",
    probabilities: np.ndarray | None = None,
    done: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Classes, (I, J, K) uint8 (uint16 where there are more than 256), on the grid of the image.

    Args:
        networks: in eval mode on `device`, (B, C, *patch) -> logits; their mean counts.
        image: (C, I, J, K) float32 in the order of the file; as `nifti.read_image` gives it.
        plan: see `transforms`; its `patch_vox` is the window.
        mirror: average over mirror images.
        probabilities: is filled with softmax times `PROBABILITY_STEPS`, (I, J, K, classes) uint16.
        done: called after each window.
    """
    layout = Layout.of(grid, plan)
    turned = apply_orientation(image.transpose(1, 2, 3, 0), layout.turn).transpose(3, 0, 1, 2)
    seen = normalise(to_spacing(turned, layout.before_mm, plan["spacing_mm"]), plan["intensity"])
    labels = np.zeros(grid.shape, dtype=np.min_scalar_type(len(plan["labels"]) - 1))
    # views: what is written in the plan's frame lands in the file's
    label_view = apply_orientation(labels, layout.turn)
    share_view = None if probabilities is None else apply_orientation(probabilities, layout.turn)
    axis = stream_axis(layout.after, plan["patch_vox"])
    rows = score_rows(
        networks,
        seen,
        plan["patch_vox"],
        axis,
        mirror=mirror,
        device=device,
        stitch_device=stitch_device(device, stitched_bytes(layout, plan)),
        done=done,
    )
    for start, logits in rows_back(rows, layout.axes_back(plan), axis):
        place = (*[slice(None)] * axis, slice(start, start + logits.shape[axis + 1]))
        label_view[place] = logits.argmax(0).cpu().numpy()
        if share_view is not None:
            shares = logits.softmax(0).mul_(PROBABILITY_STEPS).round_().int()
            share_view[place] = shares.movedim(0, -1).cpu().numpy()
    return labels


def rows_back(
    slabs_of_logits: Iterable[tuple[int, Tensor]], back: Sequence[Axis], axis: int
) -> Iterator[tuple[int, Tensor]]:
    """Slabs of logits along `axis` at the plan's spacing -> at the image's: first row and (classes, I, J, K)."""
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


def stitched_bytes(layout: Layout, plan: Plan) -> int:
    """Scores that are held at one time, in float32: all classes, as deep as a window."""
    axis = stream_axis(layout.after, plan["patch_vox"])
    shape = [max(n, w) for n, w in zip(layout.after, plan["patch_vox"], strict=True)]
    shape[axis] = plan["patch_vox"][axis]
    return 4 * len(plan["labels"]) * math.prod(shape)


def stitch_device(device: torch.device | str, stitched: int) -> torch.device | str:
    """A GPU stitches what fits into half of its free memory twice over; else the CPU does."""
    if torch.device(device).type == "cpu":
        return "cpu"
    return device if 4 * stitched < (free_memory(device) or 0) else "cpu"
