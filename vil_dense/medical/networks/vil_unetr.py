"""Defines ViLUNETR3D: sequence blocks at one scale, decoded from several depths."""

from collections.abc import Sequence
from inspect import signature
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from vil_dense.layers import PosEmbed, drop_path_rates
from vil_dense.medical.networks.convolutions import ACT, NORM, ConvDecoder, ConvEncoder, Layer
from vil_dense.medical.networks.options import check_network, triple, whole_numbers
from vil_dense.medical.networks.sequence import AXIS_ORDERS, SequenceStage
from vil_dense.medical.networks.topology import crop, pad, padded_size, resolve_levels, scale_name, total_stride
from vil_dense.medical.networks.tracing import scriptable

FEATURE_MAPS = 4
"""Number of depths whose outputs the decoder receives."""


class ViLUNETR3D(nn.Module):
    """Segments with a convolutional tokenizer, sequence blocks on its tokens, and a light convolutional decoder.

    The decoder receives the feature maps at each quarter of the depth, each with its own LayerNorm, and the maps of the
    tokenizer as skip connections. The output is that of `ViLUNet3D`.

    Args:
        channels: widths of the tokenizer's scales, from the finest; the tokens are one scale coarser.
        dim: width of the tokens, a multiple of 8.
        depth: number of sequence blocks, at least `FEATURE_MAPS`.
        grid: tokens along each axis for which a learned position embedding is stored (resized for another grid); None
            for no position embedding, as the convolutions carry positions.
        Others: see `ViLUNet3D`.

    Raises:
        ValueError: an option is unknown, or the numbers do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        spatial_dims: int = 3,
        channels: Sequence[int] = (16, 32, 64),
        dim: int = 192,
        depth: int = 12,
        block: str = "vil",
        orders: Sequence[str] = AXIS_ORDERS,
        grid: Sequence[int] | None = None,
        spacing_mm: Sequence[float] | float = (1, 1, 1),
        patch_vox: Sequence[int] | int | None = None,
        strides: Sequence[Sequence[int] | int] | None = None,
        kernels: Sequence[Sequence[int] | int] | None = None,
        norm: Layer = NORM,
        act: Layer = ACT,
        deep_supervision: int = 1,
        drop_path: float = 0.0,
        layerscale: float | None = 0.1,
        use_checkpoint: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        check_network("ViLUNETR3D", spatial_dims, block, options, signature(ViLUNETR3D).parameters)
        channels = whole_numbers(channels, "channels", 1)
        if depth < FEATURE_MAPS:
            raise ValueError(f"{FEATURE_MAPS} feature maps need as many blocks, got {depth}")
        if deep_supervision < 1:
            raise ValueError(f"at least one scale with logits: got {len(channels)} and {deep_supervision}")
        self.in_channels, self.use_checkpoint = in_channels, use_checkpoint
        widths = [*channels, dim]
        self.strides, kernels = resolve_levels(spacing_mm, patch_vox, strides, kernels, len(widths))
        self.tokenizer = ConvEncoder(in_channels, widths, self.strides, kernels, norm, act, use_checkpoint)
        self.position = PosEmbed(triple(grid, "grid"), dim) if grid is not None else None
        options = dict(block=block, orders=orders, layerscale=layerscale, use_checkpoint=use_checkpoint, **options)
        self.stage = SequenceStage(dim, drop_path_rates(drop_path, depth), **options)
        self.indices = [depth * (part + 1) // FEATURE_MAPS - 1 for part in range(FEATURE_MAPS)]
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.indices)
        self.fuse = nn.Linear(FEATURE_MAPS * dim, dim)
        heads = min(deep_supervision, len(channels))
        self.decoder = ConvDecoder(widths, self.strides, kernels, out_channels, heads, norm, act, use_checkpoint)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        *skips, tokens = self.tokenizer(pad(x, self.strides, self.in_channels))
        if self.position is not None:
            tokens = self.position(tokens.movedim(1, -1)).movedim(-1, 1)
        maps = self.stage.intermediate(tokens, self.indices)
        tokens = self.fuse(torch.cat([norm(x) for norm, x in zip(self.norms, maps, strict=True)], dim=-1))
        maps = [*skips, tokens.movedim(-1, 1).contiguous()]
        outputs = crop(self.decoder(maps, every_head=self.training), self.strides, size)
        return outputs if self.training and len(self.decoder.heads) > 1 else outputs[0]

    def __prepare_scriptable__(self) -> nn.Module:
        """Returns a trace, which torch.jit.script takes in place of the network."""
        return scriptable(self, self.in_channels, total_stride(self.strides))

    def tokens(self, size: Sequence[int]) -> dict[str, int]:
        """Returns the number of tokens, by scale, for an input of `size` voxels."""
        total = total_stride(self.strides)
        size = padded_size(size, self.strides)
        return {scale_name(total): prod(n // stride for n, stride in zip(size, total, strict=True))}
