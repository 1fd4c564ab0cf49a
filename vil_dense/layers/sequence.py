"""Builds sequence blocks, which mix the tokens of a whole grid, and the control blocks that replace them."""

from collections.abc import Callable
from inspect import signature

import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.layers.attention import AttentionBlock
from vil_dense.layers.embed import CONVS
from vil_dense.layers.fused import FusedViLBlock
from vil_dense.layers.residual import LayerScale, Residual
from vil_dense.layers.vil import ViLBlock, ViLLayer


class GatedConvBlock(nn.Module):
    """Computes a ViL block without its mLSTM, x + down(conv(u) * SiLU(z)), with u and z from the norm of x.

    Input and output are (B, *grid, C).

    It is a control of the size of ViL: norm, up-projection, depthwise convolution of 3 px along each of `ndim` axes,
    gate and down-projection are those of ViL, but a token depends only on its neighbours.
    """

    def __init__(self, dim: int, *, ndim: int = 3, drop_path: float = 0.0, layerscale: float | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.proj_up = nn.Linear(dim, 4 * dim)
        self.conv = CONVS[ndim](2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.proj_down = nn.Linear(2 * dim, dim)
        self.layerscale = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.residual = Residual(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, self._branch)

    def _branch(self, x: Tensor) -> Tensor:
        u, z = self.proj_up(self.norm(x)).chunk(2, dim=-1)
        u = F.silu(self.conv(u.movedim(-1, 1)).movedim(1, -1))
        return self.layerscale(self.proj_down(u * F.silu(z)))


SEQUENCE_BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "vil": lambda dim, ndim, order, **options: FusedViLBlock(dim, ndim=ndim, orders=(order,), **options),
    "identity": lambda dim, ndim, order, **options: nn.Identity(),
    "dwconv": lambda dim, ndim, order, **options: GatedConvBlock(dim, ndim=ndim, **options),
    # With this MLP the block has 6 C^2 parameters and 4 heads, as ViL has.
    "attention": lambda dim, ndim, order, **options: AttentionBlock(dim, **dict(num_heads=4, mlp_ratio=1) | options),
}
"""Constructors (dim, ndim, order, **options) of blocks by name; `identity` stands for no block."""

_CONSTRUCTORS: dict[str, tuple[type[nn.Module], ...]] = {
    "vil": (ViLBlock, ViLLayer),
    "identity": (),
    "dwconv": (GatedConvBlock,),
    "attention": (AttentionBlock,),
}


def sequence_options(block: str) -> list[str]:
    """Returns the names of the options of a block of `SEQUENCE_BLOCKS` that a network leaves to its user."""
    names = {name for constructor in _CONSTRUCTORS[block] for name in signature(constructor).parameters}
    return sorted(names - {"dim", "ndim", "depth", "orders", "shared", "layer", "drop_path"} | {"layerscale"})


def drop_path_rates(drop_path: float, depth: int) -> list[float]:
    """Returns rates of stochastic depth that rise from 0 at the first block to `drop_path` at the last one."""
    return [drop_path * index / max(depth - 1, 1) for index in range(depth)]
