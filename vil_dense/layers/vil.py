"""The ViL block (Vision-LSTM, arXiv 2406.04303, section 3; the mLSTM block of xLSTM, arXiv 2405.04517, figure 11)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.layers.embed import CONVS
from vil_dense.layers.residual import LayerScale, Residual
from vil_dense.ops import check_order, mlstm, resolve_backend, to_grid, to_sequence

NUM_HEADS = 4
QKV_BLOCK = 4
BLOCKS_PER_TILE = 4
CONV_KINDS = ("causal", "grid")
DOWN_INITS = ("original", "by-depth")


class BlockDiagonalLinear(nn.Module):
    """A linear map that mixes channels in blocks of `QKV_BLOCK` only, (..., C) -> (..., C).

    Computed as a batch of products with tiles of a few blocks each: one by one the blocks are too small to be fast
    (half the speed on a CPU), as one dense matrix most of the work is zeros (a ninth of the speed).
    """

    def __init__(self, dim: int, bias: bool, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim // QKV_BLOCK, QKV_BLOCK, QKV_BLOCK) * std)
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        blocks = math.gcd(BLOCKS_PER_TILE, len(self.weight))
        tile = blocks * QKV_BLOCK
        w = torch.diag_embed(
            self.weight.unflatten(0, (-1, blocks)).permute(0, 2, 3, 1)
        )  # (tiles, out, in, block, block)
        w = w.permute(0, 4, 2, 3, 1).reshape(-1, tile, tile)  # (tiles, block and in, block and out)
        y = torch.bmm(x.reshape(-1, len(w), tile).transpose(0, 1), w).transpose(0, 1).reshape(x.shape)
        return y if self.bias is None else y + self.bias


class CausalConv(nn.Conv1d):
    """Depthwise causal convolution along a sequence, (B, S, C) -> (B, S, C)."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__(dim, dim, kernel_size, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x.mT, (self.kernel_size[0] - 1, 0))).mT


class HeadNorm(nn.Module):
    """Layer normalisation of each head by itself, (B, NH, S, DH) -> (B, S, NH * DH)."""

    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, h: Tensor) -> Tensor:
        y = F.layer_norm(h, h.shape[-1:], eps=1e-5).transpose(1, 2).flatten(2) * self.weight
        return y if self.bias is None else y + self.bias


