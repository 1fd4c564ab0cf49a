"""Defines ViLUNet3D, a U-Net with sequence blocks on its coarse scales."""

from collections.abc import Sequence
from inspect import signature
from math import prod
from typing import Any

from torch import Tensor, nn

from vil_dense.layers import drop_path_rates
from vil_dense.medical.networks.convolutions import ACT, NORM, ConvDecoder, ConvEncoder, Layer
from vil_dense.medical.networks.options import check_network, whole_numbers
from vil_dense.medical.networks.recompute import run
from vil_dense.medical.networks.sequence import AXIS_ORDERS, SequenceStage
from vil_dense.medical.networks.topology import crop, pad, padded_size, resolve_levels, scale_name, total_stride
from vil_dense.medical.networks.tracing import scriptable


class ViLUNet3D(nn.Module):
    """Segments with a U-Net of residual convolutions, InstanceNorm, and sequence blocks at chosen scales.

    In training with `deep_supervision` above 1 the output is a list of logits, the finest scale first; otherwise logits
    (B, K, I, J, K) of the size of the input. Inputs are padded to multiples of the strides, and logits are cropped.

    The arguments have MONAI's names.

    Args:
        in_channels, out_channels: channels of the input; number of classes with the background.
        spatial_dims: 3, as the orders are those of volumes.
        channels: width of each scale, from the finest to the coarsest.
        depths: sequence blocks after the convolutions of each scale; the width of a scale with blocks is a multiple of
            8.
        block: a key of `layers.SEQUENCE_BLOCKS`.
        orders: orders that consecutive blocks of the whole network use in turn.
        spacing_mm, patch_vox: determine strides and kernels, see `topology`; a number is that of all axes.
        strides, kernels: one or three numbers for each scale; override those from the spacing.
        norm, act: of the convolutions, names of `monai.networks.layers` or a pair of name and options.
        deep_supervision: number of scales with logits in training, from the finest; never the coarsest.
        drop_path: stochastic depth rate of the last block, rising linearly from 0 at the first.
        layerscale: initial value; None for no LayerScale.
        use_checkpoint: recomputes the activations of each scale in the backward pass, which saves memory and takes
            longer.
        **options: options of the block, see `sequence.SequenceStage`.

    Raises:
        ValueError: an option is unknown, or the numbers do not fit together.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        spatial_dims: int = 3,
        channels: Sequence[int] = (32, 64, 128, 256, 320),
        depths: Sequence[int] = (0, 0, 0, 4, 2),
        block: str = "vil",
        orders: Sequence[str] = AXIS_ORDERS,
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
        check_network("ViLUNet3D", spatial_dims, block, options, signature(ViLUNet3D).parameters)
        channels, depths = whole_numbers(channels, "channels", 1), whole_numbers(depths, "depths", 0)
        if len(depths) != len(channels):
            raise ValueError(f"depths needs one number for each of {len(channels)} scales, got {tuple(depths)}")
        if deep_supervision < 1 or len(channels) < 2:
            raise ValueError(
                f"at least two scales, one of them with logits: got {len(channels)} and {deep_supervision}"
            )
        self.in_channels, self.depths, self.use_checkpoint = in_channels, depths, use_checkpoint
        self.strides, kernels = resolve_levels(spacing_mm, patch_vox, strides, kernels, len(channels))
        self.encoder = ConvEncoder(in_channels, channels, self.strides, kernels, norm, act, use_checkpoint)
        rates = drop_path_rates(drop_path, sum(depths))
        self.stages = nn.ModuleList()
        options = dict(block=block, orders=orders, layerscale=layerscale, use_checkpoint=use_checkpoint, **options)
        for level, depth in enumerate(depths):
            first = sum(depths[:level])
            self.stages.append(
                SequenceStage(channels[level], rates[first : first + depth], first=first, **options)
                if depth
                else nn.Identity()
            )
        heads = min(deep_supervision, len(channels) - 1)
        self.decoder = ConvDecoder(channels, self.strides, kernels, out_channels, heads, norm, act, use_checkpoint)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size, maps = x.shape[2:], []
        x = pad(x, self.strides, self.in_channels)
        for level, stage in zip(self.encoder.levels, self.stages, strict=True):
            x = stage(run(self.use_checkpoint, level, x))
            maps.append(x)
        outputs = crop(self.decoder(maps, every_head=self.training), self.strides, size)
        return outputs if self.training and len(self.decoder.heads) > 1 else outputs[0]

    def __prepare_scriptable__(self) -> nn.Module:
        """Returns a trace, which torch.jit.script takes in place of the network."""
        return scriptable(self, self.in_channels, total_stride(self.strides))

    def tokens(self, size: Sequence[int]) -> dict[str, int]:
        """Returns the tokens of the scales with sequence blocks, for an input of `size` voxels."""
        size = padded_size(size, self.strides)
        totals = [total_stride(self.strides[: level + 1]) for level in range(len(self.strides))]
        return {
            scale_name(total): prod(n // stride for n, stride in zip(size, total, strict=True))
            for total, depth in zip(totals, self.depths, strict=True)
            if depth
        }
