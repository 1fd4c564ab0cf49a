"""Defines convolutions on grids of two and three axes."""

import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.layers.embed import CONVS
from vil_dense.layers.residual import LayerScale, Residual


class GridConv(nn.Module):
    """Convolves a grid with 3 places along each axis, (B, *grid, C_in) -> (B, *grid', C).

    An axis of n places gets ceil(n / stride). The weights have He's initialisation (arXiv 1502.01852), the bias is 0.

    Args:
        before: C_in.
        dim: C.
        ndim: number of spatial axes.
        stride, groups: of the convolution.
        norm: whether a LayerNorm over the channels follows.
    """

    def __init__(
        self, before: int, dim: int, ndim: int, *, stride: int = 1, groups: int = 1, norm: bool = True
    ) -> None:
        super().__init__()
        self.conv = CONVS[ndim](before, dim, 3, stride, padding=1, groups=groups)
        self.norm = nn.LayerNorm(dim, eps=1e-6) if norm else nn.Identity()
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.movedim(-1, 1)).movedim(1, -1))


class ConvBlock(nn.Module):
    """Computes x + norm(conv(gelu(norm(conv(x))))), (B, *grid, C) in and out.

    It is the block of MambaVision's fine stages (arXiv 2407.08083, equation 1) with LayerNorm in place of BatchNorm.

    Args:
        dim: C.
        ndim: number of spatial axes.
        drop_path, layerscale: see `Residual` and `LayerScale`.
    """

    def __init__(self, dim: int, *, ndim: int = 2, drop_path: float = 0.0, layerscale: float | None = None) -> None:
        super().__init__()
        self.conv1, self.conv2 = GridConv(dim, dim, ndim), GridConv(dim, dim, ndim)
        self.layerscale = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.residual = Residual(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, lambda x: self.layerscale(self.conv2(F.gelu(self.conv1(x)))))
