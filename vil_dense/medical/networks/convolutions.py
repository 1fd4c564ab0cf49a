"""Defines the convolutional encoder and decoder of the volume networks."""

from collections.abc import Sequence
from typing import Any

from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetResBlock, UnetUpBlock
from torch import Tensor, nn

from vil_dense.medical.networks.recompute import run
from vil_dense.medical.networks.topology import Axes

Layer = str | tuple[str, dict[str, Any]]
"""A norm or an activation by MONAI's name, alone or with its options."""

NORM: Layer = ("instance", {"affine": True})
ACT: Layer = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


class ConvEncoder(nn.Module):
    """Encodes with residual convolutions, one block for each level.

    (B, C_in, *size) -> a list of (B, C_level, *grid); norm, act and use_checkpoint are those of `ConvDecoder`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[Axes],
        kernels: Sequence[Axes],
        norm: Layer = NORM,
        act: Layer = ACT,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        widths = [in_channels, *channels]
        self.levels = nn.ModuleList(
            UnetResBlock(3, widths[level], widths[level + 1], kernels[level], strides[level], norm, act)
            for level in range(len(channels))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for level in self.levels:
            x = run(self.use_checkpoint, level, x)
            maps.append(x)
        return maps


class ConvDecoder(nn.Module):
    """Decodes from the coarsest map with skip connections to a list of logits, the finest first.

    Args:
        channels, strides, kernels: those of the encoder's levels.
        out_channels: number of classes.
        heads: number of scales with logits, from the finest.
        norm, act: names of MONAI's layers.
        use_checkpoint: recomputes each scale in the backward pass.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[Axes],
        kernels: Sequence[Axes],
        out_channels: int,
        heads: int,
        norm: Layer = NORM,
        act: Layer = ACT,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.steps = nn.ModuleList(
            UnetUpBlock(3, channels[level + 1], channels[level], kernels[level], 1, strides[level + 1], norm, act)
            for level in range(len(channels) - 1)
        )
        self.heads = nn.ModuleList(UnetOutBlock(3, channels[level], out_channels) for level in range(heads))

    def forward(self, maps: Sequence[Tensor], every_head: bool) -> list[Tensor]:
        x, outputs = maps[-1], []
        for level in reversed(range(len(self.steps))):
            x = run(self.use_checkpoint, self.steps[level], x, maps[level])
            if level < (len(self.heads) if every_head else 1):
                outputs.append(self.heads[level](x))
        return outputs[::-1]
