"""Defines HierViL: convolutions at the fine scales of a feature pyramid, ViL blocks at the coarse ones, 2D and 3D.

The plan is that of hybrid backbones such as MambaVision (arXiv 2407.08083): where a scale has many places and little
context, convolutions; where it has few, blocks that see all of it. In detail:

- stem: two 3 x 3 convolutions of stride 2, GELU between them, without a norm, which would take away how bright a place
  is;
- strides 4 and 8: residual blocks of two 3 x 3 convolutions, each with a LayerNorm, as in MambaVision;
- from one stage to the next: a 3 x 3 convolution of stride 2 and a LayerNorm, as in PVT v2 (arXiv 2106.13797);
- strides 16 and 32: blocks of ViL v2 without an MLP, which read the axes of the grid in turn, forwards and backwards.

There is no position embedding. Zero padding lets convolutions know where the border is, and each sequence stage begins
with x + depthwise convolution of x (arXiv 2102.10882), so that the controls know positions as ViL does. All norms are
LayerNorms: a place depends neither on the batch nor, in a convolution stage, on places far away. There are no
published weights to match, so down-projections start as the authors of ViL intended (`by-depth` in
`layers.vil.ViLLayer`). ViL blocks save what their backward pass reads (`recompute=False` there), which takes less time;
`with_cp=True` saves memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from vil_dense.backbones.network import Network, counted_from_start
from vil_dense.errors import refuse_other, refuse_unknown
from vil_dense.layers.convolutions import ConvBlock, GridConv
from vil_dense.layers.sequence import SEQUENCE_BLOCKS, drop_path_rates, sequence_options
from vil_dense.ops import ORDERS

_3D = dict(ndim=3, in_channels=1)

HIERARCHICAL_VARIANTS: dict[str, dict[str, Any]] = {
    # parameters with 1000 classes (ViL v2: 6.4M, 23.4M, 89.3M); at stride 16 each is as wide as ViL of its size
    "hiervil-tiny": dict(dims=(48, 96, 192, 384), depths=(2, 2, 12, 2)),  # 6,456,776
    "hiervil-small": dict(dims=(96, 192, 384, 768), depths=(2, 2, 11, 2)),  # 23,424,432
    "hiervil-base": dict(dims=(192, 384, 768, 1536), depths=(2, 2, 11, 2)),  # 90,835,728
    "hiervil3d-tiny": dict(dims=(48, 96, 192, 384), depths=(2, 2, 12, 2), **_3D),  # 9,169,736
    "hiervil3d-small": dict(dims=(96, 192, 384, 768), depths=(2, 2, 11, 2), **_3D),  # 34,020,528
    "hiervil3d-base": dict(dims=(192, 384, 768, 1536), depths=(2, 2, 11, 2), **_3D),  # 132,763,920
}


def hierarchical_variant(name: str) -> dict[str, Any]:
    """Returns the options of a row of `HIERARCHICAL_VARIANTS`, a new dict.

    Raises:
        ValueError: unknown name; the known ones are listed.
    """
    refuse_other(name, HIERARCHICAL_VARIANTS, "variant of HierViL")
    return dict(HIERARCHICAL_VARIANTS[name])


class HierViL(Network):
    """Encodes pictures (B, C_in, H, W) and volumes (B, C_in, D, H, W) of any size in stages of strides 4, 8, 16, 32.

    A call returns logits or a vector; `features` returns a map for each stage. The map of a stage with stride s has
    ceil(n / s) places along an axis of n px or voxels; the input is not padded to whole strides.

    Args:
        dims: channels of each stage; a multiple of 8 where a stage has sequence blocks.
        depths: blocks of each stage.
        sequence: a key of `layers.sequence.SEQUENCE_BLOCKS`: `vil`, or a control in the same places.
        sequence_strides: strides of the stages with sequence blocks; the others have convolution blocks.
        ndim: number of spatial axes, 2 or 3.
        in_channels: channels of the input, C_in.
        num_classes: width of the classification head; None for no head.
        head_norm: the norm before the head, after pooling.
        drop_path: stochastic depth rate of the last block, rising linearly from 0 at the first.
        layerscale: initial value of LayerScale in all blocks; None for none.
        with_cp: recomputes each block in the backward pass instead of saving its activations.
        **options: options of the sequence block, see `layers.sequence.sequence_options`.

    Attributes:
        strides: stride of each stage, in px or voxels.

    Raises:
        ValueError: a name or option is unknown, or numbers do not fit.
    """

    def __init__(
        self,
        *,
        dims: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (2, 2, 12, 2),
        sequence: str = "vil",
        sequence_strides: Sequence[int] = (16, 32),
        ndim: int = 2,
        in_channels: int = 3,
        num_classes: int | None = None,
        head_norm: bool = True,
        drop_path: float = 0.0,
        layerscale: float | None = None,
        with_cp: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise ValueError(f"expected 2 or 3 axes, got ndim={ndim}")
        self.strides = _check_stages(dims, depths, sequence_strides)
        refuse_other(sequence, SEQUENCE_BLOCKS, "sequence block")
        known = {*sequence_options(sequence)} - {"layerscale"}
        refuse_unknown(options, known, f"the sequence block {sequence!r}")
        self.ndim, self.in_channels, self.dims, self.depths = ndim, in_channels, tuple(dims), tuple(depths)
        rates = iter(drop_path_rates(drop_path, sum(depths)))
        orders = [order for order, reading in ORDERS.items() if -reading.fastest_axis <= ndim]
        self.stages = nn.ModuleList()
        if sequence == "vil":
            options = {"down_init": "by-depth", "recompute": False, **options}
            options["depth"] = sum(n for n, s in zip(depths, self.strides, strict=True) if s in sequence_strides)
        place = 0  # of a sequence block among all of them, which determines the order that it reads in
        for index, (dim, depth, stride) in enumerate(zip(dims, depths, self.strides, strict=True)):
            entry = GridConv(dims[index - 1], dim, ndim, stride=2) if index else _stem(in_channels, dim, ndim)
            blocks, position = [], stride in sequence_strides
            for _ in range(depth):
                shared: dict[str, Any] = dict(drop_path=next(rates), layerscale=layerscale)
                if position:
                    order = orders[place % len(orders)]
                    blocks.append(SEQUENCE_BLOCKS[sequence](dim, ndim, order, **shared, **options))
                    place += 1
                else:
                    blocks.append(ConvBlock(dim, ndim=ndim, **shared))
            depthwise = GridConv(dim, dim, ndim, groups=dim, norm=False) if position else None
            self.stages.append(Stage(entry, depthwise, blocks))
        self.recompute = options.get("recompute", True)
        self.with_cp = with_cp
        self.head_norm = nn.LayerNorm(dims[-1], eps=1e-6) if head_norm else nn.Identity()
        self.head = nn.Linear(dims[-1], num_classes) if num_classes else None
        if self.head is not None:
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits (B, num_classes) from the mean over the last map; without a head its vector (B, C)."""
        (x,) = self.features(x, (-1,))
        vector = self.head_norm(x.flatten(2).mean(2))
        return vector if self.head is None else self.head(vector)

    def features(self, x: Tensor, out_indices: Sequence[int] = (0, 1, 2, 3)) -> list[Tensor]:
        """Computes the raw maps of the stages `out_indices`, each (B, C, *grid), in the order of `out_indices`.

        Stages count from 0, negative ones from the end. Those after the last requested one do not run.
        """
        wanted = counted_from_start(out_indices, self.stages, "stage")
        self.check_input(x, self.in_channels)
        grid, maps = x.movedim(1, -1), {}
        for index, stage in enumerate(self.stages[: max(wanted) + 1]):
            grid = stage(grid, self.run_block)
            if index in wanted:
                maps[index] = grid.movedim(-1, 1).contiguous()
        return [maps[index] for index in wanted]


