"""Chooses patch, batch and network of a plan, so that a training step fits the memory and the time of a `Target`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vil_dense.cost.memory import GIB
from vil_dense.cost.step_cost import Seconds, activation_bytes, stand_in_loss, step_seconds
from vil_dense.medical.networks.nets import build_network, logits_of
from vil_dense.medical.networks.topology import FEWEST_VOX, topology, total_stride
from vil_dense.medical.networks.vil_unet import ViLUNet3D

WIDTHS = ((32, 64, 128, 256, 320), (16, 32, 64, 128, 256), (8, 24, 64, 96, 128))
"""Widths of the scales of a network, the widest first; narrower ones are taken only to fit a target."""
MOST_TOKENS = 4096
"""Most tokens of a patch at the finest scale with sequence blocks."""
FEWEST_BATCH = 2
SMALL_PATCH = 40**3
"""Voxels of a patch below which a narrower network with a larger patch is preferred."""
SMALLEST_PATCH = 16**3
STEPS = 2000
"""Steps of a training, those of configs/_base_/schedules/adamw_volumes.py."""
GPU_GIB, CPU_HOURS = (0.25, 1024.0), (0.01, 100_000.0)
"""Lowest and highest values of a target."""
STATES = 4
"""Arrays of the size of the weights that a training holds: weights, gradients and the two moments of AdamW."""


@dataclass(frozen=True)
class Target:
    """Stores what a training may take.

    Args:
        gpu_memory_gib: memory of a training step in float32, GiB.
        cpu_hours: CPU time of all steps, h, of this machine; validation comes on top.
        steps: steps of the training.
        patch_vox: most voxels of a patch.

    Raises:
        ValueError: a number is out of range.
    """

    gpu_memory_gib: float | None = None
    cpu_hours: float | None = None
    steps: int = STEPS
    patch_vox: int = 96**3

    def __post_init__(self) -> None:
        for name, value, (low, high), unit in (
            ("--gpu-memory", self.gpu_memory_gib, GPU_GIB, "GiB"),
            ("--cpu-hours", self.cpu_hours, CPU_HOURS, "hours"),
        ):
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} is a number of {unit} from {low:g} to {high:g}, got {value:g}")
        if self.steps < 1 or self.patch_vox < 1:
            raise ValueError(f"steps and voxels of a patch are 1 or more, got {self.steps} and {self.patch_vox}")

    @property
    def limits(self) -> list[str]:
        """Returns the limits with their units."""
        memory = [] if self.gpu_memory_gib is None else [f"{self.gpu_memory_gib:g} GiB"]
        return memory + ([] if self.cpu_hours is None else [f"{self.cpu_hours:g} CPU hours"])


class Cost(NamedTuple):
    """Stores what a training step takes, for any batch: bytes that stay, bytes of one patch, and time if measured."""

    network: ViLUNet3D
    patch_vox: list[int]
    width: int
    permanent: int
    each: float
    seconds: Seconds | None

    def gib(self, batch: int) -> float:
        """Returns the memory of a step, GiB."""
        return (self.permanent + batch * self.each) / GIB

    def hours(self, batch: int, steps: int) -> float | None:
        """Returns the CPU time of all steps, h; None if it was not measured."""
        return None if self.seconds is None else steps * self.seconds.of(batch, self.patch_vox) / 3600

    def ratio(self, batch: int, target: Target) -> tuple[float, str]:
        """Returns the largest ratio of need to limit, and which limit that is."""
        needs = [(0.0, "none")]
        if target.gpu_memory_gib is not None:
            needs.append((self.gib(batch) / target.gpu_memory_gib, "memory"))
        if target.cpu_hours is not None:
            needs.append(((self.hours(batch, target.steps) or 0.0) / target.cpu_hours, "time"))
        return max(needs)

    def needs(self, batch: int, target: Target) -> str:
        """Describes a step: batch, patch and width, and its memory and time."""
        hours = self.hours(batch, target.steps)
        time = "" if hours is None else f", {hours:.2g} CPU hours for {target.steps} steps"
        size = " x ".join(map(str, self.patch_vox))
        return (
            f"{batch} x {size} voxels with {self.width} channels at full resolution ({self.gib(batch):.2f} GiB{time})"
        )

    def summary(self, batch: int, target: Target) -> dict[str, Any]:
        """Returns the numbers for the plan's file: tokens of a patch, parameters, memory, and hours if measured."""
        hours = self.hours(batch, target.steps)
        return dict(
            tokens=self.network.tokens(self.patch_vox),
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            training_gib=round(self.gib(batch), 2),
            **({} if hours is None else dict(training_cpu_hours=round(hours, 3), steps=target.steps)),
        )


def empty_step(network: nn.Module, batch: int, size: tuple[int, ...], channels: int) -> Tensor:
    """Returns the loss of a training step on zeros (B, C, *size), without labels."""
    device = next(network.parameters()).device
    return stand_in_loss(logits_of(network(torch.zeros(batch, channels, *size, device=device))))


def step_cost(plan: Mapping[str, Any], timed: bool) -> Cost:
    """Estimates the memory, and if `timed` the time, of a training step of the plan's `ViLUNet3D`, float32, AdamW."""
    network = build_network(plan, "ViLUNet3D")
    assert isinstance(network, ViLUNet3D)
    patch, channels = list(plan["patch_vox"]), len(plan["channels"])

    def run(model: nn.Module, batch: int, size: tuple[int, ...]) -> Tensor:
        return empty_step(model, batch, size, channels)

    permanent = STATES * sum(x.nbytes for x in network.parameters())
    each = activation_bytes(network, run, FEWEST_BATCH, patch, backward=True) / FEWEST_BATCH
    seconds = step_seconds(network, run, FEWEST_BATCH, patch, backward=True) if timed else None
    return Cost(network, patch, plan["network"]["channels"][0], permanent, each, seconds)


