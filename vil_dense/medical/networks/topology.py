"""Chooses strides and kernels from the spacing, and pads inputs of any size to them."""

from collections.abc import Iterable, Sequence
from math import prod
from numbers import Integral
from typing import Any, SupportsFloat

import torch.nn.functional as F
from torch import Tensor

from vil_dense.ops.operators import in_graph

Axes = tuple[int, int, int]

ANISOTROPIC = 2.0
"""Ratio to the finest spacing from which an axis is neither convolved nor strided."""
FEWEST_VOX = 4
"""Fewest voxels of an axis of a patch after halving."""


def topology(
    spacing_mm: Sequence[float] | float, levels: int, patch_vox: Sequence[int] | int | None = None
) -> tuple[list[Axes], list[Axes]]:
    """Returns strides and kernels of each level, from the spacing (as nnU-Net's planner, Nat. Methods 18:203, does).

    A level halves the axes whose spacing at this level is below `ANISOTROPIC` times the finest of those that can be
    halved. Its kernel has 3 voxels along an axis whose spacing at this or an earlier level is below that factor of the
    finest, and 1 voxel along the others. With `patch_vox` an axis is not halved below `FEWEST_VOX`, and one that is
    shorter than that has kernels of 1 voxel: volumes of one slice get a network of pictures.

    Args:
        spacing_mm: spacing of the input, (I, J, K).
        levels: number of scales; the first has stride 1.
        patch_vox: size of the input, if it is known.

    Raises:
        ValueError: the spacing is not three positive numbers, or there is no level.
    """
    spacing = [float(mm) for mm in triple(spacing_mm, "spacing_mm")]
    if levels < 1:
        raise ValueError(f"a network has at least one level, got {levels}")
    size = [2**levels * FEWEST_VOX] * 3 if patch_vox is None else [int(vox) for vox in triple(patch_vox, "patch_vox")]
    thin = [vox < FEWEST_VOX for vox in size]
    strides: list[Axes] = []
    kernels: list[Axes] = []
    for level in range(levels):
        can = [vox >= 2 * FEWEST_VOX for vox in size]
        finest = min((mm for mm, able in zip(spacing, can, strict=True) if able), default=0.0)
        halve = [level > 0 and able and mm < ANISOTROPIC * finest for mm, able in zip(spacing, can, strict=True)]
        i, j, k = (2 if half else 1 for half in halve)
        strides.append((i, j, k))
        spacing = [mm * stride for mm, stride in zip(spacing, strides[-1], strict=True)]
        size = [vox // stride for vox, stride in zip(size, strides[-1], strict=True)]
        before = kernels[-1] if kernels else (1, 1, 1)
        least = min((mm for mm, few in zip(spacing, thin, strict=True) if not few), default=0.0)
        i, j, k = (
            max(3 if mm < ANISOTROPIC * least and not few else 1, old)
            for mm, few, old in zip(spacing, thin, before, strict=True)
        )
        kernels.append((i, j, k))
    return strides, kernels


def resolve_levels(
    spacing_mm: Sequence[float] | float,
    patch_vox: Sequence[int] | int | None,
    strides: Sequence[Sequence[int] | int] | None,
    kernels: Sequence[Sequence[int] | int] | None,
    levels: int,
) -> tuple[list[Axes], list[Axes]]:
    """Returns strides and kernels as given, a number standing for all axes; those that are None follow from the
    spacing.

    Raises:
        ValueError: there are not one or three whole numbers for each level.
    """
    own = topology(spacing_mm, levels, patch_vox)
    return _given(strides, "strides", levels) or own[0], _given(kernels, "kernels", levels) or own[1]


def _given(axes: Sequence[Sequence[int] | int] | None, name: str, levels: int) -> list[Axes] | None:
    if axes is None:
        return None
    chosen = [triple(level, name) for level in axes] if isinstance(axes, Sequence) else []
    if len(chosen) != levels or not all(isinstance(n, Integral) for level in chosen for n in level):
        raise ValueError(f"{name} need one or three whole numbers for each of {levels} levels, got {axes!r}")
    return chosen


def total_stride(strides: Sequence[Axes]) -> Axes:
    """Returns the product of the strides of these levels along each axis."""
    i, j, k = (prod(axis) for axis in zip(*strides, strict=True))
    return i, j, k


def padded_size(size: Sequence[int], strides: Sequence[Axes]) -> Axes:
    """Returns the size that an input of `size` voxels is padded to: whole strides, two voxels on the coarsest level."""
    total = total_stride(strides)
    i, j, k = (_steps(length, stride) for length, stride in zip(size, total, strict=True))
    # InstanceNorm cannot normalise a single voxel. Arithmetic, since tracers and exporters fix what a condition finds.
    k += 2 // (i * j * k + 1)
    return i * total[0], j * total[1], k * total[2]


def _steps(length: int, stride: int) -> int:
    """Returns length / stride rounded up; of positive numbers, as ONNX rounds negative ones towards zero."""
    return (length + stride - 1) // stride


def pad(x: Tensor, strides: Sequence[Axes], in_channels: int) -> Tensor:
    """Pads (B, C, *size) to (B, C, *padded_size) by repeating the last voxels.

    Raises:
        ValueError: the number of axes or channels is wrong, or an axis is empty, also that of the batch.
    """
    if x.ndim != 5 or x.shape[1] != in_channels or min(x.shape) < 1:
        raise ValueError(f"expected an input (B, {in_channels}, I, J, K) with no empty axis, got {tuple(x.shape)}")
    padding = [whole - length for whole, length in zip(padded_size(x.shape[2:], strides), x.shape[2:], strict=True)]
    if not in_graph() and not any(padding):
        return x
    return F.pad(x, [n for length in reversed(padding) for n in (0, length)], mode="replicate")


def crop(outputs: Sequence[Tensor], strides: Sequence[Axes], size: Sequence[int]) -> list[Tensor]:
    """Crops the logits of the first levels to the extent of an input of `size` voxels."""
    cropped = []
    for level, logits in enumerate(outputs):
        total = total_stride(strides[: level + 1])
        i, j, k = (_steps(length, stride) for length, stride in zip(size, total, strict=True))
        cropped.append(logits[..., :i, :j, :k])
    return cropped


def scale_name(total: Axes) -> str:
    """Returns the name of a scale: `/4`, or `/4x4x2` if its axes differ."""
    return f"/{total[0]}" if len({*total}) == 1 else "/" + "x".join(map(str, total))


def triple(value: Any, name: str) -> tuple[Any, Any, Any]:
    """Returns three numbers, one for each axis; a single number is used for all of them.

    Raises:
        ValueError: it is neither.
    """
    values = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,) * 3
    if len(values) != 3 or not all(isinstance(x, SupportsFloat) and 0 < float(x) < float("inf") for x in values):
        raise ValueError(f"{name} has three positive numbers, got {value!r}")
    return values


def whole_numbers(values: Any, name: str, least: int) -> tuple[int, ...]:
    """Returns a sequence of whole numbers from `least` on as a tuple.

    Raises:
        ValueError: it is none.
    """
    found = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if not found or not all(isinstance(x, Integral) and int(x) >= least for x in found):
        raise ValueError(f"{name} has a whole number from {least} on for each scale, got {values!r}")
    return found
