"""Defines what the networks of this package share: their options, padding of the input, and cropping of the logits."""

from collections.abc import Sequence
from inspect import signature
from math import prod
from typing import Any

from torch import Tensor, nn

from vil_dense.errors import refuse_unknown
from vil_dense.layers.sequence import SEQUENCE_BLOCKS, drop_path_rates, sequence_options
from vil_dense.medical.networks.convolutions import ACT, NORM, ConvDecoder, Layer, Levels
from vil_dense.medical.networks.sequence import AXIS_ORDERS, SequenceStage
from vil_dense.medical.networks.topology import crop, padded_size, resolve_levels, scale_name, total_stride
from vil_dense.medical.networks.tracing import scriptable


class VolumeNetwork(nn.Module):
    """Holds the options of a network with convolutions on all scales and sequence blocks on some.

    In training with `deep_supervision` above 1 the output is a list of logits, the finest scale first; otherwise logits
    (B, K, I, J, K) of the size of the input. Inputs are padded to multiples of the strides, and logits are cropped.

    The arguments have MONAI's names.

    Args:
        in_channels: channels of the input.
        widths: channels of each scale, from the finest to the coarsest; that of a scale with blocks is a multiple of 8.
        depths: number of sequence blocks of each scale.
        spatial_dims: 3, as the orders are those of volumes.
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

    decoder: ConvDecoder

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        spatial_dims: int = 3,
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
        name = type(self).__name__
        if spatial_dims != 3:
            raise ValueError(f"{name} is for volumes, spatial_dims=3, got {spatial_dims!r}; pictures take VisionLSTM")
        if block not in SEQUENCE_BLOCKS:
            raise ValueError(f"unknown block {block!r}; known: {', '.join(SEQUENCE_BLOCKS)}")
        own = {*signature(type(self)).parameters, *signature(VolumeNetwork).parameters} - {"widths"}
        refuse_unknown(options, [*own, *sequence_options(block)], f"{name} with block={block!r}")
        if deep_supervision < 1 or len(widths) < 2:
            raise ValueError(f"at least two scales, one of them with logits: got {len(widths)} and {deep_supervision}")
        self.in_channels, self.depths = in_channels, depths
        self.strides, kernels = resolve_levels(spacing_mm, patch_vox, strides, kernels, len(widths))
        self.levels = Levels(widths, self.strides, kernels, norm, act, use_checkpoint)
        self.heads = min(deep_supervision, len(widths) - 1)
        self.rates = drop_path_rates(drop_path, sum(depths))
        shared = dict(orders=orders, layerscale=layerscale, use_checkpoint=use_checkpoint)
        self.stage_options: dict[str, Any] = dict(block=block, **shared, **options)

    def sequence_stage(self, level: int) -> SequenceStage:
        """Returns the sequence blocks of a scale."""
        first = sum(self.depths[:level])
        rates = self.rates[first : first + self.depths[level]]
        return SequenceStage(self.levels.widths[level], rates, first=first, **self.stage_options)

    def decode(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor | list[Tensor]:
        """Returns the logits of the maps of all scales, for an input of `size` voxels."""
        outputs = crop(self.decoder(maps, every_head=self.training), self.strides, size)
        return outputs if self.training and self.heads > 1 else outputs[0]

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