class Fit(NamedTuple):
    """Stores what was chosen: values for the plan, their cost, and a sentence on why."""

    values: dict[str, Any]
    cost: Cost
    reason: str


def fit(plan: Mapping[str, Any], median_vox: Sequence[int], dataset_vox: int, target: Target) -> Fit:
    """Chooses `patch_vox`, `batch_size` and `network` of a plan; those that it already has stay.

    Without a limit the patch is as large as `target.patch_vox` allows. With one, patches are tried from the largest on
    with the widest network, down to `SMALL_PATCH`, then with the next narrower network, until a batch of two fits.

    Args:
        plan: with channels, labels, spacing, and the given values.
        median_vox: median size of the data set at that spacing.
        dataset_vox: voxels of all cases.

    Raises:
        ValueError: nothing fits the target.
    """
    table = WIDTHS if target.limits and "channels" not in plan.get("network", {}) else WIDTHS[:1]
    wanted, exceeded = int(plan.get("batch_size", FEWEST_BATCH)), None
    for widths in table:
        least, most = (SMALLEST_PATCH if widths == table[-1] else SMALL_PATCH), target.patch_vox
        while True:
            values, cost = _candidate(plan, median_vox, widths, most, target)
            ratio, _ = cost.ratio(wanted, target)
            if ratio <= 1:
                batch = int(plan.get("batch_size") or choose_batch(cost.patch_vox, target.patch_vox, dataset_vox))
                while batch > wanted and cost.ratio(batch, target)[0] > 1:
                    batch -= 1
                return Fit({**values, "batch_size": batch}, cost, _reason(cost, batch, exceeded, wanted, target))
            exceeded, vox = cost, prod(cost.patch_vox)
            most = min(int(vox / ratio), vox - 1)
            if "patch_vox" in plan or most < least:
                break
    assert exceeded is not None
    limits, needs = " and ".join(target.limits), exceeded.needs(wanted, target)
    raise ValueError(
        f"no training fits {limits}: the smallest step that was tried takes {needs}; allow more, or fewer steps"
    )


def _candidate(
    plan: Mapping[str, Any], median_vox: Sequence[int], widths: Sequence[int], most: int, target: Target
) -> tuple[dict[str, Any], Cost]:
    """Returns patch and network for patches of at most `most` voxels, and their cost."""
    spacing = plan["spacing_mm"]
    patch = [int(n) for n in plan.get("patch_vox") or choose_patch(median_vox, spacing, most)]
    values = dict(patch_vox=patch, network={**choose_network(patch, spacing, widths), **plan.get("network", {})})
    return values, step_cost({**plan, **values}, target.cpu_hours is not None)


def _reason(cost: Cost, batch: int, exceeded: Cost | None, wanted: int, target: Target) -> str:
    """Returns a sentence on what was chosen to meet a target and what was too much; empty without a limit."""
    if not target.limits:
        return ""
    chosen = f"{cost.needs(batch, target)} fits {' and '.join(target.limits)}"
    if exceeded is None:
        return f"{chosen}; the largest patch and the widest network do"
    _, limit = exceeded.ratio(wanted, target)
    return f"{chosen}; {exceeded.needs(wanted, target)} exceeds the {limit}"


def choose_patch(median_vox: Sequence[int], spacing_mm: Sequence[float], budget_vox: int) -> list[int]:
    """Returns the median size, shortened along the longest axis in mm to fit the budget, in multiples of strides.

    An axis of fewer voxels than `FEWEST_VOX` stays as it is: the patch has the slices that exist.
    """
    size = [max(int(n), 1) for n in median_vox]
    while True:
        strides = total_stride(topology(spacing_mm, len(WIDTHS[0]), size)[0])
        patch = [-(-n // stride) * stride for n, stride in zip(size, strides, strict=True)]
        long = [axis for axis in range(3) if size[axis] > FEWEST_VOX]
        if prod(patch) <= budget_vox or not long:
            return patch
        longest = max(long, key=lambda axis: size[axis] * spacing_mm[axis])
        size[longest] = max(size[longest] - strides[longest], FEWEST_VOX)


def choose_batch(patch_vox: Sequence[int], budget_vox: int, dataset_vox: int) -> int:
    """Returns the batch size: at least 2, for small patches up to two budgets and a twentieth of the data."""
    return max(2, min(2 * budget_vox // prod(patch_vox), dataset_vox // 20 // prod(patch_vox), 12))


def choose_network(
    patch_vox: Sequence[int], spacing_mm: Sequence[float], widths: Sequence[int] = WIDTHS[0]
) -> dict[str, Any]:
    """Returns the widths of all scales to which the patch can be halved, and their numbers of sequence blocks.

    There are 4 blocks at the finest scale after two halvings with at most `MOST_TOKENS`, and 2 at each coarser one.
    """
    strides, _ = topology(spacing_mm, len(widths), patch_vox)
    levels = 1 + sum(max(stride) > 1 for stride in strides)
    tokens = [prod(patch_vox) // prod(total_stride(strides[: level + 1])) for level in range(levels)]
    first = next((level for level in range(2, levels) if tokens[level] <= MOST_TOKENS), levels - 1)
    depths = [0 if level < first else 4 if level == first else 2 for level in range(levels)]
    return dict(channels=list(widths[:levels]), depths=depths, deep_supervision=max(1, min(3, levels - 1)))
