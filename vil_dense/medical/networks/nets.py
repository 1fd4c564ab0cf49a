"""Volume segmentation networks, (B, C, I, J, K) -> logits (B, K, I, J, K); MONAI's beside ours in a table."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock, UnetUpBlock
from monai.networks.nets import DynUNet, SegResNet
from torch import Tensor, nn

from vil_dense.layers import PosEmbed
from vil_dense.medical.networks.sequence import AXIS_ORDERS, SequenceStage

Axes = tuple[int, int, int]

NORM = ("instance", {"affine": True})
TAPS = 4

ANISOTROPIC = 2.0
"""From this ratio to the finest axis on, an axis is neither convolved nor strided."""
FEWEST_VOX = 4
"""No axis of a patch is halved to fewer voxels."""


def topology(
    spacing_mm: Sequence[float], levels: int, patch_vox: Sequence[int] | None = None
) -> tuple[list[Axes], list[Axes]]:
    """Strides and kernels of each level, from the spacing (as nnU-Net's planner, Nat. Methods 18:203, does).

    A level halves the axes whose spacing there is below `ANISOTROPIC` times the finest of those that can be halved, and
    convolves over 3 voxels of an axis whose spacing is below that factor of the finest, or was on a level before; over
    1 of the others. With `patch_vox` an axis keeps `FEWEST_VOX`.

    Args:
        spacing_mm: of the input, (I, J, K).
        levels: number of scales, the first of stride 1.
        patch_vox: size of the input, where it is known.

    Raises:
        ValueError: a spacing that is not three positive numbers, or no level.
    """
    if len(spacing_mm) != 3 or not all(0 < float(mm) < float("inf") for mm in spacing_mm):
        raise ValueError(f"spacing_mm has three positive numbers, got {spacing_mm!r}")
    if levels < 1:
        raise ValueError(f"a network has at least one level, got {levels}")
    spacing = [float(mm) for mm in spacing_mm]
    size = [2**levels * FEWEST_VOX] * 3 if patch_vox is None else [int(vox) for vox in patch_vox]
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
        i, j, k = (
            max(3 if mm < ANISOTROPIC * min(spacing) else 1, old) for mm, old in zip(spacing, before, strict=True)
        )
        kernels.append((i, j, k))
    return strides, kernels


class ConvEncoder(nn.Module):
    """Residual InstanceNorm convolutions, a block for each level; (B, C_in, *size) -> a list of (B, C_level, *grid)."""

    def __init__(
        self, in_channels: int, channels: Sequence[int], strides: Sequence[Axes], kernels: Sequence[Axes]
    ) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.levels = nn.ModuleList(
            UnetResBlock(3, widths[level], widths[level + 1], kernels[level], strides[level], NORM)
            for level in range(len(channels))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


class ConvDecoder(nn.Module):
    """From the coarsest map up, each step with its skip; a list of logits, the finest first.

    Args:
        channels, strides, kernels: of the encoder's levels.
        out_channels: classes.
        heads: how many of the finest scales have logits.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[Axes], kernels: Sequence[Axes], out_channels: int, heads: int
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            UnetUpBlock(3, channels[level + 1], channels[level], kernels[level], 1, strides[level + 1], NORM)
            for level in range(len(channels) - 1)
        )
        self.heads = nn.ModuleList(UnetOutBlock(3, channels[level], out_channels) for level in range(heads))

    def forward(self, maps: Sequence[Tensor], every_head: bool) -> list[Tensor]:
        x, outputs = maps[-1], []
        for level in reversed(range(len(self.steps))):
            x = self.steps[level](x, maps[level])
            if level < (len(self.heads) if every_head else 1):
                outputs.append(self.heads[level](x))
        return outputs[::-1]


def total_stride(strides: Sequence[Axes]) -> Axes:
    """Voxels of the input for one behind these levels, along each axis."""
    i, j, k = (prod(axis) for axis in zip(*strides, strict=True))
    return i, j, k


