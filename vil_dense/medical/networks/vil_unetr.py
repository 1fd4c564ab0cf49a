"""Defines ViLUNETR3D: sequence blocks at one scale, decoded from several depths."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vil_dense.layers import PosEmbed
from vil_dense.medical.networks.convolutions import ConvDecoder, ConvEncoder
from vil_dense.medical.networks.topology import pad, triple, whole_numbers
from vil_dense.medical.networks.volume_network import VolumeNetwork

FEATURE_MAPS = 4
"""Number of depths whose outputs the decoder receives."""


class ViLUNETR3D(VolumeNetwork):
    """Segments with a convolutional tokenizer, sequence blocks on its tokens, and a light convolutional decoder.

    The decoder receives the feature maps at each quarter of the depth, each with its own LayerNorm, and the maps of the
    tokenizer as skip connections.

    Args:
        in_channels, out_channels: channels of the input; number of classes with the background.
        channels: widths of the tokenizer's scales, from the finest; the tokens are one scale coarser.
        dim: width of the tokens, a multiple of 8.
        depth: number of sequence blocks, at least `FEATURE_MAPS`.
        grid: tokens along each axis for which a learned position embedding is stored (resized for another grid); None
            for no position embedding, as the convolutions carry positions.
        **options: see `VolumeNetwork`, which also describes the output.

    Raises:
        ValueError: an option is unknown, or the numbers do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        channels: Sequence[int] = (16, 32, 64),
        dim: int = 192,
        depth: int = 12,
        grid: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        channels = whole_numbers(channels, "channels", 1)
        if depth < FEATURE_MAPS:
            raise ValueError(f"{FEATURE_MAPS} feature maps need as many blocks, got {depth}")
        super().__init__(in_channels, [*channels, dim], [*[0] * len(channels), depth], **options)
        self.tokenizer = ConvEncoder(in_channels, self.levels)
        self.position = PosEmbed(triple(grid, "grid"), dim) if grid is not None else None
        self.stage = self.sequence_stage(len(channels))
        self.indices = [depth * (part + 1) // FEATURE_MAPS - 1 for part in range(FEATURE_MAPS)]
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.indices)
        self.fuse = nn.Linear(FEATURE_MAPS * dim, dim)
        self.decoder = ConvDecoder(self.levels, out_channels, self.heads)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        *skips, tokens = self.tokenizer(pad(x, self.strides, self.in_channels))
        if self.position is not None:
            tokens = self.position(tokens.movedim(1, -1)).movedim(-1, 1)
        maps = self.stage.intermediate(tokens, self.indices)
        tokens = self.fuse(torch.cat([norm(x) for norm, x in zip(self.norms, maps, strict=True)], dim=-1))
        return self.decode([*skips, tokens.movedim(-1, 1).contiguous()], x.shape[2:])
