"""The ViL block (Vision-LSTM, arXiv 2406.04303, section 3; the mLSTM block of xLSTM, arXiv 2405.04517, figure 11)."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.layers.recompute import recompute
from vil_dense.layers.residual import LayerScale, Residual
from vil_dense.layers.scan import CONV_KINDS, NUM_HEADS, QKV_BLOCK, Scan, grouped
from vil_dense.ops import check_order, from_frame, resolve_backend, to_frame

DOWN_INITS = ("original", "by-depth")


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
        recompute: in training keep only the layer's input and up-projection, and compute the rest again in the
            backward pass; False is faster and takes more memory, still linear in the number of tokens.
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
        # A layer of one order runs in its frame as a whole: its input is narrower than what a scan reads.
        self.frame = orders[0] if len(orders) == 1 else "rows"
        self.recompute = recompute
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

    def forward(self, x: Tensor, keep: bool = False) -> Tensor:
        """`keep`: whatever `recompute` says, all is kept for the backward pass."""
        x = to_frame(x, self.frame).contiguous()
        up, (u_bias, z_bias) = self.proj_up.weight.chunk(2), (None, None)
        if self.proj_up.bias is not None:
            u_bias, z_bias = (grouped(bias) for bias in self.proj_up.bias.chunk(2))
        u, z = F.linear(x, grouped(up[0]), u_bias), F.linear(x, grouped(up[1]))
        if self.recompute and not keep and torch.is_grad_enabled() and u.requires_grad:
            y = recompute(self._mix, self._mix_parameters, u, z, z_bias)
        else:
            y = self._mix(u, z, z_bias)
        return from_frame(y, self.frame)

    def _mix_parameters(self) -> list[Tensor]:
        return [*self.scans.parameters(), *self.proj_down.parameters()]

    def _mix(self, u: Tensor, z: Tensor, z_bias: Tensor | None) -> Tensor:
        """What is recomputed in the backward pass: of a layer, its input, u and z are kept."""
        scans = self.scans if len(self.scans) == len(self.orders) else [self.scans[0]] * len(self.orders)
        passes = zip(scans, self.orders, strict=True)
        first, *others = (self._scan(scan, order, u, z, z_bias) for scan, order in passes)
        return F.linear(sum(others, first), grouped(self.proj_down.weight.mT).mT, self.proj_down.bias)

    def _scan(self, scan: nn.Module, order: str, u: Tensor, z: Tensor, z_bias: Tensor | None) -> Tensor:
        if order == self.frame:
            return scan(u, z, z_bias, order)
        return from_frame(scan(to_frame(u, order), to_frame(z, order), z_bias, order), order)


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

    def forward(self, x: Tensor, with_cp: bool = False) -> Tensor:
        """`with_cp`: of the branch only x is kept, and the rest computed again in the backward pass, once."""
        return self.residual(x, self._branch_again if with_cp else self._branch)

    def _branch(self, x: Tensor, keep: bool = False) -> Tensor:
        return self.layerscale(self.layer(self.norm(x), keep))

    def _branch_again(self, x: Tensor) -> Tensor:
        return recompute(partial(self._branch, keep=True), self.parameters, x)