class Stage(nn.Module):
    """Runs one scale of the pyramid, (B, *grid, C_before) -> (B, *grid / stride, C).

    Args:
        entry: changes resolution and channels.
        position: a depthwise convolution whose output is added before the blocks; None for none.
        blocks: the blocks, (B, *grid, C) in and out.
    """

    def __init__(self, entry: nn.Module, position: nn.Module | None, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.entry, self.position, self.blocks = entry, position, nn.ModuleList(blocks)

    def forward(self, x: Tensor, run_block: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
        x = self.entry(x)
        if self.position is not None:
            x = x + self.position(x)
        for block in self.blocks:
            x = run_block(block, x)
        return x


def _stem(in_channels: int, dim: int, ndim: int) -> nn.Sequential:
    half = max(dim // 2, 1)
    return nn.Sequential(
        GridConv(in_channels, half, ndim, stride=2, norm=False),
        nn.GELU(),
        GridConv(half, dim, ndim, stride=2, norm=False),
    )


def _check_stages(dims: Sequence[int], depths: Sequence[int], sequence_strides: Sequence[int]) -> tuple[int, ...]:
    """Returns the stride of each stage; raises ValueError if the numbers of the stages do not fit together."""
    strides = tuple(4 * 2**index for index in range(len(dims)))
    if not dims or len(dims) != len(depths) or min(*dims, *depths) < 1:
        raise ValueError(f"dims and depths need a positive number for each stage, got {dims} and {depths}")
    if unknown := [stride for stride in sequence_strides if stride not in strides]:
        raise ValueError(f"no stage has stride {unknown[0]}; the strides are {', '.join(map(str, strides))}")
    wrong = [dim for dim, stride in zip(dims, strides, strict=True) if stride in sequence_strides and dim % 8]
    if wrong:
        raise ValueError(f"sequence blocks need a width that is a multiple of 8, got {wrong[0]}")
    return strides
