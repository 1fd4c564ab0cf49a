"""Defines the ViL block (arXiv 2406.04303, section 3; the mLSTM block of xLSTM, arXiv 2405.04517, figure 11).

This file is the definition: modules that are called one after another. The recurrence of the mLSTM is in
`ops/recurrent.py`. Networks take `fused.FusedViLBlock`, which computes the same in less time and memory.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.errors import refuse_other
from vil_dense.layers.embed import CONVS
from vil_dense.layers.residual import LayerScale, Residual
from vil_dense.ops import check_order, mlstm, to_grid, to_sequence, usable_backend
from vil_dense.ops.cell_weights import NUM_HEADS, QKV_BLOCK
from vil_dense.ops.operators import no_autocast

CONV_KINDS = ("causal", "grid")
DOWN_INITS = ("original", "by-depth")


class BlockDiagonalLinear(nn.Module):
    """Mixes the channels in blocks of four, (..., E) -> (..., E): a linear map with a block-diagonal matrix.

    A head has DH channels. The four channels of a block lie DH / 4 apart in it, not side by side as in the published
    weights: then each product has contiguous operands, which takes less time. `backbones.checkpoint` reorders published
    weights; nothing else depends on the order.
    """

    def __init__(self, dim: int, bias: bool, std: float) -> None:
        super().__init__()
        self.in_features = self.out_features = dim
        self.weight = nn.Parameter(torch.randn(QKV_BLOCK, QKV_BLOCK, dim // QKV_BLOCK) * std)  # in, out, block
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (NUM_HEADS, QKV_BLOCK, -1))
        weight = self.weight.unflatten(-1, (NUM_HEADS, -1))
        y = torch.einsum("...hid,iohd->...hod", x, weight).flatten(-3)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class HeadNorm(nn.Module):
    """Normalises each head by itself, (..., E) -> (..., E), then applies a scale and a bias per channel."""

    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, h: Tensor) -> Tensor:
        heads = h.unflatten(-1, (NUM_HEADS, -1))
        y = F.layer_norm(heads, heads.shape[-1:], eps=1e-5).flatten(-2) * self.weight
        return y if self.bias is None else y + self.bias


class Scan(nn.Module):
    """Applies convolution, q, k, v, mLSTM, head norm and skip along one traversal, (B, *grid, E) -> (B, *grid, E).

    Args:
        dim: E, the number of channels.
        ndim: number of spatial axes.
        conv: `causal` (along the traversal) or `grid` (on the grid, whatever the traversal).
        conv_kernel: kernel size of the convolution.
        bias, norm_bias: biases of q, k, v and of the head norm.
        std: standard deviation of the initial q, k and v maps.
        backend: see `ops.mlstm`.
    """

    def __init__(
        self, dim: int, ndim: int, *, conv: str, conv_kernel: int, bias: bool, norm_bias: bool, std: float, backend: str
    ) -> None:
        super().__init__()
        self.causal, self.backend = conv == "causal", backend
        padding = conv_kernel - 1 if self.causal else conv_kernel // 2
        self.conv = CONVS[1 if self.causal else ndim](dim, dim, conv_kernel, padding=padding, groups=dim)
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
        # u: the tokens, projected up; c: their neighbourhood; h: what the mLSTM reads out.
        grid = u.shape[1:-1]
        c = F.silu(self.convolve(u, order))
        q, k, v = self.q_proj(c), self.k_proj(c), self.v_proj(u)
        i, f = self.gates(q, k, v)
        sequences = (to_sequence(x, order) for x in (q, k, v, i, f))
        q, k, v, i, f = (x.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for x in sequences)  # (B, NH, S, DH)
        h = mlstm(q, k, v, i.squeeze(-1), f.squeeze(-1), backend=self.backend)
        h = to_grid(h.transpose(1, 2).flatten(2), order, grid)
        return (self.outnorm(h) + self.skip * c).to(u.dtype)

    def convolve(self, u: Tensor, order: str) -> Tensor:
        """Applies the depthwise convolution; a causal one sees a token and those before it in the traversal."""
        if not self.causal:
            return self.conv(u.movedim(-1, 1)).movedim(1, -1)
        sequence = to_sequence(u, order)
        c = self.conv(sequence.transpose(1, 2))[..., : sequence.shape[1]].transpose(1, 2)
        return to_grid(c, order, u.shape[1:-1])

    def gates(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the pre-activations of the input and forget gates, (B, *grid, NH), in the dtype of the weights."""
        with no_autocast(q):
            qkv = torch.cat([q, k, v], -1).to(self.skip.dtype)
            return self.igate(qkv), self.fgate(qkv)


