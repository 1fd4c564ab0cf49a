"""Estimates the memory and the time of a prediction before it runs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vil_dense.cost.memory import GIB
from vil_dense.cost.step_cost import Run, activation_bytes, step_seconds
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.data.preprocess import SLAB_BYTES, PlanGrid
from vil_dense.medical.inference.volume_predictor import stitch_device, stitched_bytes
from vil_dense.medical.inference.volume_windows import SlidingWindow
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.networks.nets import input_channels

SLABS = 5
"""Arrays of `SLAB_BYTES` that are live while rows are resampled or converted to classes."""
OVERHEAD = 1.4
"""Ratio of resident to live bytes of the arrays of a volume. Measured on a CPU with 512 x 512 x 600 voxels and 14
classes, without 0.45 GiB of Python and its libraries: 1.39. Assumed to hold on a GPU."""
PYTHON_GIB = 0.5
"""Resident memory of Python and its libraries, which `Estimate.total` does not contain."""


class Estimate(NamedTuple):
    """Stores resident bytes on the CPU, and on the GPU if the networks are on one.

    The total is the weights plus the largest of the four stages on the CPU, which do not overlap.
    """

    weights: int  # 0 if they are on a GPU
    reading: int  # voxels as stored, as float32, and a slab
    resampling: int  # the image on the grids of the file and of the plan
    intensities: int  # both, the normalised image, and intermediate arrays of one channel
    windows: int  # both, the mask, twice the scores of one window's depth, and the activations of the network
    gpu: int  # activations of the network, and the scores if they fit, which are then not part of `windows`

    @property
    def total(self) -> int:
        """Returns the resident bytes on the CPU, without Python and its libraries."""
        return self.weights + max(self.reading, self.resampling, self.intensities, self.windows)

    def __str__(self) -> str:
        weights, *phases = (f"{name} {getattr(self, name) / GIB:.2f}" for name in self._fields if name != "gpu")
        gpu = f"; about {self.gpu / GIB:.2f} GiB beside the weights on the GPU" if self.gpu else ""
        return (
            f"about {self.total / GIB:.2f} GiB ({weights}; the largest of {', '.join(phases)}), "
            f"plus about {PYTHON_GIB} GiB for Python and its libraries{gpu}"
        )


def estimate(
    networks: Sequence[nn.Module], grid: Grid, plan: Plan, windows: SlidingWindow | None = None, members: int = 1
) -> Estimate:
    """Estimates the memory of `volume_predictor.predict` for an image on `grid`, including its reading.

    Args:
        networks: on the device of the prediction.
        windows: default: the plan's patch, overlapping by half.
        members: networks whose scores are held at the same time, for the uncertainty.
    """
    windows = windows or SlidingWindow.of(plan)
    after = PlanGrid.over(grid.shape, grid.affine, plan).shape
    outputs = members * len(LabelMap.of(plan).outputs)
    channels, inputs = len(plan["channels"]), input_channels(plan)
    voxels, plan_voxels = math.prod(grid.shape), math.prod(after)
    image, resampled = 4 * channels * voxels, 4 * inputs * plan_voxels
    slabs = SLABS * min(SLAB_BYTES, 4 * outputs * max(voxels, plan_voxels))
    weights = sum(x.nbytes for net in networks for x in (*net.parameters(), *net.buffers()))
    device = next(networks[0].parameters()).device
    stitched = stitched_bytes(after, outputs, windows)
    inside, scores = network_bytes(networks[0], inputs, windows), OVERHEAD * 2 * stitched
    if device.type == "cpu":
        on_cpu, on_gpu = scores + max(inside, OVERHEAD * slabs), 0.0
    elif torch.device(stitch_device(device, stitched)).type == "cpu":
        on_cpu, on_gpu = scores + OVERHEAD * slabs, inside
    else:
        on_cpu, on_gpu = 0.0, scores + max(inside, OVERHEAD * slabs)
    return Estimate(
        weights=weights if device.type == "cpu" else 0,
        reading=int(OVERHEAD * (channels * voxels * grid.header.get_data_dtype().itemsize + image + slabs)),
        resampling=int(OVERHEAD * (image + resampled + slabs)),
        # for a z-score: the mask, its values, and three steps of arithmetic
        intensities=int(OVERHEAD * (image + 3 * resampled + 17 * plan_voxels)),
        windows=int(OVERHEAD * (image + resampled + voxels) + on_cpu),
        gpu=int(on_gpu),
    )


def network_bytes(network: nn.Module, channels: int, windows: SlidingWindow) -> float:
    """Returns the resident bytes of the network's activations for a batch of windows."""
    return activation_bytes(network, _forward(channels), windows.batch, windows.size, backward=False)


def window_seconds(network: nn.Module, channels: int, windows: SlidingWindow) -> float:
    """Returns the estimated seconds of a window, of CPU time or of a GPU; some small windows are run for it."""
    seconds = step_seconds(network, _forward(channels), windows.batch, windows.size, backward=False)
    return seconds.of(windows.batch, windows.size) / windows.batch


def _forward(channels: int) -> Run:
    """Returns a function that runs a network on zeros."""

    def run(network: nn.Module, batch: int, size: tuple[int, ...]) -> Tensor:
        device = next(network.parameters()).device
        out: Tensor = network(torch.zeros(batch, channels, *size, device=device))
        return out

    return run
