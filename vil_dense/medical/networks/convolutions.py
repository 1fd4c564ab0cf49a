"""Defines the convolutional encoder and decoder of the volume networks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock, UnetUpBlock
from torch import Tensor, nn

from vil_dense.medical.networks.sequence import run
from vil_dense.medical.networks.topology import Axes

Layer = str | tuple[str, dict[str, Any]]
"""A norm or an activation by MONAI's name, alone or with its options."""

NORM: Layer = ("instance", {"affine": True})
ACT: Layer = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


class Levels(NamedTuple):
    """Stores the convolutions of the scales of a network, from the finest; `use_checkpoint` recomputes their maps."""

    widths: Sequence[int]
    strides: Sequence[Axes]
    kernels: Sequence[Axes]
    norm: Layer = NORM
    act: Layer = ACT
    use_checkpoint: bool = False


class ConvEncoder(nn.Module):
    """Encodes with residual convolutions, a block for each level: (B, C_in, *size) -> a list of (B, C_level, *grid)."""

    def __init__(self, in_channels: int, levels: Levels) -> None:
        super().__init__()
        self.use_checkpoint = levels.use_checkpoint
        before = [in_channels, *levels.widths]
        scales = zip(before, levels.widths, levels.kernels, levels.strides, strict=False)
        self.levels = nn.ModuleList(UnetResBlock(3, *scale, levels.norm, levels.act) for scale in scales)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for level in self.levels:
            x = run(self.use_checkpoint, level, x)
            maps.append(x)
        return maps


class ConvDecoder(nn.Module):
    """Decodes from the coarsest map with skip connections to a list of logits, the finest first.

    Args:
        levels: those of the encoder.
        out_channels: number of classes.
        heads: number of scales with logits, from the finest.
    """

    def __init__(self, levels: Levels, out_channels: int, heads: int) -> None:
        super().__init__()
        widths, strides, kernels, norm, act, self.use_checkpoint = levels
        self.steps = nn.ModuleList(
            UnetUpBlock(3, widths[level + 1], widths[level], kernels[level], 1, strides[level + 1], norm, act)
            for level in range(len(widths) - 1)
        )
        self.heads = nn.ModuleList(UnetOutBlock(3, widths[level], out_channels) for level in range(heads))

    def forward(self, maps: Sequence[Tensor], every_head: bool) -> list[Tensor]:
        x, outputs = maps[-1], []
        for level in reversed(range(len(self.steps))):
            x = run(self.use_checkpoint, self.steps[level], x, maps[level])
            if level < (len(self.heads) if every_head else 1):
                outputs.append(self.heads[level](x))
        return outputs[::-1]