def padded_size(size: Sequence[int], strides: Sequence[Axes]) -> Axes:
    """What an input of `size` voxels is padded to: whole strides, and two voxels or more on the coarsest level."""
    total = total_stride(strides)
    i, j, k = (-(-length // stride) * stride for length, stride in zip(size, total, strict=True))
    # InstanceNorm cannot normalise a single voxel.
    return i, j, k + total[2] * ((i, j, k) == total)


def pad(x: Tensor, strides: Sequence[Axes], in_channels: int) -> Tensor:
    """(B, C, *size) -> (B, C, *padded_size), the last voxels repeated.

    Raises:
        ValueError: another number of axes or channels.
    """
    if x.ndim != 5 or x.shape[1] != in_channels or min(x.shape) < 1:
        raise ValueError(f"expected an input (B, {in_channels}, I, J, K), got {tuple(x.shape)}")
    missing = [whole - length for whole, length in zip(padded_size(x.shape[2:], strides), x.shape[2:], strict=True)]
    return F.pad(x, [n for length in reversed(missing) for n in (0, length)], mode="replicate") if any(missing) else x


def crop(outputs: Sequence[Tensor], strides: Sequence[Axes], size: Sequence[int]) -> list[Tensor]:
    """Logits of the first levels, without what was padded to an input of `size` voxels."""
    cropped = []
    for level, logits in enumerate(outputs):
        i, j, k = (-(-n // stride) for n, stride in zip(size, total_stride(strides[: level + 1]), strict=True))
        cropped.append(logits[..., :i, :j, :k])
    return cropped


def _levels(
    spacing_mm: Sequence[float],
    patch_vox: Sequence[int] | None,
    strides: Sequence[Sequence[int]] | None,
    kernels: Sequence[Sequence[int]] | None,
    levels: int,
) -> tuple[list[Axes], list[Axes]]:
    """Strides and kernels as given, or from the spacing where they are not."""
    own = topology(spacing_mm, levels, patch_vox)
    chosen = [
        [tuple(axes) for axes in given] if given is not None else rule
        for given, rule in zip((strides, kernels), own, strict=True)
    ]
    for name, axes in zip(("strides", "kernels"), chosen, strict=True):
        if len(axes) != levels or any(len(level) != 3 for level in axes):
            raise ValueError(f"{name} need three numbers for each of {levels} levels, got {axes}")
    return chosen[0], chosen[1]


def _rates(drop_path: float, depth: int) -> list[float]:
    """Stochastic depth rising from 0 at the first block to `drop_path` at the last one."""
    return [drop_path * index / max(depth - 1, 1) for index in range(depth)]


class ViLUNet3D(nn.Module):
    """U-Net with residual InstanceNorm convolutions and rows of sequence blocks behind chosen scales.

    In training and with `deep_supervision` above 1 the output is a list of logits, the finest scale first; else it is
    logits (B, K, I, J, K) of the input's size. Inputs are padded inside to whole strides and logits cropped.

    Args:
        in_channels, out_channels: of the input; classes, the background one of them.
        channels: width of each scale, from the input's down.
        depths: sequence blocks behind the convolutions of each scale; scales with none may have any width, others a
            multiple of 8.
        block: a key of `sequence.SEQUENCE_BLOCKS`.
        orders: of the blocks, taken in turn over the whole network.
        spacing_mm, patch_vox: strides and kernels follow from them, see `topology`.
        strides, kernels: three numbers for each scale, in place of the rule's.
        deep_supervision: number of scales with logits in training, from the input's down; never the coarsest.
        drop_path: stochastic depth rate of the last block, rising linearly from 0 at the first.
        layerscale: initial value, None for none.
        **options: of the block, see `sequence.SequenceStage`.

    Raises:
        ValueError: numbers that do not fit together, said in one sentence.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        channels: Sequence[int] = (32, 64, 128, 256, 320),
        depths: Sequence[int] = (0, 0, 0, 4, 2),
        block: str = "vil",
        orders: Sequence[str] = AXIS_ORDERS,
        spacing_mm: Sequence[float] = (1, 1, 1),
        patch_vox: Sequence[int] | None = None,
        strides: Sequence[Sequence[int]] | None = None,
        kernels: Sequence[Sequence[int]] | None = None,
        deep_supervision: int = 3,
        drop_path: float = 0.0,
        layerscale: float | None = 0.1,
        **options: Any,
    ) -> None:
        super().__init__()
        if len(depths) != len(channels):
            raise ValueError(f"depths needs one number for each of {len(channels)} scales, got {tuple(depths)}")
        if deep_supervision < 1 or len(channels) < 2:
            raise ValueError(
                f"at least two scales, one of them with logits: got {len(channels)} and {deep_supervision}"
            )
        self.in_channels, self.depths = in_channels, tuple(depths)
        self.strides, kernels = _levels(spacing_mm, patch_vox, strides, kernels, len(channels))
        self.encoder = ConvEncoder(in_channels, channels, self.strides, kernels)
        rates = _rates(drop_path, sum(depths))
        self.stages = nn.ModuleList()
        for level, depth in enumerate(depths):
            first = sum(depths[:level])
            place = dict(block=block, orders=orders, first=first, layerscale=layerscale)
            self.stages.append(
                SequenceStage(channels[level], rates[first : first + depth], **place, **options)
                if depth
                else nn.Identity()
            )
        heads = min(deep_supervision, len(channels) - 1)
        self.decoder = ConvDecoder(channels, self.strides, kernels, out_channels, heads)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size, maps = x.shape[2:], []
        x = pad(x, self.strides, self.in_channels)
        for level, stage in zip(self.encoder.levels, self.stages, strict=True):
            x = stage(level(x))
            maps.append(x)
        outputs = crop(self.decoder(maps, every_head=self.training), self.strides, size)
        return outputs if self.training and len(self.decoder.heads) > 1 else outputs[0]

    def tokens(self, size: Sequence[int]) -> dict[str, int]:
        """Tokens of the scales with sequence blocks, for an input of `size` voxels."""
        size = padded_size(size, self.strides)
        totals = [total_stride(self.strides[: level + 1]) for level in range(len(self.strides))]
        return {
            name_of(total): prod(n // stride for n, stride in zip(size, total, strict=True))
            for total, depth in zip(totals, self.depths, strict=True)
            if depth
        }


class ViLUNETR3D(nn.Module):
    """Tokens by stacked convolutions, one row of sequence blocks on them, four taps, a light convolution decoder.

    Taps lie at each quarter of the depth, have their own LayerNorm, and enter the decoder together; the tokenizer's
    maps are its skips. Output as of `ViLUNet3D`.

    Args:
        channels: widths of the tokenizer's scales, from the input's down; the tokens lie one scale further.
        dim: width of the tokens, a multiple of 8.
        depth: sequence blocks, at least 4.
        grid: tokens along each axis for which a learned position embedding is stored (resized where the grid differs);
            None for none, the convolutions then tell the place.
        Others: see `ViLUNet3D`.

    Raises:
        ValueError: numbers that do not fit together, said in one sentence.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        channels: Sequence[int] = (16, 32, 64),
        dim: int = 192,
        depth: int = 12,
        block: str = "vil",
        orders: Sequence[str] = AXIS_ORDERS,
        grid: Sequence[int] | None = None,
        spacing_mm: Sequence[float] = (1, 1, 1),
        patch_vox: Sequence[int] | None = None,
        strides: Sequence[Sequence[int]] | None = None,
        kernels: Sequence[Sequence[int]] | None = None,
        deep_supervision: int = 1,
        drop_path: float = 0.0,
        layerscale: float | None = 0.1,
        **options: Any,
    ) -> None:
        super().__init__()
        if depth < TAPS:
            raise ValueError(f"{TAPS} taps need as many blocks, got {depth}")
        if deep_supervision < 1 or not channels:
            raise ValueError(f"at least one scale with logits: got {len(channels)} and {deep_supervision}")
        self.in_channels = in_channels
        widths = [*channels, dim]
        self.strides, kernels = _levels(spacing_mm, patch_vox, strides, kernels, len(widths))
        self.tokenizer = ConvEncoder(in_channels, widths, self.strides, kernels)
        self.position = PosEmbed((grid[0], grid[1], grid[2]), dim) if grid is not None else None
        self.stage = SequenceStage(
            dim, _rates(drop_path, depth), block=block, orders=orders, layerscale=layerscale, **options
        )
        self.taps = [depth * (quarter + 1) // TAPS - 1 for quarter in range(TAPS)]
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.taps)
        self.fuse = nn.Linear(TAPS * dim, dim)
        heads = min(deep_supervision, len(channels))
        self.decoder = ConvDecoder(widths, self.strides, kernels, out_channels, heads)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        *skips, tokens = self.tokenizer(pad(x, self.strides, self.in_channels))
        if self.position is not None:
            tokens = self.position(tokens.movedim(1, -1)).movedim(-1, 1)
        taps = self.stage.taps(tokens, self.taps)
        tokens = self.fuse(torch.cat([norm(tap) for norm, tap in zip(self.norms, taps, strict=True)], dim=-1))
        maps = [*skips, tokens.movedim(-1, 1).contiguous()]
        outputs = crop(self.decoder(maps, every_head=self.training), self.strides, size)
        return outputs if self.training and len(self.decoder.heads) > 1 else outputs[0]

    def tokens(self, size: Sequence[int]) -> dict[str, int]:
        """Tokens for an input of `size` voxels."""
        total = total_stride(self.strides)
        size = padded_size(size, self.strides)
        return {name_of(total): prod(n // stride for n, stride in zip(size, total, strict=True))}


def name_of(total: Axes) -> str:
    """A scale in words: `/4`, or `/4x4x2` where its axes differ."""
    return f"/{total[0]}" if len({*total}) == 1 else "/" + "x".join(map(str, total))


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ViLUNet3D": ViLUNet3D,
    "ViLUNETR3D": ViLUNETR3D,
    "DynUNet": partial(DynUNet, 3),
    "SegResNet": partial(SegResNet, 3),
}
"""Networks that configs name: ours, and MONAI's as peers."""


def network_options(plan: Mapping[str, Any], type: str, **options: Any) -> dict[str, Any]:
    """Arguments of the network `type` of `NETWORKS` for the plan's channels, labels, spacing and patch, and for
    `ViLUNet3D` the options that the plan has for it (`network`); `options` go before all of these.

    Raises:
        ValueError: an unknown network.
    """
    if type not in NETWORKS:
        raise ValueError(f"unknown network {type!r}; known: {', '.join(NETWORKS)}")
    own = dict(in_channels=len(plan["channels"]), out_channels=len(plan["labels"]))
    if type.startswith("ViL"):
        own.update(spacing_mm=plan["spacing_mm"], patch_vox=plan["patch_vox"])
    if type == "ViLUNet3D":
        own.update(plan.get("network", {}))
    return {**own, **options}


def build_network(plan: Mapping[str, Any], type: str, **options: Any) -> nn.Module:
    """The network of `network_options`; a ValueError says which options do not fit."""
    options = network_options(plan, type, **options)
    return NETWORKS[type](**options)


def logits_of(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """A network's output as a list of logits, the finest first (DynUNet stacks them along axis 1)."""
    if isinstance(output, Tensor):
        return list(output.unbind(1)) if output.ndim == 6 else [output]
    return list(output)
