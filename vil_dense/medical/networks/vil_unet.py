"""Defines ViLUNet3D, a U-Net with sequence blocks on its coarse scales."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vil_dense.medical.networks.convolutions import ConvDecoder, ConvEncoder
from vil_dense.medical.networks.sequence import run
from vil_dense.medical.networks.topology import pad, whole_numbers
from vil_dense.medical.networks.volume_network import VolumeNetwork


class ViLUNet3D(VolumeNetwork):
    """Segments with a U-Net of residual convolutions, InstanceNorm, and sequence blocks at chosen scales.

    Args:
        in_channels, out_channels: channels of the input; number of classes with the background.
        channels: width of each scale, from the finest to the coarsest.
        depths: sequence blocks after the convolutions of each scale.
        **options: see `VolumeNetwork`, which also describes the output.

    Raises:
        ValueError: an option is unknown, or the numbers do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        channels: Sequence[int] = (32, 64, 128, 256, 320),
        depths: Sequence[int] = (0, 0, 0, 4, 2),
        **options: Any,
    ) -> None:
        channels, depths = whole_numbers(channels, "channels", 1), whole_numbers(depths, "depths", 0)
        if len(depths) != len(channels):
            raise ValueError(f"depths needs one number for each of {len(channels)} scales, got {tuple(depths)}")
        super().__init__(in_channels, channels, depths, **options)
        self.encoder = ConvEncoder(in_channels, self.levels)
        self.stages = nn.ModuleList(
            self.sequence_stage(level) if depth else nn.Identity() for level, depth in enumerate(depths)
        )
        self.decoder = ConvDecoder(self.levels, out_channels, self.heads)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size, maps = x.shape[2:], []
        x = pad(x, self.strides, self.in_channels)
        for level, stage in zip(self.encoder.levels, self.stages, strict=True):
            x = stage(run(self.levels.use_checkpoint, level, x))
            maps.append(x)
        return self.decode(maps, size)
