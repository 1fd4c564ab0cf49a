"""Defines the ConvNeXt block (arXiv 2201.03545), for grids of two and three axes."""

from torch import Tensor, nn

from vil_dense.layers.embed import CONVS
from vil_dense.layers.residual import LayerScale, Residual


class ConvNeXtBlock(nn.Module):
    """Applies a depthwise convolution, a norm and an MLP in one residual branch, (B, *grid, C) in and out.

    Args:
        dim: C.
        ndim: number of spatial axes.
        kernel_size: of the convolution along each axis, odd.
        mlp_ratio: hidden channels of the MLP over C.
        drop_path, layerscale: see `Residual` and `LayerScale`.
    """

    def __init__(
        self,
        dim: int,
        *,
        ndim: int = 2,
        kernel_size: int = 7,
        mlp_ratio: int = 4,
        drop_path: float = 0.0,
        layerscale: float | None = None,
    ) -> None:
        super().__init__()
        self.conv = CONVS[ndim](dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        widen, narrow = nn.Linear(dim, mlp_ratio * dim), nn.Linear(mlp_ratio * dim, dim)
        self.mlp = nn.Sequential(widen, nn.GELU(), narrow)
        self.layerscale = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.residual = Residual(drop_path)
        for layer in (self.conv, widen, narrow):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, self._branch)

    def _branch(self, x: Tensor) -> Tensor:
        x = self.conv(x.movedim(-1, 1)).movedim(1, -1)
        return self.layerscale(self.mlp(self.norm(x)))