class ViLLayer(nn.Module):
    """Projects up, reads the grid along each traversal, gates, and projects down; (B, *grid, C) -> (B, *grid, C).

    Args:
        dim: C, a multiple of 8 unless `inner_dim` is given.
        ndim: number of spatial axes.
        orders: the traversals, keys of `ops.ORDERS`; their outputs are summed before the gate.
        shared: uses one set of weights for all traversals.
        inner_dim: E, twice `dim` unless given; a multiple of 16.
        conv: `causal` (v1, along the sequence) or `grid` (v2, on the grid; an odd kernel).
        conv_kernel: kernel size of the convolution.
        bias: biases of the projections up and down and of q, k and v.
        norm_bias: a bias in the head norm.
        down_init: standard deviation of the down-projection, 2 / sqrt(C) (`original`: of all published models) or
            2 / (depth * sqrt(C)) (`by-depth`: what the authors meant).
        depth: number of blocks of the network, for `by-depth`.
        backend: see `ops.mlstm`.
        recompute: for `FusedViLLayer` alone: saves only the layer's input and up-projection for the backward pass and
            computes the rest again there; False takes less time and more memory, still linear in the number of tokens.
            Under torch.compile the rest is always computed again.

    Raises:
        ValueError: an unknown convolution, initialisation, order or backend, an even kernel on the grid, or an inner
            width that is no multiple of 16.
        ImportError: the backend is `triton`, and triton is not installed.
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
        recompute: bool = True,
    ) -> None:
        super().__init__()
        E = inner_dim or 2 * dim
        if E % (NUM_HEADS * QKV_BLOCK):
            raise ValueError(f"the inner width must be a multiple of {NUM_HEADS * QKV_BLOCK}, got {E}")
        refuse_other(conv, CONV_KINDS, "convolution")
        if conv == "grid" and conv_kernel % 2 == 0:
            raise ValueError(f"a convolution on the grid needs an odd kernel, got {conv_kernel}")
        refuse_other(down_init, DOWN_INITS, "initialisation of the down-projection")
        for order in orders:
            check_order(order, ndim)
        self.orders, self.recompute = tuple(orders), recompute
        self.proj_up = nn.Linear(dim, 2 * E, bias)
        # The deviation of proj_up; q, k and v take it, too, although their fan-in is 4: so does the official code.
        small = math.sqrt(2 / (5 * dim))
        scan: dict[str, Any] = dict(
            conv=conv, conv_kernel=conv_kernel, bias=bias, std=small, backend=usable_backend(backend)
        )
        # As in the official code, only the first scan has a bias in its head norm.
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
        h = sum(scan(u, order) for scan, order in self.traversals())
        return self.proj_down(h * F.silu(z))

    def traversals(self) -> Iterator[tuple[Scan, str]]:
        """Yields each scan with the traversal that it reads."""
        for index, order in enumerate(self.orders):
            yield cast(Scan, self.scans[min(index, len(self.scans) - 1)]), order


class ViLBlock(nn.Module):
    """Computes a pre-norm residual block, x + layerscale(layer(norm(x))), (B, *grid, C) in and out.

    Args:
        dim: C.
        drop_path, drop_path_form: see `Residual`.
        layerscale: see `LayerScale`; None for none.
        **layer: see `ViLLayer`.
    """

    layer_type: type[ViLLayer] = ViLLayer

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
        self.layer = self.layer_type(dim, norm_bias=norm_bias, **layer)
        self.layerscale = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.residual = Residual(drop_path, drop_path_form)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, lambda x: self.layerscale(self.layer(self.norm(x))))