class Scan(nn.Module):
    """One pass over the grid: convolution, q k v, gates, mLSTM, head norm and skip; (B, *grid, E) -> (B, *grid, E).

    A `grid` convolution acts in the image's own frame, whatever the order of the pass; a `causal` one runs along it.
    """

    def __init__(
        self, dim: int, ndim: int, *, conv: str, conv_kernel: int, bias: bool, norm_bias: bool, std: float, backend: str
    ) -> None:
        super().__init__()
        self.causal = conv == "causal"
        self.backend = backend
        self.conv = (
            CausalConv(dim, conv_kernel)
            if self.causal
            else CONVS[ndim](dim, dim, conv_kernel, padding=conv_kernel // 2, groups=dim)
        )
        self.q_proj = BlockDiagonalLinear(dim, bias, std)
        self.k_proj = BlockDiagonalLinear(dim, bias, std)
        self.v_proj = BlockDiagonalLinear(dim, bias, std)
        self.igate = nn.Linear(3 * dim, NUM_HEADS)
        self.fgate = nn.Linear(3 * dim, NUM_HEADS)
        self.outnorm = HeadNorm(dim, norm_bias)
        self.skip = nn.Parameter(torch.ones(dim))
        for gate in (self.igate, self.fgate):
            nn.init.zeros_(gate.weight)
        nn.init.normal_(self.igate.bias, std=0.1)
        self.fgate.bias.data.copy_(torch.linspace(3, 6, NUM_HEADS))

    def forward(self, u: Tensor, order: str) -> Tensor:
        grid = tuple(u.shape[1:-1])
        if not self.causal:
            c = to_sequence(F.silu(self.conv(u.movedim(-1, 1))).movedim(1, -1), order)
        u = to_sequence(u, order)
        if self.causal:
            c = F.silu(self.conv(u))
        q, k, v = self.q_proj(c), self.k_proj(c), self.v_proj(u)
        i, f = self._gates(q, k, v)
        q, k, v = (x.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for x in (q, k, v))
        h = mlstm(q, k, v, i, f, backend=self.backend)
        return to_grid(self.outnorm(h).to(c.dtype) + self.skip * c, order, grid)

    def _gates(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Gate pre-activations i and f, (B, NH, S), in the dtype of the weights: never in that of autocast."""
        weight = torch.cat([self.igate.weight, self.fgate.weight])
        bias = torch.cat([self.igate.bias, self.fgate.bias])
        with torch.autocast(q.device.type, enabled=False):
            gates = F.linear(torch.cat([q, k, v], -1).to(weight.dtype), weight, bias)
        i, f = gates.mT.chunk(2, dim=1)
        return i, f


class ViLLayer(nn.Module):
    """Up-projection, one scan for each order, gate, down-projection; (B, *grid, C) -> (B, *grid, C).

    With several orders the scans' outputs are summed before the gate.

    Args:
        dim: C, a multiple of 4.
        ndim: number of spatial axes.
        orders: keys of `ops.ORDERS`.
        shared: one set of weights for all orders.
        inner_dim: E, twice `dim` unless given; a multiple of 4.
        conv: `causal` (v1, along the sequence) or `grid` (v2, on the grid; an odd kernel).
        conv_kernel: its size.
        bias: biases in the projections.
        norm_bias: a bias in the head norm.
        down_init: standard deviation of the down-projection, 2 / sqrt(C) (`original`: of all published models) or
            2 / (depth * sqrt(C)) (`by-depth`: what the authors meant).
        depth: number of blocks of the network, for `by-depth`.
        backend: see `ops.mlstm`.
    """

    def __init__(
        self,
        dim: int,
        *,
        ndim: int = 2,
        orders: Sequence[str] = ("rows",),
        shared: bool = False,
        inner_dim: int | None = None,
        conv: str = "grid",
        conv_kernel: int = 3,
        bias: bool = True,
        norm_bias: bool = True,
        down_init: str = "original",
        depth: int = 1,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        E = inner_dim or 2 * dim
        if E % math.lcm(NUM_HEADS, QKV_BLOCK):
            raise ValueError(f"the inner width must be a multiple of {math.lcm(NUM_HEADS, QKV_BLOCK)}, got {E}")
        if conv not in CONV_KINDS:
            raise ValueError(f"unknown convolution {conv!r}; known: {', '.join(CONV_KINDS)}")
        if conv == "grid" and conv_kernel % 2 == 0:
            raise ValueError(f"a convolution on the grid needs an odd kernel, got {conv_kernel}")
        if down_init not in DOWN_INITS:
            raise ValueError(
                f"unknown initialisation of the down-projection {down_init!r}; known: {', '.join(DOWN_INITS)}"
            )
        for order in orders:
            check_order(order, ndim)
        self.orders = tuple(orders)
        self.proj_up = nn.Linear(dim, 2 * E, bias)
        # The q, k and v maps have a fan-in of 4 and yet this deviation, as published.
        small = math.sqrt(2 / (5 * dim))
        scan: dict[str, Any] = dict(
            conv=conv, conv_kernel=conv_kernel, bias=bias, std=small, backend=resolve_backend(backend)
        )
        # As published: of several scans only the first has a bias in its norm.
        self.scans = nn.ModuleList(
            Scan(E, ndim, norm_bias=norm_bias and index == 0, **scan) for index in range(1 if shared else len(orders))
        )
        self.proj_down = nn.Linear(E, dim, bias)
        num_blocks = depth if down_init == "by-depth" else 1
        for linear, std in ((self.proj_up, small), (self.proj_down, 2 / (num_blocks * math.sqrt(dim)))):
            nn.init.normal_(linear.weight, std=std)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.proj_up(x).chunk(2, dim=-1)
        scans = self.scans if len(self.scans) == len(self.orders) else [self.scans[0]] * len(self.orders)
        y = sum(scan(u, order) for scan, order in zip(scans, self.orders, strict=True))
        return self.proj_down(y * F.silu(z))


class ViLBlock(nn.Module):
    """x + layer(norm(x)), (B, *grid, C) in and out; further keywords: see `ViLLayer`."""

    def __init__(
        self,
        dim: int,
        *,
        drop_path: float = 0.0,
        drop_path_form: str = "bernoulli",
        layerscale: float | None = None,
        norm_bias: bool = True,
        **layer: Any,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-5, bias=norm_bias)
        self.layer = ViLLayer(dim, norm_bias=norm_bias, **layer)
        self.layerscale = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.residual = Residual(drop_path, drop_path_form)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, lambda x: self.layerscale(self.layer(self.norm(x))))
