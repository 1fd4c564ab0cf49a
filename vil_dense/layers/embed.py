"""Embeds patches and positions: pictures and volumes in, grids of tokens out."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.ops.operators import in_graph, no_autocast

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def per_axis(value: int | Sequence[int], ndim: int, name: str) -> tuple[int, ...]:
    """Returns one positive integer for each spatial axis.

    Raises:
        ValueError: as many numbers as axes were expected, each at least 1.
    """
    values = (value,) * ndim if isinstance(value, int) else tuple(int(x) for x in value)
    if len(values) != ndim or min(values) < 1:
        raise ValueError(f"{name} must be a positive integer or one for each of {ndim} axes, got {value!r}")
    return values


class PatchEmbed(nn.Module):
    """Embeds patches by a linear map, (B, C_in, *size) -> (B, *grid, C), for any size.

    The input is padded with zeros at the end of each axis until the patches cover it: grid = ceil(size / patch_size)
    without overlap, ceil((size - patch_size) / stride) + 1 with overlapping patches.

    Args:
        std: standard deviation of the initial weights, a truncated normal distribution; None for Xavier's uniform one.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        patch_size: tuple[int, ...],
        stride: tuple[int, ...] | None = None,
        std: float | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.stride = stride or patch_size
        self.proj = CONVS[len(patch_size)](in_channels, dim, patch_size, self.stride)
        if std is None:
            nn.init.xavier_uniform_(self.proj.weight.view(dim, -1))
        else:
            nn.init.trunc_normal_(self.proj.weight, std=std)
        nn.init.zeros_(self.proj.bias)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Returns the number of tokens along each axis for an input of `size` px or voxels."""
        axes = zip(size, self.patch_size, self.stride, strict=True)
        return tuple(max(0, -(-(length - patch) // stride)) + 1 for length, patch, stride in axes)

    def forward(self, x: Tensor) -> Tensor:
        padding = self._padding(x.shape[2:])
        if any(padding):
            x = F.pad(x, [pad for length in reversed(padding) for pad in (0, length)])
        return self.proj(x).movedim(1, -1)

    def _padding(self, size: Sequence[int]) -> list[int]:
        """Returns how much is added to the end of each axis, at least as much as the patches need.

        In a graph the padding is the same for every size, so that one graph serves all sizes: the convolution ignores
        an incomplete step at the end.
        """
        if in_graph():
            axes = zip(size, self.patch_size, self.stride, strict=True)
            return [step - 1 if step == patch else max(step - 1, patch - length) for length, patch, step in axes]
        numbers = zip(size, self.grid(size), self.patch_size, self.stride, strict=True)
        return [max(0, (tokens - 1) * step + patch - length) for length, tokens, patch, step in numbers]


class PosEmbed(nn.Module):
    """Adds learned positions to a grid (B, *grid, C); resizes them for another grid."""

    def __init__(self, grid: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.empty(1, *grid, dim))
        nn.init.trunc_normal_(self.embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + resize_positions(self.embed, tuple(x.shape[1:-1]))


def resize_positions(embed: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Resizes a position embedding, (1, *grid_0, C) -> (1, *grid, C), in its dtype.

    The last two axes are resized bicubically (align_corners False, no antialias: as the official code does), the one
    before them linearly. So a volume's embedding one voxel deep is resized as a picture's. Each axis is multiplied by
    the weights of its interpolation: torch's bicubic backward pass adds in no fixed order on a GPU.

    Raises:
        ValueError: the numbers of axes differ.
    """
    if embed.ndim - 2 != len(grid):
        raise ValueError(f"a position embedding of {embed.ndim - 2} axes cannot be resized to the grid {grid}")
    x = embed.float() if embed.dtype in (torch.float16, torch.bfloat16) else embed
    with no_autocast(embed):
        for axis, (before, size) in enumerate(zip(embed.shape[1:-1], grid, strict=True), start=1):
            if not in_graph() and size == before:  # a graph resizes in any case, so that it serves all sizes
                continue
            eye = torch.eye(before, dtype=x.dtype, device=x.device)
            mode = "bicubic" if len(grid) > 1 and axis >= len(grid) - 1 else "bilinear"
            weights = F.interpolate(eye[None, None], (size, before), mode=mode)[0, 0]
            x = torch.tensordot(weights, x, ([1], [axis])).movedim(0, axis)
    return x.to(embed.dtype)
