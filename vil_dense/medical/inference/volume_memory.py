"""Estimates the memory of a prediction before it is taken."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vil_dense.backbones.memory import GIB, LiveMemory
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.data.preprocess import PlanGrid
from vil_dense.medical.data.resample import SLAB_BYTES
from vil_dense.medical.inference.volume_predictor import stitch_device, stitched_bytes
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.io.nifti import Grid

SLABS = 5
"""Arrays of `SLAB_BYTES` that live while rows are resampled or become classes."""
OVERHEAD = 1.4
"""Resident over live bytes, for the allocator and what convolutions need inside. Measured on 512 x 512 x 600 voxels,
14 classes, less 0.45 GiB of Python and its libraries: 1.39. Of a GPU it is not measured, but taken to be the same."""


class Estimate(NamedTuple):
    """Counts live bytes on the CPU, and on the GPU where the networks are on one.

    The weights stay; reading, resampling, intensities and windows come one after another.
    """

    weights: int  # 0 where they are on a GPU
    reading: int  # voxels as stored, as float32, and a slab
    resampling: int  # the image on its own grid and on the plan's
    intensities: int  # both, and the second one before and after with one channel's intermediate arrays
    windows: int  # both, the mask, the scores as deep as a window twice over, and the inside of the network
    gpu: int  # beside the weights: the inside of the network, and the scores where they fit; not among the windows then

    @property
    def total(self) -> float:
        """Returns resident bytes on the CPU, Python and its libraries left aside."""
        return self.weights + OVERHEAD * max(self.reading, self.resampling, self.intensities, self.windows)

    @property
    def gpu_total(self) -> float:
        """Returns bytes on the GPU, the weights left aside."""
        return OVERHEAD * self.gpu

    def __str__(self) -> str:
        weights, *turns = (f"{name} {getattr(self, name) / GIB:.2f}" for name in self._fields if name != "gpu")
        gpu = f"; about {self.gpu_total / GIB:.1f} GiB beside the weights on the GPU" if self.gpu else ""
        return f"about {self.total / GIB:.1f} GiB ({weights}; in turn {', '.join(turns)}; two fifths for overhead){gpu}"


def estimate(networks: Sequence[nn.Module], grid: Grid, plan: Plan, windows: SlidingWindow | None = None) -> Estimate:
    """Returns what `volume_predictor.predict` needs for an image on `grid`, reading it included.

    Args:
        networks: on the device of the prediction.
        windows: default: the plan's patch, overlapping by half.
    """
    windows = windows or SlidingWindow.of(plan)
    after = PlanGrid.over(grid.shape, grid.affine, plan).shape
    channels, voxels, seen = len(plan["channels"]), math.prod(grid.shape), math.prod(after)
    image, resampled = 4 * channels * voxels, 4 * channels * seen
    slabs = SLABS * min(SLAB_BYTES, 4 * len(plan["labels"]) * max(voxels, seen))
    weights = sum(x.nbytes for net in networks for x in (*net.parameters(), *net.buffers()))
    device = next(networks[0].parameters()).device
    stitched = stitched_bytes(after, len(plan["labels"]), windows)
    inside, scores = network_bytes(networks[0], len(plan["channels"]), windows), 2 * stitched
    if device.type == "cpu":
        on_cpu, on_gpu = scores + max(inside, slabs), 0
    elif torch.device(stitch_device(device, stitched)).type == "cpu":
        on_cpu, on_gpu = scores + slabs, inside
    else:
        on_cpu, on_gpu = 0, scores + max(inside, slabs)
    return Estimate(
        weights=weights if device.type == "cpu" else 0,
        reading=channels * voxels * grid.header.get_data_dtype().itemsize + image + slabs,
        resampling=image + resampled + slabs,
        # of a z-score: what counts, its values, and three steps of arithmetic
        intensities=image + 3 * resampled + 17 * seen,
        windows=image + resampled + voxels + on_cpu,
        gpu=on_gpu,
    )


def network_bytes(network: nn.Module, channels: int, windows: SlidingWindow) -> int:
    """Returns the most bytes alive inside the network at a batch of windows, counted in a run that computes nothing."""
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), LiveMemory() as memory:
        device = next(network.parameters()).device
        network(torch.empty(windows.batch, channels, *windows.size, device=device))
    return memory.peak
